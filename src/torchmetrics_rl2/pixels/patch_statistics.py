"""Twenty-five simple statistics of a patch, whose Gaussian a screen uses."""

import torch
from torch import Tensor
from torch.nn import functional as F

from torchmetrics_rl2.pixels.density import optical_density
from torchmetrics_rl2.pixels.handcrafted import HANDCRAFTED, handcrafted_statistics, laplacian

__all__ = ["STATISTICS", "patch_statistics"]

STATISTICS = (
    *HANDCRAFTED,
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


def patch_statistics(images: Tensor) -> Tensor:
    """Fifteen statistics of whole patches, nine of the extremes among 7 x 7 cells of each, and its blockiness.

    A bubble, a stroke or a hole is small in the mean over a patch and large in the strangest of its cells.

    Args:
        images: ``(N, 3, H, W)``, floating point in [0, 1].

    Returns:
        ``(N, 25)``, in the order of :data:`STATISTICS`.

    """
    side = min(images.shape[2:]) // CELLS
    gray = F.pad(images.mean(1, keepdim=True), (1, 1, 1, 1), mode="reflect")
    edges = laplacian(gray)

    def cells(numbers: Tensor) -> Tensor:
        return F.avg_pool2d(numbers, side).flatten(2)

    sharpness = ((cells(edges.square()) - cells(edges).square()).clamp(min=0) + 1e-6).log()[:, 0]
    density = cells(optical_density(images))
    hue = density / (density.sum(1, keepdim=True) + 0.15)
    strangeness = (hue - hue.median(2, keepdim=True).values).norm(dim=1)
    saturation = cells(images.amax(1, keepdim=True) - images.amin(1, keepdim=True))[:, 0]
    columns = [sharpness.amin(1), sharpness.amax(1), sharpness.std(1), density.mean(1).amin(1), density.mean(1).amax(1)]
    columns += [strangeness.amax(1), saturation.amin(1), hue[:, 2].amin(1), hue[:, 0].amax(1), _blockiness(images)]
    return torch.cat([handcrafted_statistics(images), torch.stack(columns, 1)], 1)


def _blockiness(images: Tensor) -> Tensor:
    """How much larger steps between pixels are on some 8-px grid than off it, as JPEG makes them; log ratio, ``(N,)``.

    After Wang, Sheikh and Bovik (2002), over all phases of the grid, as patches are cut anywhere.
    """
    gray, found = images.mean(1), []
    for axis in (1, 2):
        steps = gray.diff(dim=axis).abs().mean(3 - axis)
        whole = steps.shape[1] // JPEG_BLOCK * JPEG_BLOCK
        phases = steps[:, :whole].reshape(len(steps), -1, JPEG_BLOCK).mean(1)
        most = phases.amax(1)
        found.append(((most + 1e-4) / ((phases.sum(1) - most) / (JPEG_BLOCK - 1) + 1e-4)).log())
    return torch.stack(found).mean(0)
