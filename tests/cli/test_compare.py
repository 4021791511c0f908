import json

import pytest


def test_compare_prints_a_table_and_the_rest_when_asked(rl2, patches, weights_file):
    arguments = ["compare", patches / "bright", patches / "b", "--real", patches / "a", "--weights", weights_file]
    code, out, err = rl2(*arguments)
    assert code == 0
    assert out.splitlines()[1].split() == ["generator", "images", "RL2", "debiased", "chance", "to", "be", "closest"]
    assert out.splitlines()[2].split()[1] == "b"
    assert "bright" in err
    assert "squared debiased" not in out
    code, verbose, _ = rl2(*arguments, "--verbose")
    assert code == 0
    assert verbose.startswith(out)
    assert "Difference of squared debiased distances, with its 95 % interval:" in verbose


@pytest.mark.filterwarnings("ignore")
def test_compare_as_json_is_the_same_twice(rl2, patches, weights_file):
    arguments = ["compare", patches, "--real", patches / "a", "--weights", weights_file, "--json"]
    first, second = rl2(*arguments), rl2(*arguments)
    assert first[:2] == second[:2]
    found = json.loads(first[1])
    assert {one["name"] for one in found["generators"]} >= {"a", "b", "bright"}
    assert found["pairs"][0]["p_value"] is None


@pytest.mark.parametrize("real", [(), ("--real", "nowhere/")])
def test_compare_without_real_images_ends_with_a_sentence_and_2(rl2, patches, weights_file, real):
    code, out, err = rl2("compare", patches / "a", patches / "b", *real, "--weights", weights_file)
    assert (code, out) == (2, "")
    assert "Error: " in err
    assert "nowhere/" in err or "A comparison needs real images" in err
