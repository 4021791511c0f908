"""Content and look of a result, and the shares of kinds of tissue, in numbers."""

import math
from dataclasses import dataclass

from scipy.special import ndtri, stdtrit
from torch import Tensor

from torchmetrics_rl2.distance.statistics import Statistics

__all__ = ["KindShare", "PartResult", "kind_shares", "wilson"]


@dataclass(frozen=True)
class PartResult:
    r"""Content or look, as :class:`RL2Result` has it of the whole.

    Args:
        value: Distance of the mean latents in this part alone; the squares of both add up to that of RL2.
        debiased: Signed root of its unbiased square.
        limit: What a difference in the other part alone may move this one by: a share of its debiased value, 15 % for
            content and 10 % for look, or more where that was measured. For content, what such a look carries along is
            added; content that differs in another direction may be shorter.
        standard_error: Of the debiased value. This and the next three are ``None`` where a side has fewer than four
            units, or only sums and no second moments.
        interval: 95 % interval of the debiased value.
        p_value: Of the test that the part is not larger than its limit: of its length, and for content, without what
            look carries along, of Hotelling's T squared too, see :mod:`torchmetrics_rl2.distance.composition`.
        detectable: The smallest distance that the test of its length finds with 80 % power at these numbers of units.
        baseline: Real against real: what two random samples of the real images, as large as the two sides, score.
        baseline_multiple: ``value`` over ``baseline``.

    """

    value: float
    debiased: float
    limit: float = 0.0
    standard_error: float | None = None
    interval: tuple[float, float] | None = None
    p_value: float | None = None
    detectable: float | None = None
    baseline: float | None = None
    baseline_multiple: float | None = None


@dataclass(frozen=True)
class KindShare:
    """Share of the images of each side that are of a kind of tissue.

    Args:
        name: Of the kind.
        real: Share of the real images, 0 to 1.
        real_interval: Its 95 % interval.
        fake: Share of the generated images.
        fake_interval: Its 95 % interval.
        differs: Whether the two differ by more than chance, at 5 % over all kinds together.

    """

    name: str
    real: float
    real_interval: tuple[float, float]
    fake: float
    fake_interval: tuple[float, float]
    differs: bool


def kind_shares(real: Statistics, fake: Statistics) -> list[KindShare]:
    """Shares of the kinds on both sides, with Wilson's intervals.

    Shares differ if Newcombe's interval of their difference (1998, method 10), with Bonferroni's correction for the
    number of kinds, excludes 0, and the larger of them is at least one image of the smaller side. Groups count for as
    many independent images as their shares vary like, and quantiles are those of t with one degree of freedom less than
    there are groups.

    Args:
        real: With kinds.
        fake: Of the same weights.

    """
    assert real.kinds is not None
    names, least = real.kinds.names, 1 / min(len(real), len(fake))
    both = [_shares(side) for side in (real, fake)]
    found, single = [], [_quantile(side, 1) for side in (real, fake)]
    level = [_quantile(side, len(names)) for side in (real, fake)]
    for k, name in enumerate(names):
        (p, n), (q, m) = ((shares[k], counts[k]) for shares, counts in both)
        ends = [wilson(p, n, level[0]), wilson(q, m, level[1])]
        below = math.hypot(q - ends[1][0], ends[0][1] - p)
        above = math.hypot(ends[1][1] - q, p - ends[0][0])
        differs = max(p, q) >= least and not q - p - below <= 0 <= q - p + above
        found.append(KindShare(name, p, wilson(p, n, single[0]), q, wilson(q, m, single[1]), differs))
    return found


def _shares(side: Statistics) -> tuple[list[float], list[float]]:
    """Share of each kind, and the number of independent images that it is known as well from."""
    assert side.sums.kind_counts is not None
    shares = side.sums.kind_counts.double() / side.sums.count
    counts = [_effective(side, k, float(share)) for k, share in enumerate(shares)]
    return shares.tolist(), counts


def _effective(side: Statistics, kind: int, share: float) -> float:
    if side.groups is None or side.groups.kind_counts is None:
        return float(side.unit_count)
    groups, images = len(side.groups.count), len(side)
    counts = side.groups.kind_counts[:, kind]
    # In whole numbers, so that groups all alike are seen to be; with the jackknife's weights, as for distances.
    residuals: Tensor = (counts * images - counts.sum() * side.groups.count).double() / images
    weights = (groups - 1) / (images - side.groups.count).double().clamp(min=1)
    variance = float((residuals * weights).square().sum()) / (groups * max(groups - 1, 1))
    # All groups alike say nothing of how groups vary.
    return min(share * (1 - share) / variance, float(images)) if variance else float(groups)


def _quantile(side: Statistics, tests: int) -> float:
    tail = 0.025 / tests
    if side.groups is None or len(side.groups.count) < 2:
        return -float(ndtri(tail))
    return -float(stdtrit(len(side.groups.count) - 1, tail))


def wilson(share: float, n: float, z: float) -> tuple[float, float]:
    """Wilson's interval of a share of n independent images, at a normal or t quantile."""
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return max(0.0, middle - half) if share else 0.0, min(1.0, middle + half) if share < 1 else 1.0
