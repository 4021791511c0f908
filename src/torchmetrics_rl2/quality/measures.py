"""What a screen measures of patches: shares of tissue, ink and black, latents, and simple statistics."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from torchmetrics_rl2.encoder.encoder import LatentEncoder
from torchmetrics_rl2.pixels.batch import check_images, to_8_bit
from torchmetrics_rl2.pixels.patch_statistics import patch_statistics
from torchmetrics_rl2.pixels.tissue import black_share, ink_share, tissue_share
from torchmetrics_rl2.runtime import exact_arithmetic

__all__ = []

MIN_TISSUE = 0.2
NO_WHITE = (0.0, 0.0, 0.0)
INK = 0.01


class Shares(NamedTuple):
    """Shares of patches, ``(N,)`` each, on the CPU."""

    tissue: Tensor
    ink: Tensor
    black: Tensor

    @property
    def foreign(self) -> Tensor:
        """Which patches have more ink and black than good ones may, bool."""
        return self.ink + self.black > INK


def shares(images: Tensor, white: Sequence[float] = NO_WHITE) -> Shares:
    """Shares of tissue, ink and black of uint8 images on glass of a density."""
    pixels = images.float() / 255
    return Shares(tissue_share(pixels, white).cpu(), ink_share(pixels, white).cpu(), black_share(pixels).cpu())


def measure(encoder: LatentEncoder, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Latents, log-determinants, simple statistics, kinds of tissue and log-likelihoods of uint8 images, on the CPU."""
    images = images.to(encoder.device)
    z, log_det = encoder.encode(images)
    with exact_arithmetic(encoder.device):
        statistics = patch_statistics(images.float() / 255)
    likelihood = encoder.flow.log_likelihood(z, log_det).cpu()
    z = z.cpu().float()
    kinds = encoder.kinds.of(z) if encoder.kinds else torch.zeros(len(z), dtype=torch.int64)
    return z, log_det.cpu().float(), statistics.cpu(), kinds, likelihood


def to_uint8(images: Tensor) -> Tensor:
    """Images ``(N, 3, H, W)`` as 8 bits, if they are not; NaN becomes gray."""
    check_images(images)
    if images.dtype == torch.uint8:
        return images
    return to_8_bit(images.nan_to_num(0.5)).to(torch.uint8)
