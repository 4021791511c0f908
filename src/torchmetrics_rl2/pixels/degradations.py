"""Ladders of damage: what can be wrong with a patch, in rising severity and physical units."""

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor

from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.pixels import damage as damages
from torchmetrics_rl2.pixels.batch import MIN_PX, to_8_bit
from torchmetrics_rl2.pixels.damage import Damage

__all__ = ["LADDERS", "Ladder", "degrade"]


@dataclass(frozen=True)
class Ladder:
    """One kind of damage.

    Args:
        name: What it is called.
        family: What causes it: ``focus``, ``noise``, ``impulse``, ``occlusion``, ``blank``, ``compression``,
            ``color`` or ``scale``.
        unit: What an amount is measured in.
        amount: Amount of a severity.
        severities: Severities that an audit climbs, weakest first; of a signed ladder those of one direction.
        visible: The weakest severity that a person clearly sees beside the clean patch.
        damage: Maps a float patch ``(3, H, W)`` in [0, 1] to the damaged one, given the amount.
        signed: Whether negative severities are the opposite damage.

    """

    name: str
    family: str
    unit: str
    amount: Callable[[float], float] = field(repr=False)
    severities: tuple[float, ...]
    visible: float
    damage: Damage = field(repr=False)
    signed: bool = False


def degrade(images: Tensor, ladder: str, severity: float, seed: int = 0) -> Tensor:
    """Damage a batch of patches.

    The same patch, seed and severity give the same result, in whatever batch, and the draws of one patch, such as where
    a pen stroke lies, are the same at all severities.

    Args:
        images: ``(N, 3, H, W)``, uint8, H and W at least 32 px.
        ladder: A name of :data:`LADDERS`.
        severity: 0, which changes nothing, to 1; -1 to 1 on a signed ladder.
        seed: Of the draws.

    Returns:
        ``(N, 3, H, W)``, uint8. Severity below 0 of ``magnification`` gives patches of a larger field in fewer pixels.

    Raises:
        RL2Error: If there is no such ladder.
        ValueError: If the severity is out of range, or images are not what is expected.

    Example:
        >>> import torch
        >>> from torchmetrics_rl2.pixels import LADDERS, degrade
        >>> degrade(torch.full((2, 3, 224, 224), 128, dtype=torch.uint8), "jpeg", 0.5).shape
        torch.Size([2, 3, 224, 224])
        >>> LADDERS["gaussian blur"].amount(0.25), LADDERS["gaussian blur"].unit
        (1.0, 'sigma, px')

    """
    if ladder not in LADDERS:
        raise RL2Error(f"There is no ladder {ladder!r}; known are {', '.join(LADDERS)}.")
    chosen = LADDERS[ladder]
    lowest = -1 if chosen.signed else 0
    if not lowest <= severity <= 1:
        raise ValueError(f"Severities of {ladder} go from {lowest} to 1, but got {severity}.")
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3 or min(images.shape[2:]) < MIN_PX:
        raise ValueError(
            f"Expected uint8 patches (N, 3, H, W) of at least {MIN_PX} x {MIN_PX} px, "
            f"but got {images.dtype} {tuple(images.shape)}."
        )
    if severity == 0 or len(images) == 0:
        return images.clone()
    damaged = [_degrade_one(image, chosen, severity, seed) for image in images.cpu()]
    return torch.stack(damaged).to(images.device)


def _degrade_one(image: Tensor, ladder: Ladder, severity: float, seed: int) -> Tensor:
    # Seeded by the pixels, so that neither batch nor order matters.
    own = zlib.crc32(image.contiguous().numpy().tobytes(), zlib.crc32(f"{seed} {ladder.name}".encode()))
    damaged = ladder.damage(image.float() / 255, ladder.amount(severity), Generator("cpu").manual_seed(own))
    return to_8_bit(damaged).to(torch.uint8)


def _times(most: float) -> Callable[[float], float]:
    return lambda severity: most * severity


def _of(amounts: tuple[float, ...], most: float) -> tuple[float, ...]:
    return tuple(amount / most for amount in amounts)


def _linear(
    name: str, family: str, unit: str, most: float, amounts: tuple[float, ...], visible: float, damage: Damage
) -> Ladder:
    return Ladder(name, family, unit, _times(most), _of(amounts, most), visible / most, damage)


def _signed(name: str, family: str, unit: str, most: float, visible: float, damage: Damage) -> Ladder:
    return Ladder(name, family, unit, _times(most), (0.25, 0.5, 1.0), visible / most, damage, signed=True)


LADDERS: dict[str, Ladder] = {
    ladder.name: ladder
    for ladder in (
        _linear("gaussian blur", "focus", "sigma, px", 4, (0.5, 1, 2, 4), 1, damages.gaussian_blur),
        _linear("defocus disc", "focus", "radius, px", 6, (1, 1.5, 3, 6), 1.5, damages.defocus_disc),
        _linear("motion blur", "focus", "length, px", 16, (3, 5, 8, 16), 5, damages.motion_blur),
        Ladder(
            "downsampling",
            "focus",
            "factor",
            lambda s: 8.0**s,
            (math.log(1.5, 8), 1 / 3, 2 / 3, 1.0),
            1 / 3,
            damages.downsampling,
        ),
        _linear("gaussian noise", "noise", "sd, of 1", 0.4, (0.02, 0.05, 0.1, 0.2), 0.05, damages.gaussian_noise),
        _linear("diffusion", "noise", "step of 1,000", 1000, (10, 25, 50, 100, 250), 50, damages.diffusion),
        _linear("salt and pepper", "impulse", "fraction", 0.5, (0.01, 0.02, 0.05, 0.1), 0.02, damages.salt_and_pepper),
        _linear("rectangles", "occlusion", "fraction", 0.8, (0.05, 0.1, 0.2, 0.4), 0.05, damages.rectangles),
        _linear("pen", "occlusion", "width, of the side", 0.5, (0.03, 0.06, 0.12, 0.25), 0.06, damages.pen),
        _linear("fold", "occlusion", "width, of the side", 0.5, (0.05, 0.1, 0.2, 0.4), 0.2, damages.fold),
        _linear("air bubble", "occlusion", "fraction", 0.8, (0.05, 0.1, 0.2, 0.4), 0.1, damages.bubble),
        _linear("dust", "occlusion", "fraction", 0.08, (0.0025, 0.005, 0.01, 0.02), 0.01, damages.dust),
        _linear("near blank", "blank", "density lost", 1, (0.4, 0.6, 0.8, 0.9), 0.6, damages.fading),
        _linear("blank", "blank", "fraction", 1, (0.25, 0.5, 0.75, 1), 0.75, damages.glass),
        Ladder(
            "jpeg",
            "compression",
            "quality",
            lambda s: 100 - 95 * s,
            _of((30, 50, 70, 90), 95),
            70 / 95,
            damages.jpeg,
        ),
        _signed("hematoxylin", "color", "octaves", 1, 0.5, damages.stain_gain(0)),
        _signed("eosin", "color", "octaves", 1, 0.5, damages.stain_gain(1)),
        _signed("white balance", "color", "octaves", 0.6, 0.3, damages.white_balance),
        _signed("brightness", "color", "octaves", 1, 0.5, damages.brightness),
        _signed("magnification", "scale", "octaves", 1, 0.5, damages.magnification),
    )
}
"""By name, in the order of their numbers; those of one family follow each other."""
