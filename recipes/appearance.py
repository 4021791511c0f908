"""What the backbone learns to ignore, to detect and to report: stain and compression, damage, energies.

All functions take and return float batches ``(N, 3, H, W)`` in [0, 1] and draw from the given generator alone.
"""

import math
from collections.abc import Sequence

import torch
from torch import Generator, Tensor
from torch.nn import functional as F
from torchvision.io import decode_jpeg, encode_jpeg
from torchvision.transforms.v2 import functional as TF

from torchmetrics_rl2.pixels import optical_density
from torchmetrics_rl2.pixels.damage import STAINS

DAMAGE = ("focus", "noise", "impulse", "compression")


def uniform(low: float, high: float, shape: tuple[int, ...], generator: Generator) -> Tensor:
    """Uniform draws from [low, high)."""
    return low + (high - low) * torch.rand(shape, generator=generator)


def crops(tiles: Tensor, px: int, count: int, generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Windows of ``px * 2^u`` pixels, flipped and transposed; with tile index and u.

    Half of them are taken as they are, u = 0: resampling changes sharpness as weak blur does. For the others |u| <=
    0.75, and the window is resized to ``px``.
    """
    index = torch.randint(len(tiles), (count,), generator=generator)
    scale = uniform(-0.75, 0.75, (count,), generator) * (torch.rand(count, generator=generator) < 0.5)
    batch = []
    for i, u in zip(index.tolist(), scale.tolist(), strict=True):
        side = round(px * 2**u)
        top, left = (int(torch.randint(tiles.shape[-1] - side + 1, (), generator=generator)) for _ in range(2))
        window = tiles[i, :, top : top + side, left : left + side]
        window = window if side == px else TF.resize(window, [px, px], antialias=True)
        flips = torch.rand(3, generator=generator) < 0.5
        window = window.flip([axis for axis, flip in zip((1, 2), flips[:2].tolist(), strict=True) if flip])
        batch.append(window.transpose(1, 2) if flips[2] else window)
    return torch.stack(batch).float() / 255, index, scale


def restain(images: Tensor, generator: Generator) -> Tensor:
    """Another laboratory's look: stain gains and vectors, tint, gamma, and JPEG quality 70-95 for 40 % of images."""
    n = len(images)
    amounts = torch.einsum("nchw,ck->nkhw", optical_density(images), STAINS.inverse())
    gains = torch.cat([uniform(math.log(0.55), math.log(1.6), (n, 2), generator).exp(), torch.ones(n, 1)], 1)
    jitter = 0.06 * torch.randn(n, 3, 3, generator=generator)
    jitter[:, 2] = 0
    vectors = F.normalize(STAINS + jitter, dim=2)
    images = (-torch.einsum("nkhw,nkc->nchw", amounts * gains[:, :, None, None], vectors)).exp().clamp(0, 1)
    images = images * uniform(0.88, 1, (n, 3, 1, 1), generator)
    images = images ** uniform(0.85, 1.15, (n, 1, 1, 1), generator)
    quality = torch.randint(70, 96, (n,), generator=generator)
    chosen = torch.rand(n, generator=generator) < 0.4
    images = images.clone()
    for i in chosen.nonzero().flatten().tolist():
        images[i] = jpeg(images[i], int(quality[i]))
    return images


def jpeg(image: Tensor, quality: int) -> Tensor:
    """One image, compressed and read back."""
    return decode_jpeg(encode_jpeg((image * 255).round().to(torch.uint8), quality)).float() / 255


def damage(images: Tensor, without: Sequence[str], generator: Generator) -> tuple[Tensor, Tensor]:
    """A third stays clean, the rest gets one or two of :data:`DAMAGE`; with severities ``(N, 4)``, 0 for absent.

    Families in ``without`` are never shown: whether a backbone detects what it has not met is then to be measured.
    """
    n = len(images)
    number = torch.randint(3, (n,), generator=generator)
    order = torch.rand(n, len(DAMAGE), generator=generator)
    order[:, [DAMAGE.index(family) for family in without]] = 2
    rank = order.argsort(1).argsort(1)
    number = number.clamp(max=len(DAMAGE) - len(without))
    severity = torch.where(rank < number[:, None], torch.rand(n, len(DAMAGE), generator=generator), -1.0)
    images = images.clone()
    for i in range(n):
        blur, noise, impulse, compression = severity[i].tolist()
        if blur >= 0:
            sigma = 0.3 * 13**blur
            images[i] = TF.gaussian_blur(images[i], [2 * math.ceil(3 * sigma) + 1] * 2, [sigma])
        if noise >= 0:
            images[i] += 0.01 * 30**noise * torch.randn(images[i].shape, generator=generator)
        if impulse >= 0:
            draw = torch.rand(images.shape[-2:], generator=generator)
            fraction = 0.003 * 80**impulse
            images[i] = images[i].masked_fill(draw < fraction / 2, 0).masked_fill(draw > 1 - fraction / 2, 1)
        images[i].clamp_(0, 1)
        if compression >= 0:
            images[i] = jpeg(images[i], round(60 - 55 * compression))
    # Even the weakest damage is a step away from none.
    return (images * 255).round() / 255, torch.where(severity >= 0, 0.2 + 0.8 * severity, 0.0)


def haar_energies(images: Tensor) -> Tensor:
    """Log energy of horizontal, vertical and diagonal Haar details of the gray image at three levels, ``(N, 9)``."""
    gray = images.mean(1, keepdim=True)
    numbers = []
    for _ in range(3):
        corners = F.pixel_unshuffle(gray, 2)
        for signs in ((1.0, -1, 1, -1), (1.0, 1, -1, -1), (1.0, -1, -1, 1)):
            detail = torch.einsum("nchw,c->nhw", corners, torch.tensor(signs).to(images.device, non_blocking=True)) / 2
            numbers.append((detail.square().mean((1, 2)) + 1e-6).log())
        gray = corners.mean(1, keepdim=True)
    return torch.stack(numbers, 1)
