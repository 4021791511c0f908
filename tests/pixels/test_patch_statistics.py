import colorsys

import numpy as np
import pytest
import torch
from torch import nn

from tests.conftest import random_images, tissue
from torchmetrics_rl2.pixels import (
    STATISTICS,
    degrade,
    handcrafted_statistics,
    ink_share,
    patch_statistics,
    tissue_share,
)


def of(images):
    return patch_statistics(images.float() / 255)


def column(name, images):
    return of(images)[:, STATISTICS.index(name)]


def test_columns_agree_with_numpy_in_float64():
    images = tissue(3, px=70)
    found = of(images)
    assert found.shape == (3, len(STATISTICS)) == (3, 25)
    torch.testing.assert_close(found[:, :15], handcrafted_statistics(images.float() / 255))
    for image, row in zip(images.double().numpy() / 255, found.numpy(), strict=True):
        gray = np.pad(image.mean(0), 1, mode="reflect")
        edges = gray[:-2, 1:-1] + gray[2:, 1:-1] + gray[1:-1, :-2] + gray[1:-1, 2:] - 4 * gray[1:-1, 1:-1]
        cells = [(slice(10 * i, 10 * i + 10), slice(10 * j, 10 * j + 10)) for i in range(7) for j in range(7)]
        sharpness = np.array([np.log(edges[cell].var() + 1e-6) for cell in cells])
        density = -np.log(np.clip(image, 1 / 255, 1))
        dense = np.array([[density[c][cell].mean() for c in range(3)] for cell in cells])
        hue = dense / (dense.sum(1, keepdims=True) + 0.15)
        strange = np.linalg.norm(hue - np.sort(hue, axis=0)[24], axis=1)
        pale = [(image.max(0) - image.min(0))[cell].mean() for cell in cells]
        expected = [sharpness.min(), sharpness.max(), sharpness.std(ddof=1), dense.mean(1).min(), dense.mean(1).max()]
        expected += [strange.max(), min(pale), hue[:, 2].min(), hue[:, 0].max()]
        np.testing.assert_allclose(row[15:24], expected, rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize(
    ("ladder", "name", "up"),
    [
        ("jpeg", "blockiness", True),
        ("gaussian blur", "greatest sharpness of a cell", False),
        ("rectangles", "greatest density of a cell", True),
        ("blank", "least density of a cell", False),
        ("pen", "strangest hue of a cell", True),
    ],
)
def test_damage_moves_the_statistic_made_for_it(ladder, name, up):
    images = tissue(16, px=128)
    clean, damaged = column(name, images), column(name, degrade(images, ladder, 0.6))
    moved = damaged > clean if up else damaged < clean
    assert moved.float().mean() > 3 / 4


def test_blockiness_finds_the_grid_wherever_the_patch_is_cut():
    damaged = degrade(tissue(8, px=128), "jpeg", 0.8)
    whole, cut = column("blockiness", damaged), column("blockiness", damaged[:, :, 3:, 5:])
    clean = column("blockiness", tissue(8, px=128))
    assert min(whole.min(), cut.min()) > clean.max()


def test_tissue_is_what_is_denser_than_its_glass():
    gray = torch.full((1, 3, 64, 64), 0.8)
    half = torch.cat([tissue(1, seed=3).float() / 255 * 0.8, gray], 3)
    assert tissue_share(gray) == 1  # gray glass is dense as long as nobody knows it for glass
    assert tissue_share(gray, (0.223, 0.223, 0.223)) == 0
    assert 0.3 < float(tissue_share(half, (0.223, 0.223, 0.223))) <= 0.5


@pytest.mark.parametrize(
    ("rgb", "is_ink"),
    [
        ((20, 150, 100), True),
        ((25, 40, 140), True),
        ((200, 20, 35), True),
        ((20, 20, 22), False),  # black has a word of its own
        ((90, 60, 140), False),  # hematoxylin
        ((40, 50, 115), False),  # hematoxylin as blue as a pen
        ((16, 17, 33), False),  # crowded nuclei
        ((225, 150, 190), False),  # eosin
        ((175, 60, 90), False),  # red blood cells
        ((235, 238, 234), False),  # glass with a tint
    ],
)
def test_ink_is_what_no_stain_looks_like(rgb, is_ink):
    image = torch.tensor(rgb).view(1, 3, 1, 1).expand(1, 3, 32, 32) / 255
    assert float(ink_share(image)) == float(is_ink)


def test_hues_are_those_of_colorsys():
    colors = random_images(200, px=8, seed=4)[:, :, :1, :1].expand(-1, -1, 8, 8).float() / 255
    found = torch.cat([ink_share(color[None]) for color in colors])
    for color, share in zip(colors[:, :, 0, 0].double().tolist(), found.tolist(), strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*color)
        green, red = 60 <= 360 * hue < 190 and saturation > 0.2, (360 * hue >= 345 or 360 * hue < 20)
        black = value < 0.1 or (value < 0.16 and value * saturation < 0.04)
        strong = value * saturation > 0.08
        blue = 190 <= 360 * hue < 240 and saturation > 0.6 and value * saturation > 0.35
        ink = not black and (blue or (strong and (green or (red and saturation > 0.72))))
        assert share == float(ink)


def test_ink_is_told_by_its_color_beside_glass():
    nuclei = torch.tensor([80, 90, 210]).view(1, 3, 1, 1).expand(1, 3, 32, 32) / 255
    assert ink_share(nuclei) == 1
    assert ink_share(nuclei, (0.5, 0.5, 0.0)) == 0  # all is blue in such light


def test_specks_smaller_than_eight_pixels_are_no_ink():
    image = nn.functional.pad(torch.tensor([0.1, 0.6, 0.4]).view(1, 3, 1, 1), (0, 31, 0, 31), value=0.95)
    assert ink_share(image) == 0
