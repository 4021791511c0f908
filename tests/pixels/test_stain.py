import numpy as np
import pytest
import torch

from tests.conftest import tissue
from torchmetrics_rl2.pixels import Stain, degrade, optical_density, restain, stain_of


def test_stain_agrees_with_numpy():
    images = tissue(6)
    density = -np.log(np.clip(images.double().numpy().transpose(1, 0, 2, 3).reshape(3, -1) / 255, 1 / 255, 1))
    white = [np.sort(channel)[int(0.02 * (len(channel) - 1))] for channel in density]
    dense = (density - np.array(white)[:, None]).mean(0) > 0.12
    found = stain_of([images[:2], images[2:]])
    np.testing.assert_allclose(found.white, white, rtol=1e-12)
    np.testing.assert_allclose(found.tissue, density[:, dense].mean(1), rtol=1e-12)


def test_glass_can_be_told():
    assert stain_of([tissue(2)], (0.1, 0.2, 0.3)).white == (0.1, 0.2, 0.3)


def test_tissue_alone_is_not_taken_for_glass():
    found = stain_of([torch.full((2, 3, 32, 32), 120, dtype=torch.uint8)])
    assert found.white == (0.3, 0.3, 0.3)
    assert min(found.tissue) > 0.7


def test_all_glass_has_no_tissue_and_no_nan():
    found = stain_of([torch.full((2, 3, 32, 32), 240, dtype=torch.uint8)])
    assert found.tissue == found.white


def test_patches_of_another_stain_come_back():
    images = tissue(8)
    own = stain_of([images])
    for ladder, severity in (("brightness", 0.5), ("brightness", -0.5), ("white balance", 0.5), ("hematoxylin", 0.5)):
        other = degrade(images, ladder, severity)
        back = restain(other, stain_of([other]), own)

        def apart(one):
            return float((optical_density(one / 255) - optical_density(images / 255)).abs().mean())

        # Three gains undo a stain in part only: they do not know which pixel is of which.
        assert apart(back) < (0.7 if ladder == "hematoxylin" else 0.3) * apart(other)


def test_its_own_stain_changes_nothing_beyond_rounding():
    images = tissue(4)
    own = stain_of([images])
    assert (restain(images, own, own).int() - images.int()).abs().max() <= 1


def test_what_is_empty_does_not_become_tissue():
    glass = torch.full((1, 3, 32, 32), 240, dtype=torch.uint8)
    dense = Stain((0.0, 0.0, 0.0), (0.8, 1.0, 0.6))
    assert restain(glass, stain_of([glass]), dense).min() > 230


BLACK, NOISY, PEN, MAGENTA, GLASS = range(5)


def foreign_patches(kind, tissue_beside):
    """Six patches, whole or half of what no stain makes."""
    draws = torch.Generator().manual_seed(0)
    colors = {BLACK: (0, 0, 0), PEN: (20, 40, 190), MAGENTA: (255, 0, 255), GLASS: (244, 242, 245)}
    if kind == NOISY:
        whole = (torch.rand(6, 3, 64, 64, generator=draws) * 14).to(torch.uint8)
    else:
        whole = torch.tensor(colors[kind], dtype=torch.uint8).view(1, 3, 1, 1).expand(6, 3, 64, 64).clone()
    if tissue_beside:
        whole[:, :, :, :27] = tissue(6, 64, seed=3)[:, :, :, :27]  # in the middle of a cell of 8 px
    return whole


@pytest.mark.parametrize("kind", [BLACK, NOISY, PEN, MAGENTA, GLASS])
@pytest.mark.parametrize("tissue_beside", [True, False])
def test_what_no_stain_makes_moves_no_stain(kind, tissue_beside):
    images = tissue(40, 64)
    alone, beside = stain_of([images]), stain_of([images, foreign_patches(kind, tissue_beside)])
    np.testing.assert_allclose(beside.tissue, alone.tissue, rtol=0.02)
    np.testing.assert_allclose(beside.white, alone.white, atol=0.02 if kind != GLASS else 0.2)


def test_nothing_but_black_has_no_stain():
    found = stain_of([foreign_patches(BLACK, False)])
    assert found == Stain((0.0, 0.0, 0.0), (0.0, 0.0, 0.0))
