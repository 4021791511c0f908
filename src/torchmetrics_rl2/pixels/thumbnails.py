"""Images at 8 x 8: where they are dark, whatever their sharpness, noise, compression and stain."""

import torch
from torch import Tensor

from torchmetrics_rl2.pixels.density import optical_density
from torchmetrics_rl2.runtime import exact_arithmetic

__all__ = ["SIDE", "thumbnails_of"]

SIDE = 8


def thumbnails_of(images: Tensor) -> Tensor:
    """Optical density of the mean intensity of 8 x 8 areas, of uint8 images ``(N, 3, H, W)``, ``(N, 8, 8)``."""
    with exact_arithmetic(images.device):
        intensity = images.mean(1, dtype=torch.float32) / 255
        rows, columns = (_areas(size).to(images.device) for size in images.shape[2:])
        return optical_density(rows @ intensity @ columns.T)


def _areas(size: int) -> Tensor:
    """What each pixel of a line counts in the mean of each of eight equal parts, ``(8, size)``."""
    pixels, edges = torch.arange(size), torch.arange(SIDE + 1) * (size / SIDE)
    ends = torch.minimum(pixels[None] + 1, edges[1:, None]) - torch.maximum(pixels[None], edges[:-1, None])
    return ends.clamp(min=0) * (SIDE / size)
