import pytest
import torch

from tests.benchmarks.conftest import save, tissue
from tests.conftest import random_images
from torchmetrics_rl2 import RL2Error


def historoi(folder):
    """Miniature of HistoROI: a folder for each class."""
    for i, name in enumerate(("Epithelial", "Stroma", "Lymphocytes")):
        save(tissue(8, seed=i), folder / name)
    save((random_images(8) > 127).to(torch.uint8) * 255, folder / "Artifacts")
    return folder


def test_auc_is_of_clean_classes_against_the_others(run, tmp_path):
    folder = historoi(tmp_path)
    others = ("--clean", "Epithelial", "Stroma", "--artifacts", "Artifacts")
    result = run("artifacts_by_likelihood", folder, *others)
    assert result["n"] == {"fitted": 8, "clean": 8, "artifacts": 8}
    assert all(value > 0.9 for value in result["auc"].values())
    three = run("artifacts_by_likelihood", folder, "--clean", "Epithelial", "Stroma", "--real", folder / "Stroma")
    assert three["n"] == {"fitted": 8, "clean": 16, "artifacts": 16}
    swapped = run("artifacts_by_likelihood", folder / "Artifacts", folder / "Stroma", "--real", folder / "Epithelial")
    assert swapped["auc"]["log-likelihood"] < 0.1


def test_patches_that_baselines_were_fitted_to_are_judged_nowhere(run, paper, tmp_path, monkeypatch):
    seen = {}
    true = paper["artifacts_by_likelihood"].encode

    def spy(encoder, images, what):
        seen[what] = images
        return true(encoder, images, what)

    monkeypatch.setattr(paper["artifacts_by_likelihood"], "encode", spy)
    monkeypatch.setattr(paper["artifacts_by_likelihood"], "degrade", lambda images, *_: images)
    clean = save(tissue(10), tmp_path / "clean")
    result = run("artifacts_by_likelihood", clean, "--simulate", "--per-patch", 20)
    fitted, judged, artifacts = (
        {bytes(i.numpy().tobytes()) for i in seen[k]} for k in ("fitted", "clean", "artifacts")
    )
    assert len(fitted) == len(judged) == 5
    assert not fitted & judged
    assert artifacts == judged
    assert len(result["ladders"]) == 20
    # A patch may round otherwise in another batch, which breaks its tie with itself: five of 25 pairs.
    assert all(area == pytest.approx(0.5, abs=0.11) for row in result["ladders"].values() for area in row.values())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "exactly one"),
        (("--simulate", "--clean", "Stroma"), "exactly one"),
        (("--clean", "Tissue"), "has the classes Artifacts, Epithelial, Lymphocytes, Stroma"),
        (("--clean", "Stroma", "--artifacts", "Stroma"), "none of them on both sides"),
    ],
)
def test_artifacts_come_from_one_place(run, tmp_path, arguments, said):
    with pytest.raises(RL2Error, match=said):
        run("artifacts_by_likelihood", historoi(tmp_path), *arguments)
