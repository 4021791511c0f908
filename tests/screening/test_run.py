import csv
from dataclasses import replace
from types import SimpleNamespace

import pyarrow.parquet
import pytest
import torch

from tests.fixtures.images import tissue
from tests.fixtures.slides import write_slide
from tests.screening.conftest import small_pixels, write_patches
from torchmetrics_rl2 import LatentEncoder, PatchScreener, RL2Error, calibrate, screen
from torchmetrics_rl2.images import find_images
from torchmetrics_rl2.pixels.degradations import degrade
from torchmetrics_rl2.quality.calibrating import beside
from torchmetrics_rl2.screening import GoodPatches, Tiling
from torchmetrics_rl2.weights import load_weights


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A folder of 60 good patches of 20 slides."""
    folder = tmp_path_factory.mktemp("good")
    for i, images in enumerate(tissue(60, seed=13).split(3)):
        write_patches(folder / f"slide-{i:02}", images)
    return folder


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """Twelve patches: good, noisy, and glass."""
    images = tissue(12, seed=14)
    images[4:8] = degrade(images[4:8], "gaussian noise", 0.6)
    images[8:] = 240
    return write_patches(tmp_path_factory.mktemp("mixed"), images)


@pytest.fixture(scope="module")
def own(weights_file, calibration, tmp_path_factory):
    """A weights file with a calibration beside it."""
    path = tmp_path_factory.mktemp("own") / "own.safetensors"
    path.write_bytes(weights_file.read_bytes())
    replace(calibration, of_weights=True).save(beside(path))
    return path


@pytest.fixture(scope="module")
def domain(calibration):
    """The same good patches, as of the domain of the weights."""
    return replace(calibration, of_weights=True)


def run(source, out, weights, calibration=None, **changes):
    settings = {"max_false_rejection": 0.05, "workers": 0, **changes}
    return screen(source, out, weights=weights, calibration=calibration, **settings)


@pytest.fixture(scope="module")
def first(encoder, good, mixed, tmp_path_factory):
    """A finished screen of ``mixed`` with good patches, to be read only."""
    out = tmp_path_factory.mktemp("first")
    return SimpleNamespace(out=out, result=run(mixed, out, encoder, GoodPatches(good, groups="parent")))


def test_a_folder_of_patches(first, mixed):
    (row,) = first.result.slides
    assert (row.status, row.summary.patches, row.summary.background) == ("finished", 8, 4)
    rows = pyarrow.parquet.read_table(first.out / mixed.name / "patches.parquet").to_pylist()
    assert [row["path"] for row in rows] == [str(mixed / f"{i:02}.png") for i in range(12)]
    assert not any(row["keep"] for row in rows[4:])
    assert all("noise" in row["reasons"] for row in rows[4:8])
    assert {row["reasons"] for row in rows[8:]} == {"background"}
    kept = find_images(first.out / mixed.name / "kept.txt")
    assert [path.name for path in kept] == [f"{i:02}.png" for i in range(4) if rows[i]["keep"]]
    expected = {"patches": 60, "groups": 20, "of_weights": False}
    assert first.result.calibration == first.result.calibration | expected
    assert "at most 5 % of such patches are rejected" in str(first.result)
    assert any("REJECTED" in sentence and "noise" in sentence for sentence in first.result.warnings)


def test_one_more_slide_next_month_uses_the_frozen_calibration(first, encoder, mixed, tmp_path):
    again = run(mixed, tmp_path, encoder, first.out / "calibration.safetensors")
    assert again.calibration["sha256"] == first.result.calibration["sha256"]
    tables = [(out / mixed.name / "patches.csv").read_bytes() for out in (tmp_path, first.out)]
    assert tables[0] == tables[1]


@pytest.mark.slow
def test_an_encoder_and_its_name_give_the_same(own, mixed, good, tmp_path):
    def found(name, weights, calibration):
        result = run(mixed, tmp_path / name, weights, calibration).to_dict() | {"out": ""}
        for row in result["slides"]:
            row["seconds"] = 0
        return result, (tmp_path / name / mixed.name / "patches.csv").read_bytes()

    assert found("a", own, None) == found("b", LatentEncoder.load(own), None)
    assert found("c", own, GoodPatches(good)) == found("d", LatentEncoder.load(own), GoodPatches(good))
    renamed = LatentEncoder(replace(load_weights(own), name="ours@1"))  # whose name says nothing of its file
    assert found("e", renamed, None)[1] == found("a", own, None)[1]


def test_weights_are_read_once(own, mixed, good, tmp_path, monkeypatch):
    from torchmetrics_rl2.encoder import encoder

    read = []
    load = encoder.load_weights
    monkeypatch.setattr(encoder, "load_weights", lambda name: read.append(name) or load(name))
    run(mixed, tmp_path / "a", own, GoodPatches(good))
    assert read == [own]
    run(mixed, tmp_path / "b", own)
    assert read == [own, own]


def test_the_encoder_of_a_caller_stays_as_it_is(own, mixed, good, tmp_path, monkeypatch):
    encoder = LatentEncoder.load(own)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}

    def moved(*_, **__):
        raise AssertionError("moved")

    for name in ("to", "cpu", "cuda", "train", "_apply"):
        monkeypatch.setattr(encoder, name, moved)
    run(mixed, tmp_path, encoder, GoodPatches(good))
    calibrate(good, encoder)
    assert PatchScreener(encoder).encoder is encoder
    after = encoder.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_screen_on_a_gpu_leaves_the_encoder_on_the_cpu(own, mixed, good, tmp_path):
    encoder = LatentEncoder.load(own)
    result = run(mixed, tmp_path, encoder, GoodPatches(good), device="cuda")
    assert result.settings["device"].startswith("cuda")
    assert encoder.device.type == "cpu"


def test_out_of_the_domain_of_the_weights_nothing_is_rejected_by_its_score(encoder, calibration, domain, tmp_path):
    # Patches of another world, with one of glass and one with ink.
    images = degrade(tissue(12, seed=18), "gaussian noise", 0.8)
    images[0] = 240
    images[1, :, 20:44] = torch.tensor([20, 150, 100], dtype=torch.uint8).view(3, 1, 1)
    source = write_patches(tmp_path / "strange", images)
    result = run(source, tmp_path / "out", encoder, domain)
    found = result.slides[0].summary
    assert (found.calibrated, found.domain, found.kept, found.background) == (False, "outside", 10, 1)
    assert "UNCALIBRATED" in result.warnings[0]
    assert "UNCALIBRATED, ranked only" in str(result)
    # The same patches against good patches of the user's own are rejected, and the promise is withdrawn.
    mine = run(source, tmp_path / "mine", encoder, calibration)
    assert mine.slides[0].summary.calibrated
    assert mine.slides[0].summary.kept == 0
    assert "the false rejection rate is not guaranteed" in mine.warnings[0]
    ranked = run(source, tmp_path / "ranked", encoder, calibration, max_false_rejection=None)
    assert (ranked.slides[0].summary.calibrated, ranked.slides[0].summary.kept) == (True, 10)
    assert "no patch was rejected by its score" in str(ranked)


def test_of_too_few_patches_none_is_rejected_by_its_score(encoder, domain, tmp_path):
    source = write_patches(tmp_path / "one", degrade(tissue(1, seed=18), "gaussian noise", 0.8))
    result = run(source, tmp_path / "out", encoder, domain)
    found = result.slides[0].summary
    assert (found.domain, found.calibrated, found.kept) == ("unknown", False, 1)
    assert "too few patches of tissue" in result.warnings[0]


def test_a_wholly_blurred_folder_is_caught_though_its_patches_agree(encoder, calibration, tmp_path):
    source = write_patches(tmp_path / "soft", degrade(tissue(12, seed=15), "gaussian blur", 0.5))
    found = run(source, tmp_path / "out", encoder, calibration).slides[0].summary
    assert found.kept == 0
    assert "out of focus" in found.reasons


def test_size_and_resolution_are_those_of_the_calibration(small_slide, encoder, calibration, tmp_path):
    result = run(small_slide, tmp_path / "out", encoder, calibration)
    assert (result.settings["px"], result.settings["target_mpp"]) == (64, 0.5)
    assert result.slides[0].summary.size == 128
    unknown = run(small_slide, tmp_path / "unknown", encoder, replace(calibration, mpp=None), preview=1)
    assert any("The resolution of the good patches is unknown" in sentence for sentence in unknown.warnings)
    with pytest.raises(RL2Error, match="The good patches have 64 px and tiles would have 96"):
        run(small_slide, tmp_path / "out", encoder, calibration, tiling=Tiling(px=96))


def test_a_preview_writes_a_picture_and_nothing_else(small_slide, encoder, calibration, mixed, tmp_path):
    (tmp_path / "b.svs").write_text("no slide")
    sources = [small_slide, tmp_path / "b.svs", mixed]
    result = run(sources, tmp_path / "out", encoder, calibration, preview=3)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["preview.png"]
    assert [row.status for row in result.slides] == ["finished", "failed", "finished"]
    assert [row.summary.patches + row.summary.background for row in result.slides[::2]] == [3, 3]
    with pytest.raises(RL2Error, match="at least one patch"):
        run(small_slide, tmp_path / "out", encoder, calibration, preview=0)


def test_the_table_of_slides_has_all_that_was_found(encoder, calibration, mixed, tmp_path):
    slide = write_slide(tmp_path / "a.svs", small_pixels())
    broken = write_patches(tmp_path / "broken", tissue(3))
    (broken / "01.png").write_text("no image")
    run([broken, slide, mixed], tmp_path / "out", encoder, calibration, skip_unreadable=True)
    with (tmp_path / "out" / "slides.csv").open(newline="") as file:
        rows = {row["slide"]: row for row in csv.DictReader(file)}
    assert {name: row["unreadable"] for name, row in rows.items()} == {"broken": "1", "a": "0", mixed.name: "0"}
    for column in ("kept_share", "reasons", "domain", "domain_low", "domain_shift", "white_red", "tissue_blue"):
        assert rows["a"][column]
    assert rows["a"]["mpp"] == "0.25"


def test_the_calibration_beside_weights_is_taken(own, mixed, tmp_path):
    result = run(mixed, tmp_path, own, max_false_rejection=None)
    assert result.calibration["of_weights"]
    assert result.threshold is None


def test_a_fit_leaves_a_calibration_beside_its_weights(weights_file, good, mixed, tmp_path):
    fitting = pytest.importorskip("torchmetrics_rl2.fitting")
    settings = fitting.FitSettings(layers=0)
    out = tmp_path / "fitted.safetensors"
    fitting.fit(str(good), out, groups="parent", backbone=weights_file, settings=settings, mpp=0.5, tile=32, workers=0)
    result = run(mixed, tmp_path / "out", out, max_false_rejection=None, tiling=Tiling(px=32))
    assert result.calibration["of_weights"]
    assert result.calibration["patches"] == 4 * 12  # tiles of a fifth of the patches
    assert result.slides[0].summary.patches + result.slides[0].summary.background == 4 * 12
