import numpy as np
import pytest
import torch

from torchmetrics_rl2 import compare
from torchmetrics_rl2.distance.statistics import Statistics
from torchmetrics_rl2.explaining.images import SeenImages
from torchmetrics_rl2.images import ImageReader
from torchmetrics_rl2.reporting.plane import plane_of
from torchmetrics_rl2.scoring import Scored


def scored_of(real, fake):
    latents = {"real": real, "fake": fake}
    sides = {side: Statistics.of_latents(z) for side, z in latents.items()}
    seen = {side: SeenImages() for side in latents}
    for side, z in latents.items():
        seen[side].latents, seen[side].names = [z], [f"{side}{i}" for i in range(len(z))]
    return Scored(compare(sides["real"], sides["fake"]), sides, seen, {}, None, ImageReader())


def normal(count, seed, shift=0.0):
    z = torch.randn(count, 32, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    z[:, 1] *= 4
    z[:, 0] += shift
    return z


def test_sides_that_differ_lie_along_their_difference():
    found = plane_of(scored_of(normal(80, 0), normal(60, 1, 5.0)), {})
    means = {side: places.mean(0) for side, places in found.places.items()}
    assert means["real"] == pytest.approx([0, 0], abs=1e-9)
    assert means["fake"] == pytest.approx([1, 0], abs=1e-9)
    assert "direction from the mean of the real images" in found.sentence
    # Upward is the direction that varies most, times one over RL2.
    assert np.std(found.places["real"][:, 1]) == pytest.approx(4 / 5, rel=0.3)


def test_sides_that_do_not_differ_are_shown_by_principal_components():
    """Along the difference of two such sets, any two sets would be apart."""
    real, fake = normal(80, 0), normal(80, 1)
    found = plane_of(scored_of(real, fake), {})
    assert "principal components" in found.sentence
    middle = (real.mean(0) + fake.mean(0)) / 2
    moment = sum((z - middle).T @ (z - middle) / len(z) for z in (real, fake))
    values, vectors = np.linalg.eigh(moment.numpy())
    expected = np.abs((real - middle).numpy() @ vectors[:, -1])
    assert np.abs(found.places["real"][:, 0]) == pytest.approx(expected, rel=1e-9)
    assert f"({100 * values[-1] / values.sum():.0f} % of the variance)" in found.axes[0]


def test_of_many_images_some_are_shown_and_those_asked_for():
    scored = scored_of(normal(5000, 0), normal(50, 1))
    found = plane_of(scored, {"real": ["real4999"], "fake": []})
    assert 2000 <= len(found.names["real"]) <= 2001
    assert "real4999" in found.names["real"]
    assert len(found.names["fake"]) == 50


@pytest.mark.parametrize("shift", [0.0, 5.0])
def test_a_plane_of_one_side_does_not_say_that_it_is_of_both(shift):
    scored = scored_of(normal(80, 0), normal(60, 1, shift))
    scored.seen["real"] = SeenImages()
    found = plane_of(scored, {})
    assert set(found.places) == {"fake"}
    said = "variance within the generated images" if shift else "latents of the generated images"
    assert said in found.sentence
