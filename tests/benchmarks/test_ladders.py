import pytest
import torch

from tests.benchmarks.conftest import save, tissue
from torchmetrics_rl2 import RL2Error


def breakhis(folder, patients=4):
    """Miniature of BreaKHis: two slides of a patient, two magnifications, of which 100X is black."""
    breast = folder / "BreaKHis_v1" / "histology_slides" / "breast"
    for i in range(patients):
        kind, kind_of = ("benign", "adenosis") if i % 2 else ("malignant", "lobular_carcinoma")
        for part in ("AB", "CD"):
            slide = breast / kind / "SOB" / kind_of / f"SOB_X_Y_14-{1000 + i}{part}"
            for magnification, images in (
                ("40X", tissue(2, seed=i, px=96)[:, :, :70]),
                ("100X", torch.zeros(1, 3, 70, 96)),
            ):
                save(images, slide / magnification, f"{slide.name}-{magnification[:-1]}-{{:03}}.png")
    return folder / "BreaKHis_v1"


def test_breakhis_is_read_at_one_magnification_and_size(paper, tmp_path):
    # The black 100X patches would show, and the patches of 96 x 70 px would not stay square.
    arguments = paper["experiment"].options("").parse_args(["--magnification", "40", "--resize", "48"])
    images = paper["experiment"].load(breakhis(tmp_path), arguments)
    assert images.shape == (16, 3, 48, 48)
    assert images.dtype == torch.uint8
    assert images.float().mean((1, 2, 3)).min() > 50


def test_halves_keep_the_slides_of_a_patient_together(paper, tmp_path, monkeypatch):
    seen = []
    experiment = paper["experiment"]
    monkeypatch.setattr(experiment, "load", lambda paths, arguments: seen.append(paths) or torch.zeros(1))
    parser = experiment.options("")
    experiment.add_sides(parser)
    source = str(breakhis(tmp_path))
    experiment.sides(source, parser.parse_args([source, "--halves"]))
    patients = [{path.parts[-3][8:15] for path in side} for side in seen]
    assert [len(side) for side in patients] == [2, 2]
    assert not patients[0] & patients[1]
    assert [len(paths) for paths in seen] == [12, 12]


def test_a_ladder_starts_at_the_clean_value_and_rises(run, tmp_path):
    options = ("--magnification", 40, "--resize", 64, "--halves")
    result = run("ladders", breakhis(tmp_path), *options, "--ladders", "gaussian blur", "diffusion")
    names = [row["ladder"] for row in result["rows"]]
    assert names == ["clean", *["gaussian blur"] * 4, *["diffusion"] * 5]
    assert [row["amount"] for row in result["rows"]][1:5] == [0.5, 1, 2, 4]
    assert result["rows"][0]["auc"] == 0.5
    assert result["rho"]["gaussian blur"]["rl2"] == pytest.approx(1)
    assert (result["n"], result["n_real"]) == (8, 8)
    assert "fid" not in result["rows"][0]


def test_a_run_repeats_itself(run, tmp_path):
    source = breakhis(tmp_path)
    options = ("--magnification", 40, "--resize", 64, "--halves", "--limit", 3, "--ladders", "salt and pepper")
    first, second = (run("ladders", source, *options) for _ in range(2))
    assert first == second
    assert first["n"] == 3
    assert run("ladders", source, *options, "--seed", 1) != first


def test_fid_beside_rl2_is_of_the_same_patches(run, paper, tmp_path, monkeypatch):
    # Features of the mean color alone: FID of clean against itself is 0, and grows with damage that changes color.
    def features(images, what):
        return images.double().mean((2, 3))

    clean = save(tissue(5), tmp_path / "clean")
    monkeypatch.setattr(paper["ladders"], "inception_of", lambda arguments, device: features)
    result = run("ladders", clean, "--real", clean, "--fid", "--ladders", "rectangles")
    fid = [row["fid"] for row in result["rows"]]
    assert fid[0] == pytest.approx(0, abs=1e-6)
    assert fid[1] < fid[2] < fid[3] < fid[4]
    assert result["rows"][0]["rl2"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("BreaKHis_v1", "--magnification", "400"), "folder 400X"),
        (("BreaKHis_v1", "--magnification", "40", "--fid"), "need real images"),
        (("BreaKHis_v1",), "all of one size"),
        (("BreaKHis_v1", "--halves", "--real", "BreaKHis_v1"), "Leave one of them out"),
        (("flat", "--halves"), "a folder for each slide"),
    ],
)
def test_what_ladders_cannot_do_is_said(run, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    save(tissue(2), breakhis(tmp_path) / "other")
    save(tissue(2), tmp_path / "flat")
    with pytest.raises(RL2Error, match=said):
        run("ladders", *arguments)
