import pytest
import torch

from tests.fixtures.images import tissue
from torchmetrics_rl2.pixels import black_share, ink_share, is_bright_field, tissue_share


def patch(*rgb):
    return torch.tensor(rgb, dtype=torch.float32).view(1, 3, 1, 1).expand(1, 3, 32, 32) / 255


@pytest.mark.parametrize("rgb", [(0, 0, 0), (20, 20, 22), (24, 8, 3), (38, 33, 35)])
def test_black_is_neither_tissue_nor_pen(rgb):
    assert black_share(patch(*rgb)) == 1
    assert tissue_share(patch(*rgb)) == ink_share(patch(*rgb)) == 0


@pytest.mark.parametrize("rgb", [(16, 17, 33), (40, 50, 115), (30, 170, 110), (60, 60, 60)])
def test_dark_nuclei_pens_and_gray_are_not_black(rgb):
    assert black_share(patch(*rgb)) == 0


def test_shares_are_of_the_area():
    half = torch.cat([patch(0, 0, 0), patch(160, 90, 150)], dim=3)
    assert (black_share(half), tissue_share(half)) == (0.5, 0.5)


def field(*color, background=0.0, share=0.1):
    draws = torch.Generator().manual_seed(0)
    pixels = (background + 0.03 * torch.rand(3, 10_000, generator=draws)).expand(3, -1).clone()
    pixels[:, : int(share * 10_000)] = torch.tensor(color)[:, None] * torch.rand(int(share * 10_000), generator=draws)
    return pixels


@pytest.mark.parametrize("color", [(0.0, 0.0, 1.0), (0.0, 1.0, 0.2), (1.0, 0.1, 0.1), (1.0, 1.0, 1.0)])
@pytest.mark.parametrize("background", [0.0, 0.05])
@pytest.mark.parametrize("share", [0.05, 0.3])
def test_spots_on_black_are_no_bright_field(color, background, share):
    assert not is_bright_field(field(*color, background=background, share=share))


@pytest.mark.parametrize("share", [0.0, 0.6, 0.95])
def test_tissue_beside_what_was_not_scanned_is(share):
    pixels = (tissue(4).float() / 255).movedim(1, 0).flatten(1)
    black = torch.full((3, int(share / (1 - share) * pixels.shape[1])), 0.02)
    assert is_bright_field(torch.cat([pixels, black], 1))


def test_of_black_alone_nothing_is_said():
    assert is_bright_field(torch.zeros(3, 100))


@pytest.mark.parametrize("background", [(5, 10, 60), (48, 48, 48), (20, 10, 40)])
@pytest.mark.parametrize("signal", [(0, 0, 255), (200, 30, 30), (30, 210, 60), (180, 60, 240)])
def test_no_background_makes_fluorescence_a_bright_field(background, signal):
    draws = torch.Generator().manual_seed(0)
    bright = torch.rand(10_000, generator=draws) < 0.4
    pixels = torch.where(bright, torch.tensor(signal)[:, None], torch.tensor(background)[:, None]) / 255
    assert not is_bright_field(pixels)


def test_pens_alone_are_no_dark_field():
    assert is_bright_field(torch.tensor([20, 60, 190])[:, None].expand(3, 100) / 255)
