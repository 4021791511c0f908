import json

import pytest

from torchmetrics_rl2 import AuditResult
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
