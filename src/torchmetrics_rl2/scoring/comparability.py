"""Whether real and generated images were saved, sized and stained alike, from their pixels and files alone."""

from collections import Counter
from pathlib import Path

import torch
from torch import Tensor

from torchmetrics_rl2.distance.statistics import Statistics
from torchmetrics_rl2.encoder.encoded import Encoded
from torchmetrics_rl2.images.find import EXTENSIONS
from torchmetrics_rl2.images.sampling import EvenSample
from torchmetrics_rl2.pixels.density import optical_density
from torchmetrics_rl2.pixels.handcrafted import laplacian
from torchmetrics_rl2.runtime import exact_arithmetic

__all__ = ["Appearance", "appearance_of", "asymmetries", "different_px", "stride_of"]

SAMPLE = 256
MIN_IMAGES = 10
LOSSY = ("JPEG", "WEBP")


class Appearance:
    """File formats of the images of one side, and sharpness and stain of up to 256 spread evenly over them.

    Sharpness is the log-variance of the Laplacian, stain the mean optical density of red, green and blue.
    """

    def __init__(self) -> None:
        self.formats: Counter[str] = Counter()
        self._sample = EvenSample[Tensor](SAMPLE)

    def see(self, images: Encoded) -> None:
        """Take what is needed of the next images."""
        self.formats.update(images.formats)
        for numbers in images.appearance:
            self._sample.add(numbers)

    @property
    def numbers(self) -> Tensor:
        """Sharpness and the three densities, ``(n, 4)``."""
        return torch.stack(self._sample.items) if self._sample.items else torch.empty(0, 4)


def stride_of(files: int) -> int:
    """Of every how many files of a side the appearance is looked at, 1, 2, 4 ...: of at most 256 of them."""
    return 1 << max(0, -(-files // SAMPLE) - 1).bit_length()


def appearance_of(images: Tensor) -> Tensor:
    """Sharpness and the three densities of uint8 images ``(N, 3, H, W)``, ``(N, 4)`` on the CPU."""
    with exact_arithmetic(images.device):
        shares = images / 255
        edges = laplacian(shares.mean(1, keepdim=True)).flatten(1)
        sharpness = (edges.var(1, correction=0) + 1e-6).log()
        return torch.cat([sharpness[:, None], optical_density(shares).mean((2, 3))], 1).cpu()


def asymmetries(real: Appearance, fake: Appearance) -> list[str]:
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
    return [*_different_formats(real.formats, fake.formats), *_different_appearances(real.numbers, fake.numbers)]


def different_px(real: Statistics, fake: Statistics) -> list[str]:
    """A sentence, if the two sides are of different sizes in pixels."""
    px = [side.settings.get("px") for side in (real, fake)]
    if None in px or px[0] == px[1]:
        return []
    sizes = (" and ".join(f"{h} x {w}" for h, w in side[:3]) for side in px if side)
    return [
        "Real and generated images differ in size, {} against {} px. Compare only patches of one size and one "
        "mpp: cut the larger ones (--tile), or resize a side before, as --scale resizes both.".format(*sizes)
    ]


def same_groups(real: Statistics, fake: Statistics) -> list[str]:
    """A sentence, if groups of the two sides have the same names; those of image files and numbers say nothing."""
    names = [_names_of_groups(side) for side in (real, fake)]
    shared = sorted(names[0] & names[1])
    if not shared or 2 * len(shared) < min(map(len, names)):
        return []
    have = "group has the same name" if len(shared) == 1 else "groups have the same names"
    return [
        f"{len(shared)} {have} on both sides, such as {shared[0]}. If these are the same slides, or classes, the test "
        "misses even clear differences, as it takes groups as independent. Take real images of other slides; classes "
        "go to --real-classes."
    ]


def _names_of_groups(side: Statistics) -> set[str]:
    """Their paths without the folders that all of a side are in, at whatever depth."""
    paths = [Path(name).parts for name in side.group_names if Path(name).suffix.lower() not in EXTENSIONS]
    common = set.intersection(*map(set, paths)) if paths else set()
    names = {"/".join(part for part in parts if part not in common) for parts in paths}
    return {name for name in names if any(map(str.isalpha, name))}


def _different_formats(real: Counter[str], fake: Counter[str]) -> list[str]:
    if not real or not fake:  # statistics
        return []
    shares = [sum(formats[name] for name in LOSSY) / formats.total() for formats in (real, fake)]
    if abs(shares[0] - shares[1]) <= 0.5:
        return []
    names = ("{} ({} of {})".format(*formats.most_common(1)[0], formats.total()) for formats in (real, fake))
    return [
        "Real images are {} and generated ones {}. Compression leaves traces that RL2 may detect: save both sides "
        "alike.".format(*names)
    ]


def _different_appearances(real: Tensor, fake: Tensor) -> list[str]:
    if min(len(real), len(fake)) < MIN_IMAGES:
        return []
    medians = [side.median(0).values for side in (real, fake)]
    apart = (medians[1] - medians[0]) / real.std(0).clamp(min=1e-3)
    limit = 1 + 3 * (1 / len(real) + 1 / len(fake)) ** 0.5
    sharpness, stain = apart[0], apart[1:][apart[1:].abs().argmax()]
    own = "If the generator causes this, it belongs in the score. If"
    alike = "does, prepare both sides alike."
    found = []
    if sharpness.abs() > limit:
        found.append(
            f"Generated images are {'sharper' if sharpness > 0 else 'softer'} than real ones: median log-variance of "
            f"the Laplacian {medians[1][0]:.2f} against {medians[0][0]:.2f}, {sharpness.abs():.1f} standard deviations "
            f"of the real images apart. {own} saving, resizing or different tissue {alike}"
        )
    if stain.abs() > limit:
        generated, of_real = (", ".join(f"{value:.3f}" for value in side[1:].tolist()) for side in medians[::-1])
        found.append(
            "The stain of generated images differs from that of real ones: median optical density of red, green and "
            f"blue {generated} against {of_real}, up to {stain.abs():.1f} standard deviations of the real images "
            f"apart. {own} another laboratory, scanner or file format {alike}"
        )
    return found
