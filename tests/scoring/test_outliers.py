from pathlib import Path

import pytest
import torch

from tests.distance.test_statistics import ID, latents
from torchmetrics_rl2 import Statistics, compare, score
from torchmetrics_rl2.encoder.encoded import Encoded
from torchmetrics_rl2.functional import latent_sums, resnet_l2
from torchmetrics_rl2.scoring.outliers import Outliers


def watched(real, fake, names=None, batch=7, tiled=False):
    names = names or [f"{i}.png" for i in range(len(fake))]
    outliers = Outliers(real.mean(0), tiled)
    for i in range(0, len(fake), batch):
        paths = [Path(name) for name in names[i : i + batch]]
        outliers.see(Encoded(paths, fake[i : i + batch]))
    result = compare(Statistics.of_latents(real, **ID), Statistics.of_latents(fake, **ID))
    return outliers.add_to(result, latent_sums(real), latent_sums(fake))


def test_it_is_the_distance_that_goes_with_the_furthest():
    real, fake = latents(50), latents(150, seed=1) + 0.2
    fake[[17, 90]] += torch.tensor([[30.0], [40.0]])
    result = watched(real, fake)
    rest = torch.ones(150, dtype=torch.bool)
    rest[[17, 90]] = False
    without = resnet_l2(real, fake[rest]).item()
    assert result.outliers == ["90.png", "17.png"]
    assert result.outlier_share == pytest.approx(1 - without / result.value, rel=1e-9)
    assert result.outlier_share > 0.3
    assert "outlier_share" not in result.withheld
    lower = f"{100 * result.outlier_share:.1f} % lower"
    assert f"furthest from the real mean (2 of 150), RL2 would be {lower}: 90.png, 17.png" in result.details()


def test_what_is_kept_is_bounded_and_none_of_the_furthest_is_lost(monkeypatch):
    real, fake = latents(50), latents(900, seed=1)
    expected = watched(real, fake)
    monkeypatch.setattr("torchmetrics_rl2.scoring.outliers.KEPT", 9)
    got = watched(real, fake, batch=4)
    assert got.outliers == expected.outliers
    assert got.outlier_share == pytest.approx(expected.outlier_share, rel=1e-9)
    monkeypatch.setattr("torchmetrics_rl2.scoring.outliers.KEPT", 3)
    assert watched(real, fake).outliers == expected.outliers[:3]
    outliers = Outliers(real.mean(0))
    for z in fake:
        outliers.see(Encoded([Path("x.png")], z[None]))
        assert sum(map(len, outliers._latents)) == len(outliers._names) <= 6


def test_outliers_are_far_from_real_images_and_not_from_the_origin():
    real, fake = latents(50) + 5, latents(20, seed=1) + 5
    fake[13] = 0
    assert watched(real, fake).outliers == ["13.png"]


def test_tiles_are_named_by_their_place_in_the_file():
    fake = latents(8, seed=1)
    fake[5] += 50
    assert watched(latents(9), fake, ["a.png"] * 4 + ["b.png"] * 4, batch=3, tiled=True).outliers == ["b.png, tile 1"]


def test_a_set_against_itself_has_no_share():
    result = watched(latents(9), latents(9))
    assert (result.outlier_share, result.withheld["outlier_share"]) == (None, "RL2 is 0")


def test_score_names_the_file_in_any_batch(patches, encoder, tmp_path):
    found = [score(patches, patches / "a", weights=encoder, batch_size=size) for size in (5, 64)]
    distances = {
        path: (encoder(_read(path)) - encoder(_read(*sorted((patches / "a").iterdir()))).mean(0)).norm().item()
        for path in patches.rglob("*.png")
    }
    assert found[0].outliers == found[1].outliers == [str(max(distances, key=distances.get))]
    statistics = Statistics.of_latents(latents(9, d=512).float(), weights=encoder.name, weights_id=encoder.weights_id)
    for fake in (statistics, [patches / "b", statistics]):
        result = score(fake, patches / "a", weights=encoder)
        assert (result.outliers, result.outlier_share) == (None, None)
        assert "generated images" in result.withheld["outlier_share"]


def _read(*paths):
    from torchmetrics_rl2.images import read_image

    return torch.stack([read_image(path) for path in paths])
