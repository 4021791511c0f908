import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.fixtures.processes import children_of
from torchmetrics_rl2 import audit
from torchmetrics_rl2.cli import devices
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
    assert "7/7" in err
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


@pytest.fixture
def start(own, patches, tmp_path):
    """Start ``rl2 audit`` as a user does, in a session of its own; each damage takes a while if it is slow."""
    script = tmp_path / "rl2"
    script.write_text(
        "import os, time\n"
        "from torchmetrics_rl2.auditing import measuring\n"
        "from torchmetrics_rl2.cli import main\n"
        "degrade = measuring.degrade\n"
        "def slow(*arguments):\n"
        "    open(f'damaged-by-{os.getpid()}', 'w').close()\n"
        "    time.sleep(float(os.environ['SECONDS_A_DAMAGE']))\n"
        "    return degrade(*arguments)\n"
        "measuring.degrade = slow\n"
        "if __name__ == '__main__':\n"
        "    main()\n"
    )

    def run(*arguments, seconds=0.0):
        command = [sys.executable, script, "audit", own, "--images", patches, "--ladder", "pen", "--ladder", "blank"]
        return subprocess.Popen(
            [str(part) for part in (*command, "--limit", 12, "--device", "cpu", *arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "SECONDS_A_DAMAGE": str(seconds), "OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )

    return run


@pytest.mark.slow
def test_two_devices_share_the_ladders_of_several_weights(start, own, weights_file, patches, tmp_path):
    process = start(weights_file, "--devices", 2, "--json", seconds=0.2)
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    expected = [audit(one, patches, ladders=["pen", "blank"], limit=12) for one in (own, weights_file)]
    assert json.loads(out) == json.loads(json.dumps([one.to_dict() for one in expected]))
    assert err.count("11/11") >= 2, err
    assert len(list(tmp_path.glob("damaged-by-*"))) == 2


@pytest.mark.slow
def test_one_process_of_several_prints_draws_and_saves(start, own, tmp_path):
    process = start("--devices", 2, "--plot", "audit.png", "--save")
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert out.count("Audit of") == 1
    assert (tmp_path / "audit.png").read_bytes().startswith(b"\x89PNG")
    assert read_weights(own).card["audit"]["n"] == 12


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")
def test_a_killed_process_ends_the_audit_with_one_sentence(start, tmp_path):
    process = start("--devices", 2, seconds=2)
    deadline = time.monotonic() + 120
    while len(list(tmp_path.glob("damaged-by-*"))) < 2:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(children_of(process)[1], signal.SIGKILL)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "")
    assert "Process 2 of 2 was ended by SIGKILL" in err
    assert err.count("Error: ") == err.count("Nothing is kept of it.") == 1
    assert "--resume" not in err


def test_machines_share_an_audit_without_a_folder_and_a_score_with_one(rl2, own, patches, monkeypatch):
    launched = []
    monkeypatch.setattr(devices, "_launch", lambda verb, *arguments: launched.append(arguments[1:]))
    code, _, err = rl2("audit", own, "--images", patches, "--devices", 2, "--nodes", 3)
    assert (code, launched) == (0, [(2, 3, "Nothing is kept of it.")]), err
    code, _, err = rl2("score", patches / "a", "--real", patches / "b", "--weights", own, "--nodes", 3)
    assert (code, len(launched)) == (2, 1)
    assert "through a folder that all see. Give it with --resume" in err
