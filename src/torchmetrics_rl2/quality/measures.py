"""What a screen measures of patches: shares of tissue and ink, latents, and simple statistics."""

from collections.abc import Sequence

import torch
from torch import Tensor

from torchmetrics_rl2.encoder.encoder import LatentEncoder
from torchmetrics_rl2.networks.flow import log_likelihood
from torchmetrics_rl2.pixels.batch import check_images, to_8_bit
from torchmetrics_rl2.pixels.patch_statistics import patch_statistics
from torchmetrics_rl2.pixels.tissue import ink_share, tissue_share
from torchmetrics_rl2.runtime import exact_arithmetic

__all__ = []

MIN_TISSUE = 0.2
NO_WHITE = (0.0, 0.0, 0.0)
INK = 0.01


def shares(images: Tensor, white: Sequence[float] = NO_WHITE) -> tuple[Tensor, Tensor]:
    """Shares of tissue and of ink of uint8 images on glass of a density, ``(N,)`` each, on the CPU."""
    pixels = images.float() / 255
    return tissue_share(pixels, white).cpu(), ink_share(pixels, white).cpu()


def measure(encoder: LatentEncoder, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Latents, log-determinants, simple statistics and log-likelihoods of uint8 images, on the CPU."""
    images = images.to(encoder.device)
    z, log_det = encoder.encode(images)
    with exact_arithmetic(encoder.device):
        statistics = patch_statistics(images.float() / 255)
    return z.cpu().float(), log_det.cpu().float(), statistics.cpu(), log_likelihood(z, log_det).cpu()


def to_uint8(images: Tensor) -> Tensor:
    """Images ``(N, 3, H, W)`` as 8 bits, if they are not; NaN becomes gray."""
    check_images(images)
    if images.dtype == torch.uint8:
        return images
    return to_8_bit(images.nan_to_num(0.5)).to(torch.uint8)
