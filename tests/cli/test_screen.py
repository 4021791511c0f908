import json
import os
import subprocess
import sys

import pytest
from torchvision.transforms.v2.functional import to_pil_image

from tests.conftest import slide_pixels, tissue, write_slide


@pytest.fixture(scope="module")
def setting(weights_file, calibration, tmp_path_factory):
    """Weights with a calibration, and two slides."""
    folder = tmp_path_factory.mktemp("screen")
    calibration.save(folder / "good.safetensors")
    (folder / "slides").mkdir()
    for i in (1, 2):
        write_slide(folder / "slides" / f"case-{i}.svs", slide_pixels(seed=i))
    arguments = ["--weights", weights_file, "--calibration", folder / "good.safetensors", "--max-false-rejection", "0.05"]
    return folder, [*arguments, "--workers", "0"]


def test_a_slide_is_screened_and_told_of(rl2, setting, tmp_path):
    folder, arguments = setting
    code, out, err = rl2("screen", folder / "slides", "-o", tmp_path / "out", *arguments)
    assert code == 0
    assert "case-1: " in out
    assert "patches with tissue kept (" in out
    assert "pen 1" in out
    assert "patches, case-2.svs" in err
    assert "LOSES" in err  # its blurred half
    expected = {"patches.csv", "patches.parquet", "patches.geojson", "heatmap.png", "contact_sheet.png", "screen.json"}
    found = {path.name for path in (tmp_path / "out" / "case-1").iterdir()}
    assert found == expected | {"coords_clam.h5", "coords_trident.h5"}
    code, again, _ = rl2("screen", folder / "slides", "-o", tmp_path / "out", *arguments, "--json")
    slides = json.loads(again)["slides"]
    assert [row["new"] for row in slides] == [False, False]
    assert json.loads(again)["threshold"]["max_false_rejection"] == 0.05


def test_a_failing_slide_makes_the_exit_code_one(rl2, setting, tmp_path):
    folder, arguments = setting
    (tmp_path / "broken.svs").write_text("no slide")
    code, out, _ = rl2(
        "screen", folder / "slides" / "case-1.svs", tmp_path / "broken.svs", "-o", tmp_path / "o", *arguments
    )
    assert code == 1
    assert "broken: failed, " in out
    assert (tmp_path / "o" / "case-1" / "screen.json").exists()


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--max-false-rejection", "0.001"], "too few for a threshold that loses 0.1 % of good ones: that needs 1000"),
        (["--weights", "lung-colon"], "these are others"),
        (["--calibration", "none.safetensors"], "There is no file none.safetensors"),
        (["--tile", "96"], "Calibrate with patches of that size"),
        (["--devices", "0"], "at least one device and one node, but got 0 and 1"),
        (["--nodes", "2"], "set NODE_RANK to 0, 1"),
        (["--target-mpp", "nan"], "a resolution above 0 um/px, but got nan"),
        (["--mpps", "none.csv"], "is no CSV with the columns slide and mpp"),
        (["-o", os.devnull], "is a file; expected a folder"),
    ],
)
def test_wrong_input_ends_in_a_sentence(rl2, setting, tmp_path, more, sentence):
    folder, arguments = setting
    code, out, err = rl2("screen", folder / "slides", "-o", tmp_path / "out", *arguments, *more)
    assert (code, out) == (2, "")
    assert sentence in err.replace("\n", " ")


def test_no_resolution_and_a_table_of_them(rl2, setting, tmp_path):
    _, arguments = setting
    slide = write_slide(tmp_path / "bare.svs", slide_pixels(), mpp=None)
    code, out, _ = rl2("screen", slide, "-o", tmp_path / "o", *arguments)
    assert code == 1
    assert "does not say its resolution. Give it in um/px with --mpp, or a CSV of slides with --mpps" in out
    (tmp_path / "mpp.csv").write_text("slide,mpp\nbare,0.25\n")
    assert rl2("screen", slide, "-o", tmp_path / "o", *arguments, "--mpps", tmp_path / "mpp.csv")[0] == 0
    assert not (tmp_path / "o" / "bare.error.txt").exists()


def test_ctrl_c_says_how_to_go_on(rl2, setting, tmp_path, monkeypatch):
    folder, arguments = setting

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("torchmetrics_rl2.cohort._write", interrupt)
    code, _, err = rl2("screen", folder / "slides", "-o", tmp_path / "out", *arguments)
    assert code == 130
    assert "The same command goes on with the slides that are not finished" in err
    assert not (tmp_path / "out" / "case-1").exists()


def test_zero_loss_only_ranks(rl2, setting, tmp_path):
    folder, arguments = setting
    arguments = [*arguments, "--max-false-rejection", "0"]
    _, out, _ = rl2("screen", folder / "slides" / "case-1.svs", "-o", tmp_path / "out", *arguments)
    assert "nothing was cut by its score" in out
    assert "out of focus" not in out


@pytest.mark.slow
def test_devices_share_the_slides_out(setting, tmp_path):
    folder, arguments = setting
    command = ["from torchmetrics_rl2.cli import main; main()", "screen", folder / "slides", "-o", tmp_path / "out"]
    run = [sys.executable, "-c", *command, *arguments, "--devices", "2", "--device", "cpu", "--json"]
    done = subprocess.run(list(map(str, run)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for i in (1, 2):
        assert (tmp_path / "out" / f"case-{i}" / "screen.json").exists()
    assert "case-1" in (tmp_path / "out" / "slides.csv").read_text()
    assert "unfinished" not in (tmp_path / "out" / "slides.csv").read_text()
    assert [row["status"] for row in json.loads(done.stdout)["slides"]] == ["finished", "finished"]


def test_a_folder_of_patches_with_good_ones(rl2, weights_file, tmp_path):
    for i, image in enumerate(tissue(50, seed=3)):
        kind = "good" if i < 40 else "new"
        (tmp_path / kind).mkdir(exist_ok=True)
        to_pil_image(image).save(tmp_path / kind / f"{i}.png")
    calibrate = ["--calibrate", tmp_path / "good", "--calibrate-groups", "file", "--max-false-rejection", "0.05"]
    code, out, _ = rl2("screen", tmp_path / "new", "-o", tmp_path / "out", "--weights", weights_file, *calibrate)
    assert code == 0
    assert "40 good patches of good (40 groups)" in out
    assert (tmp_path / "out" / "new" / "kept.txt").exists()
