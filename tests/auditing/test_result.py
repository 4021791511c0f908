import json
from dataclasses import replace

import pytest

from torchmetrics_rl2 import AuditResult
from torchmetrics_rl2.auditing import side_by_side
from torchmetrics_rl2.auditing.content_result import ContentLadder, ContentStep, CrossTalk, Differing
from torchmetrics_rl2.auditing.ladder_result import LadderResult, SeverityResult


def severity(amount, value, p_value=0.0, width=1.0, auc=0.9):
    return SeverityResult(amount / 4, amount, value, value, (value - width, value + width), p_value, auc, 0.8, 0.7)


def ladder(*severities, clean=5.0):
    return LadderResult(1, "gaussian blur", "focus", "sigma, px", 1.0, clean, clean, (clean - 1, clean + 1), severities)


@pytest.mark.parametrize(
    ("severities", "verdict", "detected_from"),
    [
        ([severity(0.5, 5.1, 0.6), severity(1, 8), severity(2, 20)], "detects", 1),
        ([severity(0.5, 9), severity(1, 20), severity(2, 21.9)], "saturates", 0.5),
        ([severity(0.5, 9), severity(1, 20), severity(2, 22.1)], "detects", 0.5),
        ([severity(0.5, 5.1, 0.3), severity(1, 5.2, 0.2), severity(2, 5.4, 0.1)], "blind", None),
        ([severity(0.5, 9), severity(1, 20), severity(2, 15)], "inverts", 0.5),
        ([severity(0.5, 2, 0.3), severity(1, 8), severity(2, 20)], "inverts", 1),
        # What a stronger severity does not confirm was chance.
        ([severity(0.5, 9, 0.01), severity(1, 6, 0.3), severity(2, 6.1, 0.2)], "inverts", None),
        ([severity(0.5, 6, 0.01), severity(1, 6, 0.3), severity(2, 6.1, 0.2)], "blind", None),
        # The halves differ by chance as much.
        ([severity(0.5, 5.5, 0.01), severity(1, 5.8, 0.01), severity(2, 20, 0.01)], "detects", 2),
        # A significant fall below the clean value is no notice.
        ([severity(0.5, 4.9, 0.01), severity(1, 4.8, 0.01), severity(2, 4.7, 0.01)], "blind", None),
    ],
)
def test_verdicts(severities, verdict, detected_from):
    found = ladder(*severities)
    assert found.verdict == verdict
    assert found.detected_from == detected_from


def test_rank_correlation_and_reach_include_the_clean_halves():
    assert ladder(severity(0.5, 6), severity(1, 10), severity(2, 40)).rho == pytest.approx(1)
    assert ladder(severity(0.5, 4), severity(1, 3), severity(2, 2)).rho == pytest.approx(-1)
    assert ladder(severity(0.5, 6), severity(1, 40), severity(2, 10)).reach == pytest.approx(8)
    assert ladder(severity(0.5, 6), severity(1.1, 40), severity(2, 10)).at_visible.amount == 1.1


def test_without_intervals_nothing_is_claimed():
    bare = SeverityResult(0.5, 1, 90.0, 90.0, None, None, 0.9, 0.8, 0.7)
    found = LadderResult(1, "pen", "occlusion", "width", 1.0, 5.0, 5.0, None, [bare, bare])
    assert (found.verdict, found.detected_from) == ("untested", None)


def test_the_result_is_json_and_text():
    ladders = [ladder(severity(0.5, 9), severity(1, 20, auc=1.0), severity(2, 50))]
    result = AuditResult(
        "w@1", "ab" * 32, "dir", 20, 20, 64, 5.0, 1.0, 0.3, 2.0, ladders, [], None, None, ["power: few"]
    )
    shown = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert shown["ladders"][0]["verdict"] == "detects"
    assert shown["families"] == {"focus": {"flow": 1.0, "gaussian": 0.8, "handcrafted": 0.7}}
    assert result.summary()["verdicts"] == {"detects": ["gaussian blur"]}
    text = str(result)
    assert "Withheld: power: few" in text
    assert "RL2 5.000 (debiased 1.000, p = 0.3)" in text
    assert "detects           0.5 sigma, px" in text


def test_a_tiny_p_value_is_not_printed_as_0():
    ladders = [ladder(severity(0.5, 9), severity(1, 20, auc=1.0), severity(2, 50))]
    result = AuditResult("w@1", "ab" * 32, "dir", 20, 20, 64, 5.0, 1.0, 1e-211, 2.0, ladders, [], None, None, [])
    assert "p < 0.001)" in str(result)


def step(name, *contents, look=0.1):
    return ContentStep(
        name, 0.2, [Differing(n, look, share, share, 0.0) for n, share in zip((25, 40), contents, strict=True)]
    )


@pytest.mark.parametrize(
    ("shares", "rises", "verdict", "power"),
    [
        ([(0.1, 0.9), (0.2, 0.49)], True, "weak", {25: 0.2, 40: 0.49}),
        ([(0.1, 0.9), (0.9, 0.14)], True, "blind", {25: 0.9, 40: 0.14}),
        ([(0.1, 0.1), (0.9, 0.5)], True, "detects", {25: 0.9, 40: 0.5}),
        # Of one step for each kind the mean counts, and the worst is named.
        ([(0.1, 0.9), (0.3, 0.2)], False, "detects", {25: 0.2, 40: 0.55}),
        ([(0.9, 0.6), (0.9, 0.2)], False, "weak", {25: 0.9, 40: 0.4}),
    ],
)
def test_verdicts_of_content(shares, rises, verdict, power):
    found = ContentLadder("a kind missing", [step(f"no {i}", *both) for i, both in enumerate(shares)], rises)
    assert found.verdict == verdict
    assert found.power == pytest.approx(power)
    shown = found.to_dict()
    assert (shown["verdict"], shown["worst"]) == (verdict, None if rises else "no 1")
    assert [row.verdict for row in found.rows()] == ([None, verdict] if rises else [verdict, None])
    names = ["no 0", "no 1"] if rises else ["a kind missing, mean of 2", "no 1, the worst"]
    assert [row.wrong for row in found.rows()] == names


@pytest.fixture
def with_content():
    ladders = [replace(ladder(severity(0.5, 9), severity(1, 20), severity(2, 50)), part="look")]
    missing = ContentLadder("a kind missing", [step("no a", 0.4, 0.8), step("no b", 0.3, 0.6, look=0.2)], False)
    damage = {"n": 40, "whole": 0.5, "varies_less": 0.0, "cause": "damage"}
    rows = [
        CrossTalk(n=40, look=0.04, content=0.05, whole=0.06, varies_less=0.03, wrong="nothing", cause="nothing"),
        *missing.rows(),
        CrossTalk(**damage, look=0.3, content=0.02, wrong="gaussian blur 0.5 sigma, px", at="weakest"),
        CrossTalk(**damage, look=0.9, content=0.16, wrong="gaussian blur 1 sigma, px", at="visible"),
    ]
    return AuditResult(
        *("w@1", "ab" * 32, "dir", 40, 40, 64, 5.0, 1.0, 0.3, 2.0, ladders, [], None, None, []),
        kinds={"a": 20, "b": 20},
        content=[missing],
        cross_talk=rows,
    )


def test_content_and_cross_talk_are_text(with_content):
    lines = str(with_content).splitlines()
    assert "look 5.000 (debiased 1.000, p = 0.3)" in lines[1]
    assert "Kinds of tissue, by the weights: a 20, b 20" in lines
    shown = {line.split("  ")[1].strip(): line.split()[-5:] for line in lines if line.startswith("   ")}
    assert shown["nothing"] == ["nothing", "4", "5", "6", "3"]
    assert shown["a kind missing, mean of 2"] == ["15", "70", "70", "0", "detects"]
    assert shown["no b, the worst"] == ["worst", "20", "60", "60", "0"]
    # Visible damage, and look, content and the whole at its weakest.
    assert next(line for line in lines if "blur 1 sigma" in line).endswith(
        "90       16     50            0   30, 2, 50"
    )
    assert not any("blur 0.5 sigma" in line for line in lines)
    assert "Content at 25 against 25 images differs in draws of: a kind missing 35%" in lines
    assert "as given" in str(replace(with_content, settings={"kinds": "parent"}))


def test_content_and_cross_talk_are_json_and_a_summary(with_content):
    shown = json.loads(json.dumps(with_content.to_dict(), allow_nan=False))
    assert (shown["part"], shown["ladders"][0]["part"], shown["kinds"]) == ("look", "look", {"a": 20, "b": 20})
    assert shown["content"][0]["power"] == {"25": 0.35, "40": 0.7}
    assert shown["content"][0]["steps"][1]["draws"][1]["content"] == 0.6
    assert [(row["cause"], row["at"], row["look"]) for row in shown["cross_talk"]][-1] == ("damage", "visible", 0.9)
    summary = with_content.summary()
    assert (summary["part"], summary["content"]) == ("look", {"a kind missing": "detects"})
    assert summary["cross_talk"] == {
        "content_of_weakest_damage": 0.02,
        "content_of_visible_damage": 0.16,
        "look_of_content": 0.175,
        "n": 40,
    }


def test_audits_with_content_stand_side_by_side(with_content):
    blind = replace(with_content.content[0], steps=[step("no a", 0.1, 0.1)])
    shown = side_by_side([with_content, replace(with_content, content=[blind])]).splitlines()
    assert "40 images a side" in shown[-2]
    assert shown[-1].split() == ["a", "kind", "missing", "detects", "0.70", "blind", "0.10"]
    without = side_by_side([with_content, replace(with_content, content=[])])
    assert "verdict of content" not in without
