"""Ladders of damage: what can be wrong with a patch, in rising strength and physical units."""

import io
import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from PIL import Image
from torch import Generator, Tensor
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as TF

from torchmetrics_rl2.errors import RL2Error

__all__ = ["LADDERS", "Ladder", "degrade"]

# Optical density of haematoxylin, eosin and the residual (Ruifrok and Johnston 2001).
STAINS = F.normalize(torch.tensor([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]]), dim=1)
GLASS = torch.tensor([0.95, 0.94, 0.95]).view(3, 1, 1)
PENS = torch.tensor([[0.05, 0.05, 0.05], [0.1, 0.15, 0.55], [0.05, 0.45, 0.2], [0.7, 0.08, 0.12]])
LEAST_PX = 32

Damage = Callable[[Tensor, float, Generator], Tensor]


@dataclass(frozen=True)
class Ladder:
    """One kind of damage.

    Args:
        name: What it is called.
        family: What causes it: ``focus``, ``noise``, ``impulse``, ``occlusion``, ``blank``, ``compression``,
            ``colour`` or ``scale``.
        unit: What an amount is measured in.
        amount: Amount of a strength.
        rungs: Strengths that an audit climbs, weakest first; of a signed ladder those of one direction.
        visible: The weakest rung that a person clearly sees beside the clean patch.
        damage: Maps a float patch ``(3, H, W)`` in [0, 1] to the damaged one, given the amount.
        signed: Whether negative strengths are the opposite damage.

    """

    name: str
    family: str
    unit: str
    amount: Callable[[float], float] = field(repr=False)
    rungs: tuple[float, ...]
    visible: float
    damage: Damage = field(repr=False)
    signed: bool = False


def degrade(images: Tensor, ladder: str, strength: float, seed: int = 0) -> Tensor:
    """Damage a batch of patches.

    The same patch, seed and strength give the same result, in whatever batch, and the draws of one patch, such as where
    a pen stroke lies, are the same at all strengths.

    Args:
        images: ``(N, 3, H, W)``, uint8, H and W at least 32 px.
        ladder: A name of :data:`LADDERS`.
        strength: 0, which changes nothing, to 1; -1 to 1 on a signed ladder.
        seed: Of the draws.

    Returns:
        ``(N, 3, H, W)``, uint8. Strength below 0 of ``magnification`` gives patches of a larger field in fewer pixels.

    Raises:
        RL2Error: If there is no such ladder, the strength is out of range, or images are not what is expected.

    Example:
        >>> import torch
        >>> from torchmetrics_rl2.degradations import LADDERS, degrade
        >>> degrade(torch.full((2, 3, 224, 224), 128, dtype=torch.uint8), "jpeg", 0.5).shape
        torch.Size([2, 3, 224, 224])
        >>> LADDERS["gaussian blur"].amount(0.25), LADDERS["gaussian blur"].unit
        (1.0, 'sigma, px')

    """
    if ladder not in LADDERS:
        raise RL2Error(f"There is no ladder {ladder!r}; known are {', '.join(LADDERS)}.")
    rung = LADDERS[ladder]
    lowest = -1 if rung.signed else 0
    if not lowest <= strength <= 1:
        raise RL2Error(f"Strengths of {ladder} go from {lowest} to 1, but got {strength}.")
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3 or min(images.shape[2:]) < LEAST_PX:
        raise RL2Error(
            f"Expected uint8 patches (N, 3, H, W) of at least {LEAST_PX} x {LEAST_PX} px, "
            f"but got {images.dtype} {tuple(images.shape)}."
        )
    if strength == 0 or len(images) == 0:
        return images.clone()
    damaged = [_degrade_one(image, rung, strength, seed) for image in images.cpu()]
    return torch.stack(damaged).to(images.device)


def _degrade_one(image: Tensor, ladder: Ladder, strength: float, seed: int) -> Tensor:
    # Seeded by the pixels, so that neither batch nor order matters.
    own = zlib.crc32(image.contiguous().numpy().tobytes(), zlib.crc32(f"{seed} {ladder.name}".encode()))
    damaged = ladder.damage(image.float() / 255, ladder.amount(strength), Generator("cpu").manual_seed(own))
    return (damaged * 255).round().clamp(0, 255).to(torch.uint8)


def density(images: Tensor) -> Tensor:
    """Optical density of transmittances in [0, 1], Beer-Lambert, natural logarithm."""
    return -images.clamp(min=1 / 255).log()


def _uniform(low: float, high: float, generator: Generator, *shape: int) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=generator)


def _filter(image: Tensor, kernel: Tensor) -> Tensor:
    reach = kernel.shape[-1] // 2
    padded = F.pad(image[:, None], (reach,) * 4, mode="reflect")
    filtered: Tensor = F.conv2d(padded, (kernel / kernel.sum())[None, None])
    return filtered[:, 0]


def _resize(image: Tensor, size: list[int]) -> Tensor:
    resized: Tensor = TF.resize(image, size, antialias=True)
    return resized


def _gaussian_blur(image: Tensor, sigma: float, _: Generator) -> Tensor:
    blurred: Tensor = TF.gaussian_blur(image, [2 * math.ceil(4 * sigma) + 1] * 2, [sigma])
    return blurred


def _defocus_disc(image: Tensor, radius: float, _: Generator) -> Tensor:
    reach = math.ceil(radius)
    axis = torch.arange(-reach, reach + 1.0)
    # The edge of the disc is antialiased over one pixel, so that small radii differ.
    return _filter(image, (radius + 0.5 - torch.hypot(axis[:, None], axis)).clamp(0, 1))


def _motion_blur(image: Tensor, length: float, generator: Generator) -> Tensor:
    reach = math.ceil(length / 2)
    angle = float(_uniform(0, math.pi, generator))
    axis = torch.arange(-reach, reach + 1.0)
    along = axis[:, None] * math.sin(angle) + axis * math.cos(angle)
    across = axis[:, None] * math.cos(angle) - axis * math.sin(angle)
    return _filter(image, (1 - across.abs()).clamp(min=0) * (length / 2 + 0.5 - along.abs()).clamp(0, 1))


def _down_and_up(image: Tensor, factor: float, _: Generator) -> Tensor:
    size = list(image.shape[1:])
    return _resize(_resize(image, [max(1, round(side / factor)) for side in size]), size)


def _gaussian_noise(image: Tensor, sd: float, generator: Generator) -> Tensor:
    return image + sd * torch.randn(image.shape, generator=generator)


def _diffusion(image: Tensor, step: float, generator: Generator) -> Tensor:
    """Forward process of DDPM (Ho et al. 2020): linear schedule, 1,000 steps, images in [-1, 1]."""
    kept = float((1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64))[: round(step)].prod())
    noised = math.sqrt(kept) * (2 * image - 1) + math.sqrt(1 - kept) * torch.randn(image.shape, generator=generator)
    return (noised + 1) / 2


def _salt_and_pepper(image: Tensor, fraction: float, generator: Generator) -> Tensor:
    draw = torch.rand(image.shape[1:], generator=generator)
    return image.masked_fill(draw < fraction / 2, 0).masked_fill(draw > 1 - fraction / 2, 1)


def _rectangles(image: Tensor, fraction: float, generator: Generator) -> Tensor:
    """Five black rectangles (Heusel et al. 2017) of the image's aspect, which may overlap."""
    image = image.clone()
    rows, columns = (round(side * math.sqrt(fraction / 5)) for side in image.shape[1:])
    for down, right in torch.rand(5, 2, generator=generator).tolist():
        top, left = round(down * (image.shape[1] - rows)), round(right * (image.shape[2] - columns))
        image[:, top : top + rows, left : left + columns] = 0
    return image


def _distance_to_line(image: Tensor, generator: Generator, bend: float) -> Tensor:
    """Distance of each pixel from a line through the middle third, in shares of the shorter side, ``(H, W)``."""
    height, width = image.shape[1:]
    side = min(height, width)
    y, x = torch.meshgrid(torch.arange(height) / side, torch.arange(width) / side, indexing="ij")
    centre = _uniform(1 / 3, 2 / 3, generator, 2)
    angle, phase = float(_uniform(0, math.pi, generator)), float(_uniform(0, 2 * math.pi, generator))
    y, x = y - centre[0] * height / side, x - centre[1] * width / side
    along = x * math.cos(angle) + y * math.sin(angle)
    across = y * math.cos(angle) - x * math.sin(angle)
    return (across + bend * torch.sin(3 * along + phase)).abs()


def _soft(inside: Tensor, image: Tensor) -> Tensor:
    """Opacity of a shape from the depth of a pixel inside it, in shares of the side, antialiased over two pixels."""
    return (0.5 + inside * min(image.shape[1:]) / 2).clamp(0, 1)


def _pen(image: Tensor, width: float, generator: Generator) -> Tensor:
    ink = PENS[int(torch.randint(len(PENS), (), generator=generator))].view(3, 1, 1)
    stroke = _soft(width / 2 - _distance_to_line(image, generator, 0.08), image)
    opacity = float(_uniform(0.75, 0.95, generator)) * stroke
    return image * (1 - opacity) + ink * opacity


def _fold(image: Tensor, width: float, generator: Generator) -> Tensor:
    """Tissue over tissue: the densities of a band and of its mirrored neighbourhood add up."""
    band = _soft(width / 2 - _distance_to_line(image, generator, 0.04), image)
    return (-(density(image) + band * density(image.flip(1, 2)))).exp()


def _bubble(image: Tensor, fraction: float, generator: Generator) -> Tensor:
    """A disc of air: soft and pale inside, dark at its rim."""
    height, width = image.shape[1:]
    side = min(height, width)
    radius = math.sqrt(fraction * height * width / math.pi) / side
    y, x = torch.meshgrid(torch.arange(height) / side, torch.arange(width) / side, indexing="ij")
    centre = _uniform(0.25, 0.75, generator, 2)
    depth = radius - torch.hypot(y - centre[0] * height / side, x - centre[1] * width / side)
    inside, rim = _soft(depth, image), (1 - depth.abs() / 0.015).clamp(0, 1)
    pale = 0.7 * _gaussian_blur(image, 2, generator) + 0.3 * GLASS
    return (image * (1 - inside) + pale * inside) * (1 - 0.75 * rim)


def _dust(image: Tensor, fraction: float, generator: Generator) -> Tensor:
    """Dark specks of 1 to 3 % of the side, in a fixed order, until they cover the fraction."""
    height, width = image.shape[1:]
    side = min(height, width)
    y, x = torch.meshgrid(torch.arange(height) / side, torch.arange(width) / side, indexing="ij")
    covered = torch.zeros(height, width)
    while covered.mean() < fraction:
        down, right, size, shade = torch.rand(4, generator=generator).tolist()
        radius = 0.005 + 0.01 * size
        speck = _soft(radius - torch.hypot(y - down * height / side, x - right * width / side), image)
        image = image * (1 - (0.7 + 0.25 * shade) * speck)
        covered = torch.maximum(covered, speck)
    return image


def _fading(image: Tensor, loss: float, _: Generator) -> Tensor:
    return (-(1 - loss) * density(image / GLASS)).exp() * GLASS


def _glass(image: Tensor, fraction: float, generator: Generator) -> Tensor:
    """Empty glass on one side of a ragged edge; the densities of what is there are lost."""
    height, width = image.shape[1:]
    angle = float(_uniform(0, 2 * math.pi, generator))
    axes = torch.linspace(-1, 1, height)[:, None], torch.linspace(-1, 1, width)
    ragged = F.interpolate(torch.randn(1, 1, 8, 8, generator=generator), (height, width), mode="bicubic")[0, 0]
    edge = axes[0] * math.sin(angle) + axes[1] * math.cos(angle) + 0.05 * ragged
    if fraction < 1:
        return torch.where(edge <= edge.flatten().quantile(fraction), GLASS, image)
    return GLASS.expand_as(image) + 0.004 * torch.randn(image.shape, generator=generator)


def _jpeg(image: Tensor, quality: float, _: Generator) -> Tensor:
    buffer = io.BytesIO()
    TF.to_pil_image((image * 255).round().to(torch.uint8)).save(buffer, "JPEG", quality=round(quality))
    decoded: Tensor = TF.pil_to_tensor(Image.open(buffer))
    return decoded.float() / 255


def _stain_gain(stain: int) -> Damage:
    def damage(image: Tensor, octaves: float, _: Generator) -> Tensor:
        amounts = torch.einsum("chw,ck->khw", density(image), STAINS.inverse())
        # The residual and negative amounts, which separation makes of glass, are left as they are.
        amounts[stain] = torch.where(amounts[stain] > 0, amounts[stain] * 2**octaves, amounts[stain])
        return (-torch.einsum("khw,kc->chw", amounts, STAINS)).exp()

    return damage


def _white_balance(image: Tensor, octaves: float, _: Generator) -> Tensor:
    """Towards red above 0, towards blue below: the gains of the two differ by so many octaves."""
    gains = torch.tensor([octaves / 2, 0, -octaves / 2])
    return image * 2 ** (gains - gains.max()).view(3, 1, 1)


def _brightness(image: Tensor, octaves: float, _: Generator) -> Tensor:
    """The exponent of a gamma curve, which keeps black and white where they are."""
    return image ** (2**-octaves)


def _magnification(image: Tensor, octaves: float, _: Generator) -> Tensor:
    """Above 0 the middle, enlarged to the same size; below 0 all of it, in fewer pixels."""
    size = list(image.shape[1:])
    if octaves > 0:
        image = TF.center_crop(image, [round(side * 2**-octaves) for side in size])
        return _resize(image, size)
    return _resize(image, [round(side * 2**octaves) for side in size])


def _times(most: float) -> Callable[[float], float]:
    return lambda strength: most * strength


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
        _linear("gaussian blur", "focus", "sigma, px", 4, (0.5, 1, 2, 4), 1, _gaussian_blur),
        _linear("defocus disc", "focus", "radius, px", 6, (1, 1.5, 3, 6), 1.5, _defocus_disc),
        _linear("motion blur", "focus", "length, px", 16, (3, 5, 8, 16), 5, _motion_blur),
        Ladder(
            "down and up",
            "focus",
            "factor",
            lambda s: 8.0**s,
            (math.log(1.5, 8), 1 / 3, 2 / 3, 1.0),
            1 / 3,
            _down_and_up,
        ),
        _linear("gaussian noise", "noise", "sd, of 1", 0.4, (0.02, 0.05, 0.1, 0.2), 0.05, _gaussian_noise),
        _linear("diffusion", "noise", "step of 1,000", 1000, (10, 25, 50, 100, 250), 50, _diffusion),
        _linear("salt and pepper", "impulse", "fraction", 0.5, (0.01, 0.02, 0.05, 0.1), 0.02, _salt_and_pepper),
        _linear("rectangles", "occlusion", "fraction", 0.8, (0.05, 0.1, 0.2, 0.4), 0.05, _rectangles),
        _linear("pen", "occlusion", "width, of the side", 0.5, (0.03, 0.06, 0.12, 0.25), 0.06, _pen),
        _linear("fold", "occlusion", "width, of the side", 0.5, (0.05, 0.1, 0.2, 0.4), 0.2, _fold),
        _linear("air bubble", "occlusion", "fraction", 0.8, (0.05, 0.1, 0.2, 0.4), 0.1, _bubble),
        _linear("dust", "occlusion", "fraction", 0.08, (0.0025, 0.005, 0.01, 0.02), 0.01, _dust),
        _linear("near blank", "blank", "density lost", 1, (0.4, 0.6, 0.8, 0.9), 0.6, _fading),
        _linear("blank", "blank", "fraction", 1, (0.25, 0.5, 0.75, 1), 0.75, _glass),
        Ladder(
            "jpeg",
            "compression",
            "quality",
            lambda s: 100 - 95 * s,
            _of((30, 50, 70, 90), 95),
            70 / 95,
            _jpeg,
        ),
        _signed("haematoxylin", "colour", "octaves", 1, 0.5, _stain_gain(0)),
        _signed("eosin", "colour", "octaves", 1, 0.5, _stain_gain(1)),
        _signed("white balance", "colour", "octaves", 0.6, 0.3, _white_balance),
        _signed("brightness", "colour", "octaves", 1, 0.5, _brightness),
        _signed("magnification", "scale", "octaves", 1, 0.5, _magnification),
    )
}
"""By name, in the order of their numbers; those of one family follow each other."""
