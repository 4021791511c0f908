import csv

import pyarrow.parquet
import pytest
import torch
from torchvision.transforms.v2.functional import to_pil_image

from tests.conftest import slide_pixels, tissue, write_slide
from torchmetrics_rl2 import RL2Error, screen
from torchmetrics_rl2.pixels.degradations import degrade
from torchmetrics_rl2.images.find import find_images
from torchmetrics_rl2.quality.calibrating import beside


@pytest.fixture(scope="module")
def own(weights_file, tmp_path_factory):
    """Weights without a calibration beside them."""
    path = tmp_path_factory.mktemp("own") / "own.safetensors"
    path.write_bytes(weights_file.read_bytes())
    return path


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    folder = tmp_path_factory.mktemp("good")
    for i, image in enumerate(tissue(60, seed=13)):
        (folder / f"slide-{i % 20:02}").mkdir(exist_ok=True)
        to_pil_image(image).save(folder / f"slide-{i % 20:02}" / f"{i:02}.png")
    return folder


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """Thirty patches: good, noisy, and glass."""
    folder = tmp_path_factory.mktemp("mixed")
    images = tissue(30, seed=14)
    images[10:20] = degrade(images[10:20], "gaussian noise", 0.6)
    images[20:] = 240
    for i, image in enumerate(images):
        to_pil_image(image).save(folder / f"{i:02}.png")
    return folder


def run(source, out, own, good, **changes):
    return screen(source, out, **{"weights": own, "good": good, "max_false_rejection": 0.05, "workers": 0, **changes})


def test_a_folder_of_patches(own, good, mixed, tmp_path):
    result = run(mixed, tmp_path, own, good, good_groups="parent")
    row = result.slides[0]
    assert (row["status"], row["patches"], row["background"]) == ("finished", 20, 10)
    rows = pyarrow.parquet.read_table(tmp_path / mixed.name / "patches.parquet").to_pylist()
    assert [row["path"] for row in rows] == [str(mixed / f"{i:02}.png") for i in range(30)]
    assert not any(row["keep"] for row in rows[10:])
    assert all("noise" in row["reasons"] for row in rows[10:20])
    assert {row["reasons"] for row in rows[20:]} == {"background"}
    kept = find_images(tmp_path / mixed.name / "kept.txt")
    assert [path.name for path in kept] == [f"{i:02}.png" for i in range(10) if rows[i]["keep"]]
    assert result.calibration == result.calibration | {"patches": 60, "groups": 20, "of_weights": False}
    assert "at most 5 % of such patches are lost" in str(result)
    assert any("LOSES" in sentence and "noise" in sentence for sentence in result.warnings)


def test_one_more_slide_next_month_uses_the_frozen_calibration(own, good, mixed, tmp_path):
    first = run(mixed, tmp_path / "a", own, good, good_groups="parent")
    frozen = tmp_path / "a" / "calibration.safetensors"
    again = run(mixed, tmp_path / "b", own, None, calibration=frozen)
    assert again.calibration["sha256"] == first.calibration["sha256"]
    assert (tmp_path / "b" / mixed.name / "patches.csv").read_bytes() == (
        tmp_path / "a" / mixed.name / "patches.csv"
    ).read_bytes()
    with pytest.raises(RL2Error, match="not both"):
        run(mixed, tmp_path / "c", own, good, calibration=frozen)


def test_outside_of_the_domain_of_the_weights_nothing_is_cut_by_its_score(own, calibration, tmp_path):
    # Patches of another world, with one of glass and one with ink.
    images = degrade(tissue(12, seed=18), "gaussian noise", 0.8)
    images[0] = 240
    images[1, :, 20:44] = torch.tensor([20, 150, 100], dtype=torch.uint8).view(3, 1, 1)
    (tmp_path / "foreign").mkdir()
    for i, image in enumerate(images):
        to_pil_image(image).save(tmp_path / "foreign" / f"{i:02}.png")
    domain = calibration.of(calibration.weights_id, of_weights=True)
    result = run(tmp_path / "foreign", tmp_path / "out", own, None, calibration=domain)
    row = result.slides[0]
    assert (row["calibrated"], row["domain"], row["kept"], row["background"]) == (False, "outside", 10, 1)
    assert "UNCALIBRATED" in result.warnings[0]
    assert "UNCALIBRATED, ranked only" in str(result)
    # The same patches against a calibration of the user's own are cut, and the promise is withdrawn.
    mine = run(tmp_path / "foreign", tmp_path / "mine", own, None, calibration=calibration)
    assert mine.slides[0]["calibrated"]
    assert mine.slides[0]["kept"] == 0
    ranked = run(tmp_path / "foreign", tmp_path / "ranked", own, None, calibration=calibration, max_false_rejection=None)
    assert (ranked.slides[0]["calibrated"], ranked.slides[0]["kept"]) == (True, 10)
    assert "nothing was cut by its score" in str(ranked)
    assert "the promised loss of good patches does not hold" in mine.warnings[0]


def test_of_too_few_patches_nothing_is_cut_by_its_score(own, calibration, tmp_path):
    to_pil_image(degrade(tissue(1, seed=18), "gaussian noise", 0.8)[0]).save(tmp_path / "1.png")
    domain = calibration.of(calibration.weights_id, of_weights=True)
    result = run(tmp_path / "1.png", tmp_path / "out", own, None, calibration=domain)
    row = result.slides[0]
    assert (row["domain"], row["calibrated"], row["kept"]) == ("unknown", False, 1)
    assert "too few patches to tell" in result.warnings[0]


def test_patches_of_two_resolutions_are_not_compared(own, calibration, tmp_path):
    slide = write_slide(tmp_path / "a.svs", slide_pixels())
    with pytest.raises(RL2Error, match="The good patches have 0.5 um/px and tiles would have 1;"):
        run(
            slide,
            tmp_path / "out",
            own,
            None,
            calibration=calibration.of(calibration.weights_id, mpp=0.5),
            target_mpp=1,
        )


def test_a_wholly_blurred_folder_does_not_pass_because_its_patches_agree(own, calibration, tmp_path):
    images = degrade(tissue(30, seed=15), "gaussian blur", 0.5)
    for i, image in enumerate(images):
        to_pil_image(image).save(tmp_path / f"{i:02}.png")
    row = run(tmp_path, tmp_path / "out", own, None, calibration=calibration).slides[0]
    assert row["kept"] == 0
    assert "out of focus" in row["reasons"]


def test_sizes_and_resolutions_come_from_the_calibration(own, good, calibration, tmp_path):
    slide = write_slide(tmp_path / "a.svs", slide_pixels())
    result = run(slide, tmp_path / "out", own, None, calibration=calibration)
    assert (result.settings["px"], result.settings["target_mpp"]) == (64, 0.5)
    unknown = calibration.of(calibration.weights_id, mpp=None)
    result = run(slide, tmp_path / "unknown", own, None, calibration=unknown)
    assert any("The resolution of the good patches is not known" in sentence for sentence in result.warnings)
    assert result.slides[0]["size"] == 128
    with pytest.raises(RL2Error, match="The good patches have 64 px and tiles would have 96"):
        run(slide, tmp_path / "out", own, None, calibration=calibration, tile=96)


def test_a_preview_writes_a_picture_and_nothing_else(own, calibration, mixed, tmp_path):
    slide = write_slide(tmp_path / "a.svs", slide_pixels())
    (tmp_path / "b.svs").write_text("no slide")
    sources = [slide, tmp_path / "b.svs", mixed]
    result = run(sources, tmp_path / "out", own, None, calibration=calibration, preview=6)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["preview.png"]
    assert [row["status"] for row in result.slides] == ["finished", "failed", "finished"]
    assert [row["patches"] + row["background"] for row in result.slides[::2]] == [6, 6]
    with pytest.raises(RL2Error, match="at least one patch"):
        run(slide, tmp_path / "out", own, None, calibration=calibration, preview=0)


def test_tables_of_the_cohort_have_all_that_was_found(own, calibration, mixed, tmp_path):
    run([mixed, write_slide(tmp_path / "a.svs", slide_pixels())], tmp_path / "out", own, None, calibration=calibration)
    with (tmp_path / "out" / "slides.csv").open(newline="") as file:
        rows = {row["slide"]: row for row in csv.DictReader(file)}
    assert set(rows) == {mixed.name, "a"}
    for column in ("kept_share", "reasons", "domain", "domain_low", "white_red", "tissue_blue", "seconds"):
        assert rows["a"][column]
    assert rows["a"]["mpp"] == "0.25"


def test_a_fit_leaves_a_calibration_beside_its_weights(weights_file, good, mixed, tmp_path):
    fitting = pytest.importorskip("torchmetrics_rl2.fitting")
    from torchmetrics_rl2.fitting.split import split_images
    from torchmetrics_rl2.fitting.settings import FitSettings

    for i, image in enumerate(tissue(90, seed=16)):
        (tmp_path / "more").mkdir(exist_ok=True)
        to_pil_image(image).save(tmp_path / "more" / f"{i:02}.png")
    split = split_images(find_images(tmp_path / "more"))
    quick = FitSettings(layers=0)
    fitting.fit(split, tmp_path / "fitted.safetensors", backbone=weights_file, settings=quick, mpp=0.5)
    assert beside(tmp_path / "fitted.safetensors").is_file()
    result = screen(mixed, tmp_path / "out", weights=tmp_path / "fitted.safetensors", max_false_rejection=None)
    assert result.calibration["of_weights"]
    assert result.calibration["patches"] == len(split.reference)
    assert result.threshold is None
    assert "nothing was cut by its score" in str(result)
