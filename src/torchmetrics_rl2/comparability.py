"""Whether real and generated images were saved, sized and stained alike, from their pixels and files alone."""

import math
from collections import Counter

import torch
from torch import Tensor

from torchmetrics_rl2.encoder import exact_arithmetic
from torchmetrics_rl2.functional import debias, distance
from torchmetrics_rl2.handmade import handmade_statistics
from torchmetrics_rl2.images import ImageBatch
from torchmetrics_rl2.statistics import Statistics

__all__ = ["Look", "asymmetries", "different_px", "spreads_apart"]

SAMPLE = 256
LEAST_IMAGES = 10
SHARPNESS, STAIN = 0, (6, 7, 8)
FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WebP", ".tif": "TIFF", ".tiff": "TIFF"}
LOSSY = ("JPEG", "WebP")


class Look:
    """File formats of the images of one side, and sharpness and stain of up to 256 spread evenly over them.

    Which images are taken depends on their number and order alone. Sharpness is the log-variance of the Laplacian,
    stain the mean optical density of red, green and blue.
    """

    def __init__(self) -> None:
        self.formats: Counter[str] = Counter()
        self._rows: list[tuple[int, Tensor]] = []
        self._seen, self._stride = 0, 1

    def see(self, batch: ImageBatch, latents: Tensor) -> None:
        """Take what is needed of a batch.

        Args:
            batch: Images as they were read.
            latents: Theirs; where these are, the numbers are computed.

        """
        device = latents.device
        self.formats.update(FORMATS.get(path.suffix.lower(), "BMP") for path in batch.paths)
        chosen = range(-self._seen % self._stride, len(batch.images), self._stride)
        if chosen:
            with exact_arithmetic(device):
                numbers = handmade_statistics(batch.images[list(chosen)].to(device) / 255)
            rows = numbers[:, [SHARPNESS, *STAIN]].cpu()
            self._rows += [(self._seen + i, row) for i, row in zip(chosen, rows, strict=True)]
        self._seen += len(batch.images)
        while len(self._rows) > SAMPLE:
            self._stride *= 2
            self._rows = [(i, row) for i, row in self._rows if i % self._stride == 0]

    @property
    def numbers(self) -> Tensor:
        """Sharpness and the three densities, ``(n, 4)``."""
        return torch.stack([row for _, row in self._rows]) if self._rows else torch.empty(0, 4)


def asymmetries(real: Look, fake: Look) -> list[str]:
    r"""Sentences on what makes two sets differ before any network sees them.

    Medians :math:`m` of sharpness and stain differ if :math:`|m_g - m_r| > s_r (1 + 3 \sqrt{1 / n_r + 1 / n_g})`, with
    :math:`s_r` the standard deviation over real images: by more than real images differ from each other, and than
    chance makes medians differ. Formats differ if the shares of lossy ones (JPEG, WebP) differ by more than half.

    Args:
        real: Of the real side.
        fake: Of the generated side.

    Returns:
        A sentence for each difference; none of sharpness and stain where a side has fewer than ten images.

    """
    return [*_different_formats(real.formats, fake.formats), *_different_looks(real.numbers, fake.numbers)]


def different_px(real: Statistics, fake: Statistics) -> list[str]:
    """A sentence, if the two sides are of different sizes in pixels."""
    px = [side.settings.get("px") for side in (real, fake)]
    if None in px or px[0] == px[1]:
        return []
    sizes = (" and ".join(f"{h} x {w}" for h, w in side[:3]) for side in px if side)
    return [
        "Real and generated images differ in size, {} against {} px. Compare only patches of one size and one "
        "mpp.".format(*sizes)
    ]


def spreads_apart(reference: Statistics, real: Statistics) -> float | None:
    r"""How foreign real images are to the reference inside the weights, whatever their number.

    .. math:: \mathrm{debiased} / \sqrt{\mathrm{tr}\,S_{ref}}

    At 1 they are, on average, as far from the mean of the reference as its own images are.

    Args:
        reference: Of the weights.
        real: Real images of the user.

    Returns:
        The debiased distance in spreads of the reference, 0 where it is negative; ``None`` where it cannot be told.

    """
    noise = reference.mean_variance + real.mean_variance
    apart = float(debias(distance(reference.sums, real.sums), noise)) / math.sqrt(reference.spread or math.nan)
    return max(0.0, apart) if math.isfinite(apart) else None


def _different_formats(real: Counter[str], fake: Counter[str]) -> list[str]:
    if not real or not fake:  # statistics
        return []
    shares = [sum(formats[name] for name in LOSSY) / formats.total() for formats in (real, fake)]
    if abs(shares[0] - shares[1]) <= 0.5:
        return []
    names = ("{} ({} of {})".format(*formats.most_common(1)[0], formats.total()) for formats in (real, fake))
    return [
        "Real images are {} and generated ones {}. Compression leaves traces that RL2 may see: save both alike.".format(
            *names
        )
    ]


def _different_looks(real: Tensor, fake: Tensor) -> list[str]:
    if min(len(real), len(fake)) < LEAST_IMAGES:
        return []
    medians = [side.median(0).values for side in (real, fake)]
    apart = (medians[1] - medians[0]) / real.std(0).clamp(min=1e-3)
    limit = 1 + 3 * (1 / len(real) + 1 / len(fake)) ** 0.5
    sharpness, stain = apart[0], apart[1:][apart[1:].abs().argmax()]
    own = "If that is the generator's doing, it belongs to the score; if it comes of other tissue,"
    found = []
    if sharpness.abs() > limit:
        found.append(
            f"Generated images are {'sharper' if sharpness > 0 else 'softer'} than real ones: the median log-variance "
            f"of the Laplacian is {medians[1][0]:.2f} against {medians[0][0]:.2f}, {sharpness.abs():.1f} standard "
            f"deviations of real images apart. {own} saving or resizing, make both alike."
        )
    if stain.abs() > limit:
        densities = (", ".join(f"{value:.3f}" for value in side[1:].tolist()) for side in (medians[1], medians[0]))
        found.append(
            "Generated images are stained otherwise than real ones: the median optical density of red, green and blue "
            "is {} against {}, up to {:.1f} standard deviations of real images apart. {} another laboratory, "
            "scanner or way of saving, make both alike.".format(*densities, stain.abs(), own)
        )
    return found
