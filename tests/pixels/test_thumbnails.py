import torch
from torch.nn.functional import avg_pool2d

from tests.fixtures.images import random_images, tissue
from torchmetrics_rl2.pixels import degrade, optical_density, thumbnails_of


def test_a_thumbnail_is_the_density_of_the_mean_of_areas_of_any_size():
    """Sides of 50 and 36 px are no multiples of 8; as many copies of each pixel are."""
    images = random_images(3, 50)[..., :36]
    large = images.double().mean(1, keepdim=True).repeat_interleave(8, 2).repeat_interleave(8, 3)
    expected = optical_density(avg_pool2d(large, (50, 36))[:, 0] / 255)
    assert torch.allclose(thumbnails_of(images).double(), expected, atol=1e-5)


def test_images_turn_with_their_thumbnails():
    images = tissue(4)
    turned = thumbnails_of(images.rot90(1, (2, 3)).flip(3))
    assert torch.allclose(turned, thumbnails_of(images).rot90(1, (1, 2)).flip(2), atol=1e-5)


def test_damage_moves_thumbnails_little_and_other_images_much():
    clean, damaged = thumbnails_of(tissue(8)), thumbnails_of(degrade(tissue(8), "gaussian blur", 0.25))
    vectors = [torch.nn.functional.normalize(x.flatten(1) - x.flatten(1).mean(1, True)) for x in (clean, damaged)]
    correlations = vectors[0] @ vectors[1].T
    assert correlations.diagonal().min() > 0.97
    assert correlations.fill_diagonal_(0).max() < 0.8
