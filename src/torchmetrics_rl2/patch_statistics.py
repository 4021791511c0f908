"""What simple statistics say of a patch: tissue and ink by colour, and 25 numbers whose Gaussian screening uses."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from torchmetrics_rl2.handmade import handmade_statistics

__all__ = ["STATISTICS", "ink_share", "optical_density", "patch_statistics", "tissue_share"]

STATISTICS = (
    *(f"{name} of the Laplacian at scale {size}" for size in (1, 2, 4) for name in ("log-variance", "log-kurtosis")),
    *(f"{name} density of {colour}" for name in ("mean", "sd of the") for colour in ("red", "green", "blue")),
    "mean saturation",
    "log fraction of white",
    "log fraction of black",
    *(f"{end} sharpness of a cell" for end in ("least", "greatest", "sd of the")),
    *(f"{end} density of a cell" for end in ("least", "greatest")),
    "strangest hue of a cell",
    "least saturation of a cell",
    "least share of blue",
    "greatest share of red",
    "blockiness",
)
"""Names of the columns of :func:`patch_statistics`."""

CELLS = 7
JPEG_BLOCK = 8
POOLED = 8
LEAST_DENSITY = 0.12
# Black ink is neutral; crowded nuclei get as dark, and stay bluer than that.
BLACK, NEUTRAL = 0.16, 0.04
# Degrees of hue from, to, and the least saturation and chroma that are ink there. Haematoxylin and eosin lie between
# 250 and 355; where haematoxylin is as blue as a pen, it is darker, with a chroma of up to 0.32 in frozen breast.
INKS = ((60.0, 190.0, 0.2, 0.08), (345.0, 380.0, 0.72, 0.08), (190.0, 240.0, 0.6, 0.35))


def optical_density(images: Tensor) -> Tensor:
    """Optical density of transmittances in [0, 1], Beer-Lambert, natural logarithm."""
    return -images.clamp(min=1 / 255).log()


def patch_statistics(images: Tensor) -> Tensor:
    """Fifteen statistics of whole patches, nine of the extremes among 7 x 7 cells of each, and its blockiness.

    A bubble, a stroke or a hole is small in the mean over a patch and large in the strangest of its cells.

    Args:
        images: ``(N, 3, H, W)``, floating point in [0, 1].

    Returns:
        ``(N, 25)``, in the order of :data:`STATISTICS`.

    """
    kernel = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]], dtype=images.dtype, device=images.device)
    side = min(images.shape[2:]) // CELLS
    grey = F.pad(images.mean(1, keepdim=True), (1, 1, 1, 1), mode="reflect")
    edges = F.conv2d(grey, kernel[None, None])

    def cells(numbers: Tensor) -> Tensor:
        return F.avg_pool2d(numbers, side).flatten(2)

    sharpness = ((cells(edges.square()) - cells(edges).square()).clamp(min=0) + 1e-6).log()[:, 0]
    density = cells(optical_density(images))
    hue = density / (density.sum(1, keepdim=True) + 0.15)
    strangeness = (hue - hue.median(2, keepdim=True).values).norm(dim=1)
    saturation = cells(images.amax(1, keepdim=True) - images.amin(1, keepdim=True))[:, 0]
    columns = [sharpness.amin(1), sharpness.amax(1), sharpness.std(1), density.mean(1).amin(1), density.mean(1).amax(1)]
    columns += [strangeness.amax(1), saturation.amin(1), hue[:, 2].amin(1), hue[:, 0].amax(1), _blockiness(images)]
    return torch.cat([handmade_statistics(images), torch.stack(columns, 1)], 1)


def tissue_share(images: Tensor, white: Sequence[float] = (0.0, 0.0, 0.0)) -> Tensor:
    """Share of ``(N, 3, H, W)`` in [0, 1] that is denser than glass, of this density, ``(N,)``; ink is too."""
    density = optical_density(F.avg_pool2d(images, POOLED)) - images.new_tensor(white).view(3, 1, 1)
    return (density.mean(1) > LEAST_DENSITY).to(images.dtype).mean((1, 2))


def ink_share(images: Tensor, white: Sequence[float] = (0.0, 0.0, 0.0)) -> Tensor:
    """Share of ``(N, 3, H, W)`` in [0, 1] that has the colour of a pen on glass of this density, ``(N,)``.

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


def _blockiness(images: Tensor) -> Tensor:
    """How much larger steps between pixels are on some 8-px grid than off it, as JPEG makes them; log ratio, ``(N,)``.

    After Wang, Sheikh and Bovik (2002), over all phases of the grid, as patches are cut anywhere.
    """
    grey, found = images.mean(1), []
    for axis in (1, 2):
        steps = grey.diff(dim=axis).abs().mean(3 - axis)
        whole = steps.shape[1] // JPEG_BLOCK * JPEG_BLOCK
        phases = steps[:, :whole].reshape(len(steps), -1, JPEG_BLOCK).mean(1)
        most = phases.amax(1)
        found.append(((most + 1e-4) / ((phases.sum(1) - most) / (JPEG_BLOCK - 1) + 1e-4)).log())
    return torch.stack(found).mean(0)
