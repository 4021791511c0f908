"""Shares of a patch that are tissue or ink, by color."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from torchmetrics_rl2.pixels.density import optical_density

__all__ = ["ink_share", "tissue_share"]

POOLED = 8
MIN_DENSITY = 0.12

# Black ink is neutral; crowded nuclei get as dark, and stay bluer than that.
BLACK, NEUTRAL = 0.16, 0.04

# Degrees of hue from, to, and the least saturation and chroma that are ink there. Hematoxylin and eosin lie between
# 250 and 355; where hematoxylin is as blue as a pen, it is darker, with a chroma of up to 0.32 in frozen breast.
INKS = ((60.0, 190.0, 0.2, 0.08), (345.0, 380.0, 0.72, 0.08), (190.0, 240.0, 0.6, 0.35))


def tissue_share(images: Tensor, white: Sequence[float] = (0.0, 0.0, 0.0)) -> Tensor:
    """Share of ``(N, 3, H, W)`` in [0, 1] that is denser than glass, of this density, ``(N,)``; ink is too."""
    density = optical_density(F.avg_pool2d(images, POOLED)) - images.new_tensor(white).view(3, 1, 1)
    return (density.mean(1) > MIN_DENSITY).to(images.dtype).mean((1, 2))


def ink_share(images: Tensor, white: Sequence[float] = (0.0, 0.0, 0.0)) -> Tensor:
    """Share of ``(N, 3, H, W)`` in [0, 1] that has the color of a pen on glass of this density, ``(N,)``.

    Green, red and blue by hue, and neutral black, over 8 x 8 px: nuclei and red blood cells are smaller.
    """
    pooled = (F.avg_pool2d(images, POOLED) * images.new_tensor(white).exp().view(3, 1, 1)).clamp(max=1)
    red, green, blue = pooled.unbind(1)
    value, least = pooled.amax(1), pooled.amin(1)
    chroma = value - least
    saturation = chroma / value.clamp(min=1 / 255)
    # The hexagon of HSV, as in torchvision and Pillow.
    step = chroma.clamp(min=1 / 255)
    sector = torch.where(
        value == red,
        (green - blue) / step % 6,
        torch.where(value == green, (blue - red) / step + 2, (red - green) / step + 4),
    )
    ink = (value < BLACK) & (chroma < NEUTRAL)
    for low, high, least_saturation, least_chroma in INKS:
        ink |= ((60 * sector - low) % 360 < high - low) & (saturation > least_saturation) & (chroma > least_chroma)
    return ink.to(images.dtype).mean((1, 2))
