import json
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from tests.fixtures.images import tissue
from tests.fixtures.processes import children_of
from tests.fixtures.slides import write_slide
from tests.screening.conftest import _no_pictures, real_pictures, small_pixels, write_patches  # noqa: F401


@pytest.fixture(scope="module")
def setting(weights_file, calibration, tmp_path_factory):
    """Two small slides, and the options that all commands share: weights with a calibration."""
    folder = tmp_path_factory.mktemp("screen")
    calibration.save(folder / "good.safetensors")
    (folder / "slides").mkdir()
    for i in (1, 2):
        write_slide(folder / "slides" / f"case-{i}.svs", small_pixels(seed=i))
    arguments = [
        "--weights",
        weights_file,
        "--calibration",
        folder / "good.safetensors",
        "--max-false-rejection",
        "0.05",
    ]
    return SimpleNamespace(slides=folder / "slides", arguments=[*arguments, "--workers", "0"])


@pytest.mark.usefixtures("real_pictures")
def test_slides_are_screened_and_told_of(rl2, setting, tmp_path):
    command = ["screen", setting.slides, "-o", tmp_path, *setting.arguments]
    code, out, err = rl2(*command, "--warn-rejected", "0")
    assert code == 0
    assert "case-1: " in out
    assert "patches with tissue kept (" in out
    assert "pen " in out
    assert "patches, case-2.svs" in err
    assert "of case-1 are REJECTED (" in err
    expected = {"patches.csv", "patches.parquet", "patches.geojson", "heatmap.png", "contact_sheet.png", "screen.json"}
    found = {path.name for path in (tmp_path / "case-1").iterdir()}
    assert found == expected | {"coords_clam.h5", "coords_trident.h5"}
    code, again, _ = rl2(*command, "--json")
    slides = json.loads(again)["slides"]
    assert [row["new"] for row in slides] == [False, False]
    assert json.loads(again)["threshold"]["max_false_rejection"] == 0.05


def test_a_failing_slide_makes_the_exit_code_one(rl2, setting, tmp_path):
    (tmp_path / "broken.svs").write_text("no slide")
    write_patches(tmp_path / "new", tissue(2, seed=4))
    code, out, _ = rl2("screen", tmp_path / "new", tmp_path / "broken.svs", "-o", tmp_path / "o", *setting.arguments)
    assert code == 1
    assert "broken: failed, " in out
    assert (tmp_path / "o" / "new" / "screen.json").exists()


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--max-false-rejection", "0.001"], "too few to reject at most 0.1 % of good ones: that needs 1000"),
        (["--weights", "lung-colon"], "these are others"),
        (["--calibration", "none.safetensors"], "There is no file none.safetensors"),
        (["--calibrate", "good"], "with --calibrate, or a calibration, with --calibration, but not both"),
        (["--tile", "96"], "Calibrate with patches of that size"),
        (["--devices", "0"], "at least one device and one node, but got 0 and 1"),
        (["--target-mpp", "nan"], "a resolution above 0 um/px, but got nan"),
        (["--mpps", "none.csv"], "is no CSV with the columns slide and mpp"),
        (["-o", os.devnull], "is a file; expected a folder"),
    ],
)
def test_wrong_input_ends_in_a_sentence(rl2, setting, tmp_path, more, sentence):
    code, out, err = rl2("screen", setting.slides, "-o", tmp_path / "out", *setting.arguments, *more)
    assert (code, out) == (2, "")
    assert sentence in err.replace("\n", " ")


def test_no_resolution_and_a_table_of_them(rl2, setting, tmp_path):
    slide = write_slide(tmp_path / "bare.svs", small_pixels(), mpp=None)
    code, out, _ = rl2("screen", slide, "-o", tmp_path / "o", *setting.arguments)
    assert code == 1
    assert "does not say its resolution. Give it in um/px with --mpp, or a CSV of slides with --mpps" in out
    (tmp_path / "mpp.csv").write_text("slide,mpp\nbare,0.25\n")
    assert rl2("screen", slide, "-o", tmp_path / "o", *setting.arguments, "--mpps", tmp_path / "mpp.csv")[0] == 0
    assert not (tmp_path / "o" / "bare.error.txt").exists()


def started(setting, out, *more):
    """``rl2 screen`` as a user starts it, whose slides take a while."""
    script = out.parent / "rl2"
    script.write_text(
        "import time\n"
        "from torchmetrics_rl2.cli import main\n"
        "from torchmetrics_rl2.screening import jobs\n"
        "one = jobs.screen_one\n"
        "jobs.screen_one = lambda *arguments: time.sleep(2) or one(*arguments)\n"
        "if __name__ == '__main__':\n"
        "    main()\n"
    )
    command = [
        sys.executable,
        script,
        "screen",
        setting.slides,
        "-o",
        out,
        *setting.arguments,
        "--device",
        "cpu",
        *more,
    ]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([str(part) for part in command], **pipes, start_new_session=True)


def wait_for(out, pattern, process):
    deadline = time.monotonic() + 120
    while not list(out.glob(pattern)):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
def test_ctrl_c_says_how_to_go_on(setting, tmp_path):
    out = tmp_path / "out"
    process = started(setting, out)
    wait_for(out, ".case-*.part", process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "Interrupted. The same command goes on from what is kept in" in err
    assert "Traceback" not in err
    assert not (out / "case-1").exists()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")
def test_a_killed_process_ends_a_screen_with_one_message_and_the_next_goes_on(setting, tmp_path):
    out = tmp_path / "out"
    process = started(setting, out, "--devices", 2)
    wait_for(out, ".case-2.part", process)
    wait_for(out, ".case-1.part", process)
    os.kill(children_of(process)[1], signal.SIGKILL)
    printed, err = process.communicate(timeout=120)
    assert (process.returncode, printed) == (1, "")
    assert "Process 2 of 2 was ended by SIGKILL" in err
    assert err.count("Error: ") == 1
    printed, err = started(setting, out, "--devices", 2, "--json").communicate(timeout=240)
    assert [row["status"] for row in json.loads(printed)["slides"]] == ["finished", "finished"], err
    assert not [path for path in out.iterdir() if path.name.startswith(".")]


def test_a_rate_of_zero_only_ranks(rl2, setting, tmp_path):
    noise = write_patches(tmp_path / "noise", tissue(3, seed=5).flip(1))
    _, out, _ = rl2("screen", noise, "-o", tmp_path / "out", *setting.arguments, "--max-false-rejection", "0")
    assert "noise: 3 of 3 patches with tissue kept; " in out
    assert "no patch was rejected by its score" in out


def test_a_folder_of_patches_with_good_ones(rl2, weights_file, tmp_path):
    images = tissue(44, seed=3)
    good, new = write_patches(tmp_path / "good", images[:40]), write_patches(tmp_path / "new", images[40:])
    calibrate = ["--calibrate", good, "--calibrate-groups", "file", "--max-false-rejection", "0.05"]
    code, out, _ = rl2("screen", new, "-o", tmp_path / "out", "--weights", weights_file, *calibrate)
    assert code == 0
    assert "40 good patches of good (40 groups)" in out
    assert (tmp_path / "out" / "new" / "kept.txt").exists()
