"""The stain of a set of patches in six numbers, and patches brought from one stain to another."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from torchmetrics_rl2.pixels.batch import to_8_bit
from torchmetrics_rl2.pixels.density import optical_density, quantile
from torchmetrics_rl2.pixels.tissue import MIN_DENSITY, foreign

__all__ = ["Stain", "restain", "stain_of"]

# The lightest share of all pixels is glass, unless it is denser than any glass.
WHITE, MAX_WHITE = 0.02, 0.3
SAMPLE = 4096
GAINS = (0.4, 2.5)
SHIFT = 0.4


@dataclass(frozen=True)
class Stain:
    """Optical densities of red, green and blue, natural logarithm.

    Args:
        white: Of the lightest 2 % of all pixels, which is glass, or lumen.
        tissue: Mean over pixels that are tissue.

    """

    white: tuple[float, float, float]
    tissue: tuple[float, float, float]


def stain_of(batches: Iterable[Tensor], white: tuple[float, float, float] | None = None) -> Stain:
    """Stain of patches, from up to 4,096 pixels of each, spread evenly over it; of those alone that a stain can make.

    Args:
        batches: uint8 ``(N, 3, H, W)``.
        white: Optical density of glass, where it is known, as of the slide that they are from.

    """
    pixels = []
    for images in batches:
        numbers = images.float() / 255
        ours = ~foreign(numbers, white or (0.0, 0.0, 0.0))
        pixels.append(sampled(images)[:, sampled(ours[:, None])[0]].cpu())
    density = optical_density(torch.cat(pixels, 1).double() / 255) + 0.0
    if density.shape[1] == 0:
        glass = three(white or (0.0, 0.0, 0.0))
        return Stain(glass, glass)
    lightest = [min(MAX_WHITE, quantile(channel, WHITE)) for channel in density]
    glass = three(lightest if white is None else white)
    tissue = density[:, (density - density.new_tensor(glass)[:, None]).mean(0) > MIN_DENSITY]
    return Stain(glass, three(tissue.mean(1).tolist()) if tissue.shape[1] else glass)


def sampled(images: Tensor) -> Tensor:
    """Up to 4,096 pixels of each of ``(N, C, H, W)``, spread evenly over it, ``(C, n)``."""
    flat = images.flatten(2)
    return flat[:, :, :: max(1, flat.shape[2] // SAMPLE)].movedim(1, 0).flatten(1)


def three(values: Sequence[float]) -> tuple[float, float, float]:
    """Red, green and blue."""
    red, green, blue = map(float, values)
    return red, green, blue


def restain(images: Tensor, before: Stain, after: Stain) -> Tensor:
    r"""Patches of one stain as if of another: densities of white and of mean tissue become those of the other.

    .. math:: d' = (d - w) \frac{t' - w'}{t - w} + w'

    for the optical density :math:`d` of each color. Gains stay within 0.4 and 2.5, so that empty patches do not turn
    into tissue.

    Args:
        images: uint8 ``(N, 3, H, W)``.
        before: Their stain :math:`w, t`, of the slide that they are from.
        after: The stain :math:`w', t'` that they are to have.

    Returns:
        uint8 ``(N, 3, H, W)``.

    """
    white, tissue, to_white, to_tissue = (
        torch.tensor(values, device=images.device).view(3, 1, 1)
        for values in (before.white, before.tissue, after.white, after.tissue)
    )
    gain = ((to_tissue - to_white).clamp(min=0.02) / (tissue - white).clamp(min=0.02)).clamp(*GAINS)
    shifted = white + (to_white - white).clamp(-SHIFT, SHIFT)
    density = (optical_density(images.float() / 255) - white) * gain + shifted
    return to_8_bit((-density).exp()).to(torch.uint8)
