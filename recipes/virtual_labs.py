"""Virtual laboratories: real crops under a stain, scanner and compression of their own, and damage to some of them.

Everything works on batches ``(N, 3, H, W)`` in [0, 1], on any device, and draws from the given generator alone.
"""

import math

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from torchmetrics_rl2.pixels import optical_density
from torchmetrics_rl2.pixels.batch import to_8_bit
from torchmetrics_rl2.pixels.damage import GLASS, STAINS

FAMILIES = ("focus", "noise", "impulse", "compression", "occlusion", "blank", "color")
"""Damage that is done to crops; a change of scale comes with the crop."""

OFTEN = (2.0, 1.5, 0.5, 2.0, 2.0, 0.7, 1.5)

REACH = 16
LUMINANCE = (
    *(16, 11, 10, 16, 24, 40, 51, 61),
    *(12, 12, 14, 19, 26, 58, 60, 55),
    *(14, 13, 16, 24, 40, 57, 69, 56),
    *(14, 17, 22, 29, 51, 87, 80, 62),
    *(18, 22, 37, 56, 68, 109, 103, 77),
    *(24, 35, 55, 64, 81, 104, 113, 92),
    *(49, 64, 78, 87, 103, 121, 120, 101),
    *(72, 92, 95, 98, 112, 100, 103, 99),
)
CHROMINANCE = (
    *(17, 18, 24, 47, 99, 99, 99, 99),
    *(18, 21, 26, 66, 99, 99, 99, 99),
    *(24, 26, 56, 99, 99, 99, 99, 99),
    *(47, 66, 99, 99, 99, 99, 99, 99),
    *(99, 99, 99, 99, 99, 99, 99, 99),
    *(99, 99, 99, 99, 99, 99, 99, 99),
    *(99, 99, 99, 99, 99, 99, 99, 99),
    *(99, 99, 99, 99, 99, 99, 99, 99),
)


class Draws:
    """Random numbers on a device; those of ``plan`` are on the CPU, so that what is decided by them waits for none."""

    def __init__(self, device: torch.device, seed: int) -> None:
        self.device = device
        self.generator = Generator(device).manual_seed(seed)
        self.plan = self if device.type == "cpu" else Draws(torch.device("cpu"), seed)

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """From [low, high)."""
        return low + (high - low) * torch.rand(shape, generator=self.generator, device=self.device)

    def normal(self, *shape: int) -> Tensor:
        """Standard normal."""
        return torch.randn(shape, generator=self.generator, device=self.device)

    def integers(self, below: int, *shape: int) -> Tensor:
        """From 0 to below - 1."""
        return torch.randint(below, shape, generator=self.generator, device=self.device)

    def chosen(self, share: float, *shape: int) -> Tensor:
        """True with this probability."""
        return self.uniform(0, 1, *shape) < share


def rounded(images: Tensor) -> Tensor:
    """Clamped to [0, 1], and rounded as an image file is."""
    return to_8_bit(images) / 255


def on(numbers: Tensor, images: Tensor) -> Tensor:
    """Where the images are; without waiting for what is computed there."""
    return numbers.to(images.device, non_blocking=True)


def view(numbers: Tensor) -> Tensor:
    """One number an image, to multiply images with."""
    return numbers.view(-1, 1, 1, 1)


def jpeg(images: Tensor, quality: Tensor) -> Tensor:
    """Compressed and read back as by libjpeg, colors at half the resolution; ``quality`` ``(N,)``, 1 to 100."""
    height, width = images.shape[2:]
    pixels = F.pad(images * 255, (0, -width % 16, 0, -height % 16), mode="replicate")
    red, green, blue = pixels.unbind(1)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    planes = [luma, (blue - luma) * 0.564 + 128, (red - luma) * 0.713 + 128]
    factor = torch.where(quality < 50, 5000 / quality, 200 - 2 * quality)
    decoded = []
    for number, (plane, steps) in enumerate(zip(planes, (LUMINANCE, CHROMINANCE, CHROMINANCE), strict=True)):
        table = on(torch.tensor(steps, dtype=images.dtype), images).view(1, 8, 8)
        table = ((table * factor.view(-1, 1, 1) + 50) / 100).floor().clamp(1, 255)
        small = F.avg_pool2d(plane[:, None], 2)[:, 0] if number else plane
        restored = _quantized(small.round(), table)
        if number:
            restored = F.interpolate(restored[:, None], scale_factor=2, mode="bilinear")[:, 0]
        decoded.append(restored[:, :height, :width])
    luma, blue, red = decoded[0], decoded[1] - 128, decoded[2] - 128
    colors = torch.stack([luma + 1.402 * red, luma - 0.344136 * blue - 0.714136 * red, luma + 1.772 * blue], 1)
    return rounded(colors / 255)


def _quantized(plane: Tensor, table: Tensor) -> Tensor:
    """A plane ``(N, H, W)`` after the discrete cosine transform of its blocks was rounded to steps ``(N, 8, 8)``."""
    n, height, width = plane.shape
    k = torch.arange(8, device=plane.device, dtype=plane.dtype)
    basis = torch.cos((2 * k + 1) * k[:, None] * math.pi / 16) / 2
    basis[0] /= math.sqrt(2)
    blocks = (plane - 128).view(n, height // 8, 8, width // 8, 8).transpose(2, 3)
    steps = table[:, None, None]
    rounded = ((basis @ blocks @ basis.T) / steps).round() * steps
    return ((basis.T @ rounded @ basis).transpose(2, 3).reshape(n, height, width) + 128).round().clamp(0, 255)


def stained(images: Tensor, gains: Tensor, jitter: Tensor) -> Tensor:
    """Hematoxylin and eosin times ``exp(gains)`` ``(N, 2)``, their vectors moved by ``jitter`` ``(N, 2, 3)``."""
    stains = on(STAINS, images)
    amounts = torch.einsum("nchw,ck->nkhw", optical_density(images), on(STAINS.inverse(), images))
    scale = torch.cat([gains.exp(), torch.ones_like(gains[:, :1])], 1)
    vectors = F.normalize(stains + torch.cat([jitter, torch.zeros_like(jitter[:, :1])], 1), dim=2)
    return (-torch.einsum("nkhw,nkc->nchw", amounts * scale[:, :, None, None], vectors)).exp().clamp(0, 1)


def restain(images: Tensor, labs: int, draws: Draws) -> Tensor:
    """Crops, in equal runs one lab after the other, as each lab would have stained, scanned and stored them.

    Gains, vectors, tint, gamma and JPEG quality are those of the lab; a crop varies a little about them. A quarter of
    the labs change nothing.
    """
    n = len(images)
    each = n // labs

    def of_lab(numbers: Tensor) -> Tensor:
        return numbers.repeat_interleave(each, 0)

    changed = of_lab(draws.chosen(0.75, labs))
    gains = of_lab(draws.uniform(math.log(0.55), math.log(1.6), labs, 2)) + 0.05 * draws.normal(n, 2)
    seen = stained(images, gains, of_lab(0.06 * draws.normal(labs, 2, 3)))
    seen = seen * of_lab(draws.uniform(0.88, 1, labs, 3)).view(n, 3, 1, 1)
    seen = seen ** view(of_lab(draws.uniform(-0.25, 0.25, labs)).exp2())
    images = rounded(torch.where(view(changed), seen, images))
    compressed = on(of_lab(draws.plan.chosen(0.4, labs)).nonzero().flatten(), images)
    quality = of_lab(70 + draws.integers(29, labs)).to(images.dtype)
    images[compressed] = jpeg(images[compressed], quality[compressed])
    return images


def damage(images: Tensor, number: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
    """Damage crops by ``number`` ``(N,)`` of the :data:`FAMILIES`; with severities ``(N, 7)``, 0 for absent."""
    shape = (len(images), len(FAMILIES))
    # The first to arrive, at these rates.
    arrival = -draws.plan.uniform(0, 1, *shape).clamp(min=1e-9).log() / torch.tensor(OFTEN)
    rank = arrival.argsort(1).argsort(1)
    severity = torch.where(rank < number[:, None], draws.plan.uniform(0, 1, *shape), -1.0)
    images = images.clone()
    for family in ("color", "blank", "occlusion", "focus", "noise", "impulse", "compression"):
        of_family = severity[:, FAMILIES.index(family)]
        rows = (of_family >= 0).nonzero().flatten()
        if len(rows):
            amounts, rows = on(of_family[rows], images), on(rows, images)
            images[rows] = rounded(_DAMAGE[family](images[rows], amounts, draws))
    # Even the weakest damage is a step away from none.
    return images, on(torch.where(severity >= 0, 0.2 + 0.8 * severity, 0.0), images)


def focus(images: Tensor, severity: Tensor, draws: Draws) -> Tensor:
    """A Gaussian, or the disc of a lens, by their spectra."""
    axis = torch.arange(-REACH, REACH + 1.0, device=images.device)
    distance = torch.hypot(axis[:, None], axis)
    sigma = view(0.3 * 13**severity)[:, 0]
    radius = view(0.7 * 9**severity)[:, 0]
    disc = draws.chosen(0.4, len(images)).view(-1, 1, 1)
    kernel = torch.where(disc, (radius + 0.5 - distance).clamp(0, 1), (-(distance**2) / (2 * sigma**2)).exp())
    kernel = kernel / kernel.sum((1, 2), keepdim=True)
    padded = F.pad(images, (REACH,) * 4, mode="reflect")
    size = list(padded.shape[2:])
    spectrum = torch.fft.rfft2(kernel, s=size)[:, None] * torch.fft.rfft2(padded)
    height, width = images.shape[2:]
    # A kernel in the corner moves the image by its reach.
    return torch.fft.irfft2(spectrum, s=size)[:, :, 2 * REACH :, 2 * REACH :][:, :, :height, :width]


def noise(images: Tensor, severity: Tensor, draws: Draws) -> Tensor:
    """Gaussian, of each color or of all alike."""
    drawn = draws.normal(*images.shape)
    alike = view(draws.chosen(0.3, len(images)))
    return images + view(0.01 * 30**severity) * torch.where(alike, drawn[:, :1], drawn)


def impulse(images: Tensor, severity: Tensor, draws: Draws) -> Tensor:
    """Salt and pepper."""
    drawn = draws.uniform(0, 1, len(images), 1, *images.shape[2:])
    half = view(0.003 * 80**severity) / 2
    return images.masked_fill(drawn < half, 0).masked_fill(drawn > 1 - half, 1)


def compression(images: Tensor, severity: Tensor, draws: Draws) -> Tensor:
    """JPEG of quality 75 down to 5."""
    return jpeg(images, (75 - 70 * severity).round())


def occlusion(images: Tensor, severity: Tensor, draws: Draws) -> Tensor:
    """Up to four boxes, ellipses or strokes: ink, glass, black, tissue of elsewhere, or tissue twice."""
    n, _, height, width = images.shape
    y, x = torch.meshgrid(
        *(torch.linspace(0, 1, side, device=images.device) for side in (height, width)), indexing="ij"
    )
    shapes = 1 + draws.integers(4, n)
    area = 0.015 * 30**severity / shapes
    mask = torch.zeros(n, height, width, device=images.device)
    for number in range(4):
        row, column, angle, aspect = (draws.uniform(0, 1, n, 1, 1) for _ in range(4))
        down, right = y - row, x - column
        along = down * torch.sin(math.pi * angle) + right * torch.cos(math.pi * angle)
        across = down * torch.cos(math.pi * angle) - right * torch.sin(math.pi * angle)
        kind = draws.integers(3, n).view(-1, 1, 1)
        stretch = 3 ** (2 * aspect - 1)
        half = area.view(-1, 1, 1).sqrt() / 2
        a, b = along.abs() / (half * stretch), across.abs() / (half / stretch)
        stroke = (across + 0.08 * torch.sin(3 * along + 6 * aspect)).abs() / area.view(-1, 1, 1) * 2
        depth = torch.where(kind == 0, torch.maximum(a, b), torch.where(kind == 1, torch.hypot(a, b) * 0.886, stroke))
        soft = ((1 - depth) * 20).clamp(0, 1)
        mask = torch.maximum(mask, torch.where((number < shapes).view(-1, 1, 1), soft, 0.0))
    fill = draws.integers(5, n).view(-1, 1, 1, 1)
    ink = draws.uniform(0, 0.7, n, 3, 1, 1).expand_as(images)
    glass = draws.uniform(0.85, 1, n, 3, 1, 1).expand_as(images)
    folded = (-(optical_density(images) + optical_density(images.flip(2, 3)))).exp()
    other = images.roll(1, 0).flip(3)
    cover = torch.where(fill == 1, glass, torch.where(fill == 3, folded, torch.where(fill == 4, other, ink)))
    cover = torch.where(fill == 2, torch.zeros_like(cover), cover)
    opacity = mask[:, None] * draws.uniform(0.7, 1, n, 1, 1, 1)
    return images * (1 - opacity) + cover * opacity


def blank(images: Tensor, severity: Tensor, draws: Draws) -> Tensor:
    """Density lost everywhere, or on one side of a ragged edge."""
    n, _, height, width = images.shape
    glass = on(GLASS, images) * draws.uniform(0.95, 1.05, n, 3, 1, 1)
    faded = (-view(1 - (0.2 + 0.8 * severity)) * optical_density((images / glass).clamp(max=1))).exp() * glass
    angle = draws.uniform(0, 2 * math.pi, n, 1, 1)
    axes = [torch.linspace(-1, 1, side, device=images.device) for side in (height, width)]
    ragged = F.interpolate(draws.normal(n, 1, 8, 8), (height, width), mode="bicubic")[:, 0]
    edge = axes[0][:, None] * torch.sin(angle) + axes[1] * torch.cos(angle) + 0.05 * ragged
    last = ((0.1 + 0.9 * severity) * (height * width - 1)).long()[:, None]
    empty = (edge <= edge.flatten(1).sort(1).values.gather(1, last)[:, :, None])[:, None]
    cut = torch.where(empty, glass + 0.004 * draws.normal(*images.shape), images)
    return torch.where(view(draws.chosen(0.5, n)), faded, cut)


def color(images: Tensor, severity: Tensor, draws: Draws) -> Tensor:
    """One stain stronger or weaker, another white balance, or another gamma."""
    n = len(images)
    octaves = (0.15 + 0.85 * severity) * (1 - 2 * draws.integers(2, n))
    which = draws.integers(4, n)
    gains = torch.stack([torch.where(which == k, octaves, 0.0) for k in range(2)], 1) * math.log(2)
    restained = stained(images, gains, torch.zeros(n, 2, 3, device=images.device))
    balance = 0.3 * torch.stack([octaves, torch.zeros_like(octaves), -octaves], 1)
    balanced = images * (balance - balance.amax(1, keepdim=True)).exp2().view(n, 3, 1, 1)
    brighter = images ** view((-octaves).exp2())
    return torch.where(view(which < 2), restained, torch.where(view(which == 2), balanced, brighter))


_DAMAGE = {
    "focus": focus,
    "noise": noise,
    "impulse": impulse,
    "compression": compression,
    "occlusion": occlusion,
    "blank": blank,
    "color": color,
}
