"""The twenty kinds of damage, each a function of a patch and an amount."""

import io
import math
from collections.abc import Callable

import torch
from PIL import Image
from torch import Generator, Tensor
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as TF

from torchmetrics_rl2.pixels.density import optical_density

__all__ = []

# Optical density of hematoxylin, eosin and the residual (Ruifrok and Johnston 2001).
STAINS = F.normalize(torch.tensor([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]]), dim=1)
GLASS = torch.tensor([0.95, 0.94, 0.95]).view(3, 1, 1)
PENS = torch.tensor([[0.05, 0.05, 0.05], [0.1, 0.15, 0.55], [0.05, 0.45, 0.2], [0.7, 0.08, 0.12]])

Damage = Callable[[Tensor, float, Generator], Tensor]


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


def gaussian_blur(image: Tensor, sigma: float, _: Generator) -> Tensor:
    blurred: Tensor = TF.gaussian_blur(image, [2 * math.ceil(4 * sigma) + 1] * 2, [sigma])
    return blurred


def defocus_disc(image: Tensor, radius: float, _: Generator) -> Tensor:
    reach = math.ceil(radius)
    axis = torch.arange(-reach, reach + 1.0)
    # The edge of the disc is antialiased over one pixel, so that small radii differ.
    return _filter(image, (radius + 0.5 - torch.hypot(axis[:, None], axis)).clamp(0, 1))


def motion_blur(image: Tensor, length: float, generator: Generator) -> Tensor:
    reach = math.ceil(length / 2)
    angle = float(_uniform(0, math.pi, generator))
    axis = torch.arange(-reach, reach + 1.0)
    along = axis[:, None] * math.sin(angle) + axis * math.cos(angle)
    across = axis[:, None] * math.cos(angle) - axis * math.sin(angle)
    return _filter(image, (1 - across.abs()).clamp(min=0) * (length / 2 + 0.5 - along.abs()).clamp(0, 1))


def downsampling(image: Tensor, factor: float, _: Generator) -> Tensor:
    size = list(image.shape[1:])
    return _resize(_resize(image, [max(1, round(side / factor)) for side in size]), size)


def gaussian_noise(image: Tensor, sd: float, generator: Generator) -> Tensor:
    return image + sd * torch.randn(image.shape, generator=generator)


def diffusion(image: Tensor, step: float, generator: Generator) -> Tensor:
    """Forward process of DDPM (Ho et al. 2020): linear schedule, 1,000 steps, images in [-1, 1]."""
    kept = float((1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64))[: round(step)].prod())
    noised = math.sqrt(kept) * (2 * image - 1) + math.sqrt(1 - kept) * torch.randn(image.shape, generator=generator)
    return (noised + 1) / 2


def salt_and_pepper(image: Tensor, fraction: float, generator: Generator) -> Tensor:
    draw = torch.rand(image.shape[1:], generator=generator)
    return image.masked_fill(draw < fraction / 2, 0).masked_fill(draw > 1 - fraction / 2, 1)


def rectangles(image: Tensor, fraction: float, generator: Generator) -> Tensor:
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
    center = _uniform(1 / 3, 2 / 3, generator, 2)
    angle, phase = float(_uniform(0, math.pi, generator)), float(_uniform(0, 2 * math.pi, generator))
    y, x = y - center[0] * height / side, x - center[1] * width / side
    along = x * math.cos(angle) + y * math.sin(angle)
    across = y * math.cos(angle) - x * math.sin(angle)
    return (across + bend * torch.sin(3 * along + phase)).abs()


def _soft(inside: Tensor, image: Tensor) -> Tensor:
    """Opacity of a shape from the depth of a pixel inside it, in shares of the side, antialiased over two pixels."""
    return (0.5 + inside * min(image.shape[1:]) / 2).clamp(0, 1)


def pen(image: Tensor, width: float, generator: Generator) -> Tensor:
    ink = PENS[int(torch.randint(len(PENS), (), generator=generator))].view(3, 1, 1)
    stroke = _soft(width / 2 - _distance_to_line(image, generator, 0.08), image)
    opacity = float(_uniform(0.75, 0.95, generator)) * stroke
    return image * (1 - opacity) + ink * opacity


def fold(image: Tensor, width: float, generator: Generator) -> Tensor:
    """Tissue over tissue: the densities of a band and of its mirrored neighborhood add up."""
    band = _soft(width / 2 - _distance_to_line(image, generator, 0.04), image)
    return (-(optical_density(image) + band * optical_density(image.flip(1, 2)))).exp()


def bubble(image: Tensor, fraction: float, generator: Generator) -> Tensor:
    """A disc of air: soft and pale inside, dark at its rim."""
    height, width = image.shape[1:]
    side = min(height, width)
    radius = math.sqrt(fraction * height * width / math.pi) / side
    y, x = torch.meshgrid(torch.arange(height) / side, torch.arange(width) / side, indexing="ij")
    center = _uniform(0.25, 0.75, generator, 2)
    depth = radius - torch.hypot(y - center[0] * height / side, x - center[1] * width / side)
    inside, rim = _soft(depth, image), (1 - depth.abs() / 0.015).clamp(0, 1)
    pale = 0.7 * gaussian_blur(image, 2, generator) + 0.3 * GLASS
    return (image * (1 - inside) + pale * inside) * (1 - 0.75 * rim)


def dust(image: Tensor, fraction: float, generator: Generator) -> Tensor:
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


def fading(image: Tensor, loss: float, _: Generator) -> Tensor:
    return (-(1 - loss) * optical_density(image / GLASS)).exp() * GLASS


def glass(image: Tensor, fraction: float, generator: Generator) -> Tensor:
    """Empty glass on one side of a ragged edge; the densities of what is there are lost."""
    height, width = image.shape[1:]
    angle = float(_uniform(0, 2 * math.pi, generator))
    axes = torch.linspace(-1, 1, height)[:, None], torch.linspace(-1, 1, width)
    ragged = F.interpolate(torch.randn(1, 1, 8, 8, generator=generator), (height, width), mode="bicubic")[0, 0]
    edge = axes[0] * math.sin(angle) + axes[1] * math.cos(angle) + 0.05 * ragged
    if fraction < 1:
        return torch.where(edge <= edge.flatten().quantile(fraction), GLASS, image)
    return GLASS.expand_as(image) + 0.004 * torch.randn(image.shape, generator=generator)


def jpeg(image: Tensor, quality: float, _: Generator) -> Tensor:
    buffer = io.BytesIO()
    TF.to_pil_image((image * 255).round().to(torch.uint8)).save(buffer, "JPEG", quality=round(quality))
    decoded: Tensor = TF.pil_to_tensor(Image.open(buffer))
    return decoded.float() / 255


def stain_gain(stain: int) -> Damage:
    def damage(image: Tensor, octaves: float, _: Generator) -> Tensor:
        amounts = torch.einsum("chw,ck->khw", optical_density(image), STAINS.inverse())
        # The residual and negative amounts, which separation makes of glass, are left as they are.
        amounts[stain] = torch.where(amounts[stain] > 0, amounts[stain] * 2**octaves, amounts[stain])
        return (-torch.einsum("khw,kc->chw", amounts, STAINS)).exp()

    return damage


def white_balance(image: Tensor, octaves: float, _: Generator) -> Tensor:
    """Towards red above 0, towards blue below: the gains of the two differ by so many octaves."""
    gains = torch.tensor([octaves / 2, 0, -octaves / 2])
    return image * 2 ** (gains - gains.max()).view(3, 1, 1)


def brightness(image: Tensor, octaves: float, _: Generator) -> Tensor:
    """The exponent of a gamma curve, which keeps black and white where they are."""
    return image ** (2**-octaves)


def magnification(image: Tensor, octaves: float, _: Generator) -> Tensor:
    """Above 0 the middle, enlarged to the same size; below 0 all of it, in fewer pixels."""
    size = list(image.shape[1:])
    if octaves > 0:
        image = TF.center_crop(image, [round(side * 2**-octaves) for side in size])
        return _resize(image, size)
    return _resize(image, [round(side * 2**octaves) for side in size])
