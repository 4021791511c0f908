"""Power and level, outliers, lost diversity and domain: what an audit measures beside the ladders."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from torchmetrics_rl2.auditing.draws import REPEATS, SIZES, Population
from torchmetrics_rl2.auditing.meter import Measured, Meter
from torchmetrics_rl2.auditing.result import Contamination, Diversity, Power
from torchmetrics_rl2.auditing.subject import Subject, read_images
from torchmetrics_rl2.distance.comparing import compare
from torchmetrics_rl2.distance.kinds import Kinds
from torchmetrics_rl2.distance.statistics import Statistics
from torchmetrics_rl2.distance.text import LEVEL
from torchmetrics_rl2.encoder.encoder import LatentEncoder
from torchmetrics_rl2.encoder.own import OwnEncoder
from torchmetrics_rl2.functional import resnet_l2
from torchmetrics_rl2.images.find import find_images, text_of
from torchmetrics_rl2.images.reader import ImageReader
from torchmetrics_rl2.networks.gaussian import Gaussian
from torchmetrics_rl2.pixels.degradations import degrade
from torchmetrics_rl2.runtime import one_thread

__all__ = ["contamination", "diversity", "domain", "power", "read_outliers", "squash"]


def squash(latents: Tensor, radius: float) -> Tensor:
    r"""Pull in latents beyond a radius, so that a few outliers do not drown the mean of a set.

    .. math:: z \mapsto z \min\left(1, \frac{r (1 + \ln(\lVert z \rVert / r))}{\lVert z \rVert}\right)

    Args:
        latents: ``(N, d)``.
        radius: The radius :math:`r`, such as the norm that 99 % of real latents stay below; those are left alone.

    Returns:
        ``(N, d)``, in the same directions and the same order of norms.

    Example:
        >>> import torch
        >>> from torchmetrics_rl2.auditing.checks import squash
        >>> squash(torch.tensor([[0.5, 0.0], [0.0, 100.0]]), 1.0)
        tensor([[0.5000, 0.0000],
                [0.0000, 5.6052]])

    """
    ratio = (latents.norm(dim=1, keepdim=True) / radius).clamp(min=1)
    pulled: Tensor = latents * (1 + ratio.log()) / ratio
    return pulled


REPEATED = 10
MIN_FOR_SHARES = 40
OUTLIERS = 10


def power(
    subject: Subject,
    clean: Tensor,
    weakest: Mapping[str, Tensor],
    seed: int,
    withheld: list[str],
    kinds: Kinds | None = None,
) -> list[Power]:
    """Level and power of the test, of units drawn without replacement, no unit on both sides.

    Args:
        subject: The images.
        clean: Their latents, ``(N, d)``.
        weakest: Latents of the same images at the weakest severity of some ladders, by name.
        seed: Of the draws.
        withheld: Where to say what these images are too few for.
        kinds: The kinds of tissue of the weights, if they have several; the test is then that of look.

    """
    names = sorted(set(subject.units))
    rows = {name: [i for i, unit in enumerate(subject.units) if unit == name] for name in names}
    found, sets = [], {"clean": clean, **weakest}
    too_many = [str(n) for n in SIZES if 2 * n > len(names)]
    if too_many:
        withheld.append(
            f"power at {', '.join(too_many)} a side: a side needs half of the units, and there are {len(names)}"
        )
    for n in SIZES[: len(SIZES) - len(too_many)]:
        generator, pairs = Generator().manual_seed(seed), []
        for _ in range(REPEATS):
            drawn = [names[i] for i in torch.randperm(len(names), generator=generator)[: 2 * n].tolist()]
            pairs.append([[i for name in side for i in rows[name]] for side in (drawn[:n], drawn[n:])])
        shares = {name: _rejected(subject, clean, latents, pairs, kinds) for name, latents in sets.items()}
        found.append(Power(n, REPEATS, shares.pop("clean"), shares))
    return found


def _rejected(
    subject: Subject, clean: Tensor, latents: Tensor, pairs: Sequence[Sequence[list[int]]], kinds: Kinds | None
) -> float:
    """Share of tests of some clean images against other ones that may be damaged, by their rows."""
    if not subject.groups:
        sides = [np.array([pair[side] for pair in pairs]) for side in (0, 1)]
        tests = Population(torch.cat([clean, latents]), kinds).tests(sides[0], sides[1] + len(clean))
        return float((tests.p_values["look" if kinds else "whole"] < LEVEL).mean())
    rejected = 0
    for pair in pairs:
        drawn = zip((clean, latents), pair, strict=True)
        result = compare(
            *(Statistics.of_latents(of[rows], [subject.units[i] for i in rows], kinds) for of, rows in drawn)
        )
        p_value = result.look.p_value if result.look else result.p_value
        rejected += p_value is not None and p_value < LEVEL
    return rejected / len(pairs)


@dataclass(frozen=True)
class OutlierImages:
    """Images that do not belong.

    Args:
        images: uint8 ``(N, 3, H, W)``.
        source: Where they are from.
        unreadable: Files that were left out, with the reason.

    """

    images: Tensor
    source: str
    unreadable: tuple[str, ...] = ()


def read_outliers(source: str | Path, reader: ImageReader, limit: int) -> OutlierImages:
    """The first images of a source, as many as may be mixed in, and where they are from.

    Args:
        source: A folder, a glob or a text file of paths.
        reader: How images are read.
        limit: How many images the audit uses at most.

    Raises:
        RL2Error: If there are none, or they differ in size.

    """
    most = max(OUTLIERS, limit // 100)
    images, _, unreadable = read_images(reader, find_images(source)[:most])
    return OutlierImages(images[:most], text_of(source), unreadable)


def contamination(
    encoder: LatentEncoder | OwnEncoder,
    subject: Subject,
    clean: Measured,
    outliers: OutlierImages | None,
    seed: int,
    withheld: list[str],
) -> Contamination | None:
    """Mix about 1 % of images that do not belong into the second half, many times over."""
    half = int(subject.second.sum())
    if half < MIN_FOR_SHARES:
        withheld.append(f"outliers: a half has {half} images and needs {MIN_FOR_SHARES}")
        return None
    count = max(1, round(half / 100))
    if outliers is None:
        some = subject.images[subject.second][: max(OUTLIERS, count)]
        outliers = OutlierImages(degrade(some, "pen", 0.5, seed), "inked by a pen")
    meter = Meter(encoder)
    mixed_in = meter.measure(outliers.images)
    blurred = meter.measure(degrade(subject.images[subject.second], "gaussian blur", 0.25, seed))
    radius = _radius(encoder, clean.latents[~subject.second])
    return _mixed(subject, clean, outliers, min(count, len(outliers.images)), mixed_in, blurred.latents, radius)


@one_thread()
def _mixed(
    subject: Subject,
    clean: Measured,
    outliers: OutlierImages,
    count: int,
    mixed_in: Measured,
    blurred: Tensor,
    radius: float,
) -> Contamination:
    """What so many outliers at a time, of those that are measured, do to the second half."""
    first, second = clean.latents[~subject.second], clean.latents[subject.second]
    squashed = [squash(latents, radius) for latents in (first, second, blurred)]
    plain, robust, detected = [], [], []
    likelihood, of_mixed_in = clean.likelihood[subject.second], mixed_in.likelihood
    if not bool(likelihood.isfinite().any()):  # an encoder without a flow
        density = Gaussian(first)
        likelihood, of_mixed_in = density.log_prob(second), density.log_prob(mixed_in.latents)
    for start in range(0, len(outliers.images) - count + 1, count):
        rows = slice(start, start + count)
        mixed = torch.cat([second[count:], mixed_in.latents[rows]])
        plain.append(float(resnet_l2(first, mixed)))
        robust.append(float(resnet_l2(squashed[0], squash(mixed, radius))))
        threshold = torch.cat([likelihood[count:], of_mixed_in[rows]]).sort().values[count - 1]
        detected.append(float((of_mixed_in[rows] <= threshold).double().mean()))
    base = float(resnet_l2(squashed[0], squashed[1]))
    return Contamination(
        source=outliers.source,
        share=count / len(second),
        plain=float(np.mean(plain)) / float(resnet_l2(first, second)),
        robust=float(np.mean(robust)) / base,
        blur=float(resnet_l2(squashed[0], squashed[2])) / base,
        detected=float(np.mean(detected)),
        unreadable=outliers.unreadable,
    )


def _radius(encoder: LatentEncoder | OwnEncoder, latents: Tensor) -> float:
    """The norm that 99 % of held-out real latents stay below."""
    norms = encoder.reference.scores[:, 1] if encoder.reference else latents.norm(dim=1)
    return float(norms.cpu().quantile(0.99))


def diversity(subject: Subject, clean: Tensor, seed: int, withheld: list[str]) -> Diversity | None:
    """Variance ratios of ten repeated images, and of clean halves."""
    names = sorted(set(subject.units))
    if len(names) < 4 * REPEATED:
        withheld.append(f"lost diversity: there are {len(names)} units, and {4 * REPEATED} are needed")
        return None
    latents = clean.double().numpy()
    units = np.array(subject.units)
    draws = np.random.default_rng(seed)
    null, repeated = [], []
    for _ in range(REPEATS):
        order = draws.permutation(names)
        others = np.isin(units, order[: len(order) // 2])
        null.append(_total_variance(latents[~others]) / _total_variance(latents[others]))
        chosen = [draws.choice(np.flatnonzero(units == name)) for name in order[-REPEATED:]]
        repeated.append(_total_variance(latents[chosen]) * (1 - 1 / REPEATED) / _total_variance(latents[others]))
    low, high = np.quantile(null, [0.025, 0.975])
    return Diversity(float(np.mean(repeated)), (float(low), float(high)), float(np.mean(np.array(repeated) < low)))


def _total_variance(latents: NDArray[np.float64]) -> float:
    return float(latents.var(0, ddof=1).sum())


def domain(encoder: LatentEncoder | OwnEncoder, latents: Tensor, groups: Sequence[str] | None) -> float | None:
    """RL2 from the reference inside, in multiples of what as many images of its own would score."""
    if encoder.reference is None:
        return None
    ours = encoder.statistics(latents, groups)
    return compare(encoder.reference_statistics, ours).baseline_multiple
