import json


def test_plan_prints_numbers_and_draws_them(rl2, patches, weights_file, tmp_path, monkeypatch):
    monkeypatch.setattr("torchmetrics_rl2.planning.run.MEASURED", 2)
    monkeypatch.setattr("torchmetrics_rl2.planning.goals.SHOWN", ("gaussian blur",))
    picture = tmp_path / "plan.png"
    arguments = ["plan", patches / "a", "--weights", weights_file, "--find", "distance=3", "--count", 10]
    code, out, _ = rl2(*arguments, "--plot", picture)
    assert code == 0
    assert out.splitlines()[1].startswith("Number of images a side that it takes to find, with 80 % power")
    assert out.splitlines()[2].split()[:3] == ["RL2", "of", "3"]
    assert picture.stat().st_size > 1000
    code, again, _ = rl2(*arguments, "--json")
    assert code == 0
    assert json.loads(again)["goals"][0]["needed"] == int(out.splitlines()[2].split()[3])


def test_a_goal_that_is_not_known_ends_with_a_sentence_and_2(rl2, patches, weights_file):
    code, out, err = rl2("plan", patches / "a", "--weights", weights_file, "--find", "blur")
    assert (code, out) == (2, "")
    assert "NAME=VALUE" in err
