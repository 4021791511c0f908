"""Shares of a patch that are tissue, ink or black, by color, and what no stain makes."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from torchmetrics_rl2.pixels.density import optical_density, quantile

__all__ = ["black_share", "foreign", "ink_share", "is_bright_field", "tissue_share"]

POOLED = 8
MIN_DENSITY = 0.12

# Nearly black: nothing was scanned, an image was padded, or a black pen. Crowded nuclei get as dark, and stay bluer.
BLACK, DARK_GRAY, NEUTRAL = 0.1, 0.16, 0.04

# Above this saturation no stain is, but for single red blood cells.
SATURATED = 0.97

# Degrees of hue from, to, and the least saturation and chroma that are ink there. Hematoxylin and eosin lie between
# 250 and 355; where hematoxylin is as blue as a pen, it is darker, with a chroma of up to 0.32 in frozen breast.
INKS = ((60.0, 190.0, 0.2, 0.08), (345.0, 380.0, 0.72, 0.08), (190.0, 240.0, 0.6, 0.35))

# Of real tissue, single patches included, the lightest 2 % have at least 0.34 in each color.
LIGHTEST, MIN_LIGHT = 0.98, 0.3

# Denser than this, the rest of a dark field is no tissue on glass.
MAX_MEAN_DENSITY = 1.2

NOT_BRIGHT_FIELD = (
    "does not have the light and colors of stained tissue: it is no bright-field image, but perhaps fluorescence or "
    "dark field. RL2 is for stained tissue in transmitted light."
)


def is_black(pixels: Tensor) -> Tensor:
    """Which pixels ``(..., 3, H, W)`` in [0, 1] are nearly black, ``(..., H, W)`` bool."""
    value = pixels.amax(-3)
    return (value < BLACK) | ((value < DARK_GRAY) & (value - pixels.amin(-3) < NEUTRAL))


def tissue_share(images: Tensor, white: Sequence[float] = (0.0, 0.0, 0.0)) -> Tensor:
    """Share of ``(N, 3, H, W)`` in [0, 1] that is denser than glass of this density and not black, ``(N,)``."""
    pooled = F.avg_pool2d(images, POOLED)
    density = optical_density(pooled) - images.new_tensor(white).view(3, 1, 1)
    return _share((density.mean(1) > MIN_DENSITY) & ~is_black(pooled), images)


def black_share(images: Tensor) -> Tensor:
    """Share of ``(N, 3, H, W)`` in [0, 1] that is nearly black over 8 x 8 px, ``(N,)``."""
    return _share(is_black(F.avg_pool2d(images, POOLED)), images)


def ink_share(images: Tensor, white: Sequence[float] = (0.0, 0.0, 0.0)) -> Tensor:
    """Share of ``(N, 3, H, W)`` in [0, 1] that has the color of a pen on glass of this density, ``(N,)``.

    Green, red and blue by hue, over 8 x 8 px: nuclei and red blood cells are smaller.
    """
    pooled = F.avg_pool2d(images, POOLED)
    return _share(_ink(pooled, white) & ~is_black(pooled), images)


def foreign(images: Tensor, white: Sequence[float] = (0.0, 0.0, 0.0)) -> Tensor:
    """Pixels of ``(N, 3, H, W)`` in [0, 1] in or beside cells of 8 px that no stain makes, ``(N, H, W)`` bool.

    These are nearly black, as ink, or more saturated than any stain.
    """
    pooled = F.avg_pool2d(images, POOLED)
    saturated = pooled.amax(1) - pooled.amin(1) > SATURATED * pooled.amax(1)
    cells = (is_black(pooled) | _ink(pooled, white) | saturated).to(images.dtype)
    beside = F.max_pool2d(cells[:, None], 3, 1, 1)
    return F.interpolate(beside, images.shape[2:], mode="nearest")[:, 0] > 0


def is_bright_field(pixels: Tensor) -> bool:
    """Whether pixels ``(3, n)`` in [0, 1] are of a slide with light from below, and not fluorescence or dark field.

    In transmitted light something is light in all colors: glass, lumen or pale tissue. Where most is dark, the rest
    has to be glass and tissue, as of a slide of which most was not scanned, and to have the color of a stain. Where all
    is black or ink there is nothing to tell.
    """
    value = pixels.amax(0)
    rest = pixels[:, ~is_black(pixels[..., None])[:, 0]]
    if rest.shape[1] < 0.01 * len(value):
        return True
    unmarked = rest[:, ~_ink(rest[None, :, :, None], (0.0, 0.0, 0.0))[0, :, 0]]
    if unmarked.shape[1] >= 0.01 * len(value) and quantile(unmarked.amin(0), LIGHTEST) < MIN_LIGHT:
        return False
    is_light = (optical_density(rest).mean(0) < MAX_MEAN_DENSITY).double().mean() > 0.5
    has_color = quantile(rest.amax(0) - rest.amin(0), LIGHTEST) > 2 * NEUTRAL
    is_dark, is_dim = ((value < limit).double().mean() > 0.5 for limit in (DARK_GRAY, 2 * DARK_GRAY))
    return not (is_dark and not is_light) and not (is_dim and not has_color)


def _share(cells: Tensor, images: Tensor) -> Tensor:
    return cells.to(images.dtype).mean((1, 2))


def _ink(pooled: Tensor, white: Sequence[float]) -> Tensor:
    pooled = (pooled * pooled.new_tensor(white).exp().view(3, 1, 1)).clamp(max=1)
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
    ink = torch.zeros_like(value, dtype=torch.bool)
    for low, high, least_saturation, least_chroma in INKS:
        ink |= ((60 * sector - low) % 360 < high - low) & (saturation > least_saturation) & (chroma > least_chroma)
    return ink
