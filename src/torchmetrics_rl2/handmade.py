"""Fifteen hand-made image statistics: the baseline that a trunk has to beat."""

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["HANDMADE", "handmade_statistics"]

HANDMADE = 15


def handmade_statistics(images: Tensor) -> Tensor:
    """Sharpness, optical density, saturation, white and black of each image.

    Args:
        images: ``(N, 3, H, W)``, floating point in [0, 1].

    Returns:
        ``(N, 15)``: log-variance and log-kurtosis of the Laplacian of the grey image at scales 1, 2 and 4; mean and
        standard deviation of the optical density of red, green and blue; mean saturation (max - min); log fraction of
        pixels brighter than .9 and darker than .1.

    """
    kernel = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]], dtype=images.dtype, device=images.device)
    grey = images.mean(1, keepdim=True)
    numbers = []
    for size in (1, 2, 4):
        edges = F.conv2d(F.avg_pool2d(grey, size), kernel[None, None]).flatten(1)
        edges = edges - edges.mean(1, keepdim=True)
        variance = edges.square().mean(1)
        numbers += [(variance + 1e-6).log(), ((edges**4).mean(1) / (variance.square() + 1e-12)).log1p()]
    density = -images.clamp(min=1 / 255).log()
    numbers += [*density.mean((2, 3)).T, *density.std((2, 3)).T]
    numbers.append((images.amax(1) - images.amin(1)).mean((1, 2)))
    numbers += [
        ((grey > 0.9).to(images.dtype).mean((1, 2, 3)) + 1e-3).log(),
        ((grey < 0.1).to(images.dtype).mean((1, 2, 3)) + 1e-3).log(),
    ]
    return torch.stack(numbers, 1)
