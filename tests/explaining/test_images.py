from pathlib import Path

import pytest
import torch
from torch import Generator

from torchmetrics_rl2.distance.kinds import Kinds
from torchmetrics_rl2.encoder.encoded import Encoded
from torchmetrics_rl2.explaining.images import SeenImages, image_shares, order_of_images

KINDS = Kinds(torch.eye(8)[[0, 1, 1]] * torch.tensor([[1.0], [1], [-1]]), torch.zeros(3), ("fat", "gland", "muscle"))


def seen(latents, names, tiled=False):
    found = SeenImages(tiled)
    found.see(Encoded([Path(name) for name in names], latents))
    return found


def test_shares_of_all_images_are_one_on_average():
    z = torch.randn(50, 8, generator=Generator().manual_seed(0), dtype=torch.float64)
    shares = image_shares(z, torch.ones(8), z.mean(0))
    assert float(shares.mean()) == pytest.approx(1, rel=1e-12)
    difference = z.mean(0) - 1
    by_hand = [(row - 1) @ difference / difference.norm() ** 2 for row in z]
    assert shares.tolist() == pytest.approx([float(share) for share in by_hand], rel=1e-12)


def test_the_worst_and_the_typical_images_come_with_their_nearest_real_one():
    z = torch.zeros(20, 8)
    z[:, 0] = torch.arange(20.0)
    z[:, 5] = 1
    reals = torch.zeros(3, 8)
    reals[:, 0] = torch.tensor([-1.0, 9.0, 30.0])
    generated, real = seen(z, [f"{i}.png" for i in range(20)]), seen(reals, ["low", "middle", "high"])
    worst, typical = order_of_images(generated, real, torch.zeros(8), z.mean(0), KINDS)
    assert [image.image for image in worst[:2]] == ["19.png", "18.png"]
    assert [image.nearest for image in worst[:2]] == ["middle", "middle"]
    assert worst[0].share > 1.5 > 1.1 > typical[0].share > 0.9
    assert all(image.look == pytest.approx(1) for image in worst)  # which is the same in all
    assert worst[0].content == pytest.approx(19 / 9.5)
    alone = order_of_images(generated, SeenImages(), torch.zeros(8), z.mean(0), None)[0][0]
    assert (alone.nearest, alone.content) == ("", None)


def test_tiles_have_names_of_their_own():
    assert seen(torch.zeros(3, 8), ["a", "b", "a"], tiled=True).names == ["a, tile 0", "b, tile 0", "a, tile 1"]
