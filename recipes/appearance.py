"""What the trunk learns to ignore, to notice and to report: stain and compression, damage, image statistics.

All functions take and return float batches ``(N, 3, H, W)`` in [0, 1] and draw from the given generator alone.
"""

import math

import torch
from torch import Generator, Tensor
from torch.nn import functional as F
from torchvision.io import decode_jpeg, encode_jpeg
from torchvision.transforms.v2 import functional as TF

# Optical density of haematoxylin, eosin and the residual (Ruifrok and Johnston 2001).
STAINS = torch.tensor([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
DAMAGE = ("blur", "noise", "impulse", "jpeg")


def uniform(low: float, high: float, shape: tuple[int, ...], generator: Generator) -> Tensor:
    """Uniform draws from [low, high)."""
    return low + (high - low) * torch.rand(shape, generator=generator)


def crops(tiles: Tensor, px: int, count: int, generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Windows of ``px * 2^u`` pixels, |u| <= 0.75, resized to ``px``, flipped and transposed; with tile index and u."""
    index = torch.randint(len(tiles), (count,), generator=generator)
    scale = uniform(-0.75, 0.75, (count,), generator)
    batch = []
    for i, u in zip(index.tolist(), scale.tolist(), strict=True):
        side = round(px * 2**u)
        top, left = (int(torch.randint(tiles.shape[-1] - side + 1, (), generator=generator)) for _ in range(2))
        window = tiles[i, :, top : top + side, left : left + side]
        window = TF.resize(window, [px, px], antialias=True)
        flips = torch.rand(3, generator=generator) < 0.5
        window = window.flip([axis for axis, flip in zip((1, 2), flips[:2].tolist(), strict=True) if flip])
        batch.append(window.transpose(1, 2) if flips[2] else window)
    return torch.stack(batch).float() / 255, index, scale


def restain(images: Tensor, generator: Generator) -> Tensor:
    """Another laboratory's look: stain gains and vectors, tint, gamma, and JPEG quality 70-95 for 40 % of images."""
    n = len(images)
    density = -images.clamp(min=1 / 255).log()
    amounts = torch.einsum("nchw,ck->nkhw", density, F.normalize(STAINS, dim=1).inverse())
    gains = torch.cat([uniform(math.log(0.55), math.log(1.6), (n, 2), generator).exp(), torch.ones(n, 1)], 1)
    jitter = 0.06 * torch.randn(n, 3, 3, generator=generator)
    jitter[:, 2] = 0
    vectors = F.normalize(F.normalize(STAINS, dim=1) + jitter, dim=2)
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


def damage(images: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
    """A third stays clean, the rest gets one or two of :data:`DAMAGE`; with strengths ``(N, 4)``, 0 for absent."""
    n = len(images)
    number = torch.randint(3, (n,), generator=generator)
    rank = torch.rand(n, len(DAMAGE), generator=generator).argsort(1).argsort(1)
    strength = torch.where(rank < number[:, None], torch.rand(n, len(DAMAGE), generator=generator), -1.0)
    images = images.clone()
    for i in range(n):
        blur, noise, impulse, compression = strength[i].tolist()
        if blur >= 0:
            sigma = 0.4 * 10**blur
            images[i] = TF.gaussian_blur(images[i], [2 * math.ceil(3 * sigma) + 1] * 2, [sigma])
        if noise >= 0:
            images[i] += 0.015 * 20**noise * torch.randn(images[i].shape, generator=generator)
        if impulse >= 0:
            draw = torch.rand(images.shape[-2:], generator=generator)
            fraction = 0.004 * 60**impulse
            images[i] = images[i].masked_fill(draw < fraction / 2, 0).masked_fill(draw > 1 - fraction / 2, 1)
        images[i].clamp_(0, 1)
        if compression >= 0:
            images[i] = jpeg(images[i], round(50 - 45 * compression))
    # Even the weakest damage is a step away from none.
    return (images * 255).round() / 255, torch.where(strength >= 0, 0.2 + 0.8 * strength, 0.0)


def statistics(images: Tensor) -> Tensor:
    """Fifteen hand-made numbers an image, ``(N, 15)``: sharpness, optical density, saturation, white and black."""
    kernel = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]]).view(1, 1, 3, 3)
    grey = images.mean(1, keepdim=True)
    numbers = []
    for size in (1, 2, 4):
        edges = F.conv2d(F.avg_pool2d(grey, size), kernel).flatten(1)
        edges = edges - edges.mean(1, keepdim=True)
        variance = edges.square().mean(1)
        numbers += [(variance + 1e-6).log(), ((edges**4).mean(1) / (variance.square() + 1e-12)).log1p()]
    density = -images.clamp(min=1 / 255).log()
    numbers += [*density.mean((2, 3)).T, *density.std((2, 3)).T]
    numbers.append((images.amax(1) - images.amin(1)).mean((1, 2)))
    numbers += [
        ((grey > 0.9).float().mean((1, 2, 3)) + 1e-3).log(),
        ((grey < 0.1).float().mean((1, 2, 3)) + 1e-3).log(),
    ]
    return torch.stack(numbers, 1)
