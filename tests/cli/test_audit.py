import json

import pytest

from torchmetrics_rl2 import audit
from torchmetrics_rl2.weights import read_weights, write_weights


@pytest.fixture
def own(weights, tmp_path):
    path = tmp_path / "own.safetensors"
    write_weights(weights, path)
    return path


def test_a_table_a_page_and_a_summary_in_the_file(rl2, own, patches, tmp_path):
    page = tmp_path / "audit.png"
    code, out, err = rl2("audit", own, "--images", patches, "--ladder", "salt and pepper", "--plot", page, "--save")
    assert code == 0
    expected = audit(own, patches, ladders=["salt and pepper"])
    assert out.strip() == str(expected)
    assert "6/6" in err
    assert page.read_bytes().startswith(b"\x89PNG")
    assert read_weights(own).card["audit"]["verdicts"] == {expected.ladders[0].verdict: ["salt and pepper"]}


def test_json_has_all_numbers(rl2, own, patches):
    command = ["audit", own, "--images", patches, "--ladder", "pen", "--ladder", "blank", "--limit", 12]
    code, out, _ = rl2(*command, "--kinds", "parent", "--json")
    found = json.loads(out)
    assert code == 0
    assert found["n"] == 12
    assert [ladder["name"] for ladder in found["ladders"]] == ["pen", "blank"]
    assert {"rho", "reach", "detected_from", "verdict"} <= set(found["ladders"][0])
    assert (found["settings"]["seed"], found["settings"]["kinds"]) == (0, "parent")
    assert (found["part"], found["content"], found["cross_talk"]) == ("whole", [], [])


def test_several_weights_stand_side_by_side(rl2, own, weights_file, patches, tmp_path):
    command = ["audit", own, weights_file, "--images", patches, "--ladder", "blank", "--limit", 12]
    code, out, err = rl2(*command)
    assert code == 0
    expected = [audit(one, patches, ladders=["blank"], limit=12) for one in (own, weights_file)]
    heading, names, ladder, family = out.splitlines()
    assert "12 images" in heading
    assert names.index(expected[0].name) < names.index(expected[1].name)
    aucs = [one.ladders[0].at_visible.auc for one in expected]
    assert ladder.split() == ["14", "blank", *(word for auc in aucs for word in ("detects", f"{auc:.2f}")), "1.00"]
    assert family.split()[:2] == ["mean,", "blank"]
    assert f"audit of {own}" in err.replace("\n", "")
    assert [one["weights_id"] for one in json.loads(rl2(*command, "--json")[1])] == [one.weights_id for one in expected]
    code, _, err = rl2(*command, "--save")
    assert (code, "--plot, --report and --save are for one set of weights" in err) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["lung-colon", "--save"], "lung-colon is a name"),
        (["{own}", "--plot", "a.xyz"], "ends in '.xyz'"),
        (["{own}", "--ladder", "blur"], "no ladder 'blur'; known are gaussian blur"),
        (["{own}", "--limit", "3"], "at least 8 images, but got a limit of 3"),
        (["{own}", "--groups", "nowhere.csv"], "There is no table nowhere.csv"),
        (["{own}", "--kinds", "nowhere.csv"], "There is no table nowhere.csv. Expected 'parent' or a CSV"),
        (["lung-kolon"], "no weights named 'lung-kolon'"),
    ],
)
def test_wrong_input_ends_with_a_sentence_before_work(rl2, own, patches, arguments, sentence):
    given = [argument.replace("{own}", str(own)) for argument in arguments]
    code, out, err = rl2("audit", *given, "--images", patches)
    assert (code, out) == (2, "")
    assert sentence in err
    assert "Traceback" not in err
