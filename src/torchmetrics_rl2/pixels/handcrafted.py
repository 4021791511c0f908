"""Fifteen hand-crafted image statistics: the baseline that a backbone has to beat."""

import torch
from torch import Tensor
from torch.nn import functional as F

from torchmetrics_rl2.pixels.density import optical_density

__all__ = ["HANDCRAFTED", "handcrafted_statistics", "laplacian"]

SCALES = (1, 2, 4)
HANDCRAFTED = (
    *(f"{name} of the Laplacian at scale {size}" for size in SCALES for name in ("log-variance", "log-kurtosis")),
    *(f"{name} density of {color}" for name in ("mean", "sd of the") for color in ("red", "green", "blue")),
    "mean saturation",
    "log fraction of white",
    "log fraction of black",
)
"""Names of the columns of :func:`handcrafted_statistics`."""


def handcrafted_statistics(images: Tensor) -> Tensor:
    """Sharpness, optical density, saturation, white and black of each image.

    Args:
        images: ``(N, 3, H, W)``, floating point in [0, 1].

    Returns:
        ``(N, 15)``, in the order of :data:`HANDCRAFTED`: log-variance and log-kurtosis of the Laplacian of the gray
        image at scales 1, 2 and 4; mean and standard deviation of the optical density of red, green and blue; mean
        saturation (max - min); log fraction of pixels brighter than .9 and darker than .1.

    """
    gray = images.mean(1, keepdim=True)
    numbers = []
    for size in SCALES:
        edges = laplacian(F.avg_pool2d(gray, size)).flatten(1)
        edges = edges - edges.mean(1, keepdim=True)
        variance = edges.square().mean(1)
        numbers += [(variance + 1e-6).log(), ((edges**4).mean(1) / (variance.square() + 1e-12)).log1p()]
    density = optical_density(images)
    numbers += [*density.mean((2, 3)).T, *density.std((2, 3)).T]
    numbers.append((images.amax(1) - images.amin(1)).mean((1, 2)))
    numbers += [
        ((gray > 0.9).to(images.dtype).mean((1, 2, 3)) + 1e-3).log(),
        ((gray < 0.1).to(images.dtype).mean((1, 2, 3)) + 1e-3).log(),
    ]
    return torch.stack(numbers, 1)


def laplacian(gray: Tensor) -> Tensor:
    """Laplacian of gray images ``(N, 1, H, W)`` by four neighbors, ``(N, 1, H - 2, W - 2)``."""
    kernel = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]], dtype=gray.dtype, device=gray.device)
    return F.conv2d(gray, kernel[None, None])
