r"""How far the distance of two finite sets can be trusted: standard error, interval, test and power.

With :math:`V = S_r / n_r + S_g / n_g` the covariance of the difference of means :math:`d`,
:math:`Q = \lVert d \rVert^2` and :math:`T = Q - \mathrm{tr}\,V` the debiased squared distance, :math:`T` has about the
variance :math:`2\,\mathrm{tr}\,V^2 + 4\,\delta' V \delta` at the shift :math:`\delta`. Nothing inverts a covariance, so
there may be fewer images than dimensions.
"""

import math
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import special
from torch import Tensor

from torchmetrics_rl2.distance.sums import jackknife_residuals
from torchmetrics_rl2.distance.text import LEVEL
from torchmetrics_rl2.functional import LatentSums

__all__ = [
    "Uncertainty",
    "Units",
    "distinct_units",
    "f_exceeds",
    "group_units",
    "image_units",
    "squared_trace",
    "uncertainty",
]

MIN_UNITS = 4
ROUNDING = 1e-12
HUGE = 1e9
Numbers = TypeVar("Numbers", float, NDArray[np.float64])


@dataclass(frozen=True)
class Units:
    """Independent units of one side, images or groups of them, as far as they move its mean.

    Args:
        mean: Mean latent of all images, ``(d,)``.
        count: Number of units.
        covariance: Of the units, ``(d, d)``; that of the mean is ``covariance / count``.
        squared_trace: Unbiased estimate of the trace of the squared covariance.
        total_variance: Total variance of the images, the trace of their covariance.
        variance_of_total: Variance of that estimate.

    """

    mean: Tensor
    count: int
    covariance: Tensor
    squared_trace: float
    total_variance: float
    variance_of_total: float

    @property
    def mean_variance(self) -> float:
        """Trace of the covariance of the mean."""
        return float(self.covariance.trace()) / self.count


@dataclass(frozen=True)
class Uncertainty:
    """What is known of the difference of two sets.

    Args:
        debiased: Signed root of the unbiased squared distance.
        standard_error: Half the interval over its t quantile.
        interval: 95 % interval of the debiased distance, or what another level asks for.
        p_value: Of the test that both sets come from one distribution, or that their shift is within a limit.
        detectable: The smallest shift that the test finds with 80 % power at these numbers of images.
        variance_ratio: Total variance of the generated latents over that of the real ones.
        variance_ratio_interval: Its 95 % interval.

    """

    debiased: float
    standard_error: float
    interval: tuple[float, float]
    p_value: float
    detectable: float
    variance_ratio: float
    variance_ratio_interval: tuple[float, float]


def image_units(sums: LatentSums) -> Units:
    """Images as units, from sums with their second moment."""
    assert sums.second_moment is not None
    n, mean = int(sums.count), sums.sum / sums.count
    total = torch.cat([sums.sum, sums.square_sum[None]])
    moment = sums.second_moment[: len(total), : len(total)]
    centered = moment - torch.outer(total, total) / n
    covariance = centered[:-1, :-1] / (n - 1)
    # ||z - m||^2 is linear in (z, ||z||^2), and this is its sum of squares about its mean.
    direction = torch.cat([-2 * mean, torch.ones_like(mean[:1])])
    squares = float(direction @ centered @ direction)
    trace = float(covariance.trace())
    fourth = float(moment[-1, -1])
    return Units(
        mean=mean,
        count=n,
        covariance=covariance,
        squared_trace=_squared_trace(covariance, n, squares + n * (trace * (n - 1) / n) ** 2),
        total_variance=trace if trace > ROUNDING * float(sums.square_sum) / n else 0.0,
        variance_of_total=squares / (n - 1) / n if squares > ROUNDING * fourth else math.nan,
    )


def group_units(groups: LatentSums) -> Units:
    """Groups as units, from sums with one row a group."""
    n, images = len(groups.count), groups.count.sum()
    mean = groups.sum.sum(0) / images
    residuals, weights = jackknife_residuals(groups)
    covariance = residuals.T @ residuals / (n - 1)
    inner = groups.square_sum.sum() / images - mean.square().sum()
    excess = (groups.square_sum - 2 * groups.sum @ mean + groups.count * (mean.square().sum() - inner)) * weights
    total = float(inner + covariance.trace() / n)
    size = float(groups.square_sum.sum() / images)
    return Units(
        mean=mean,
        count=n,
        covariance=covariance,
        squared_trace=_squared_trace(covariance, n, float(residuals.square().sum(1).square().sum())),
        total_variance=total if total > ROUNDING * size else 0.0,
        variance_of_total=float(excess.square().sum()) / n / (n - 1),
    )


def distinct_units(sums: LatentSums, repeated: LatentSums) -> Units:
    """Distinct images as units, each a group of its copies: :func:`group_units` without a row for every image.

    Args:
        sums: Over all images, copies among them, with their second moment.
        repeated: One row an image that there are several of, over its copies.

    """
    assert sums.second_moment is not None
    images, mean = int(sums.count), sums.sum / sums.count
    n = images - int(repeated.count.sum()) + len(repeated.count)
    total = torch.cat([sums.sum, sums.square_sum[None]])
    centered = sums.second_moment[: len(total), : len(total)] - torch.outer(total, total) / images
    direction = torch.cat([-2 * mean, torch.ones_like(mean[:1])])
    inner = float(centered[:-1, :-1].trace()) / images
    copies = repeated.count.double()
    around = repeated.sum / copies[:, None] - mean
    # Each image is of its group once, and not once a copy; weights are those of the jackknife.
    single, weights = (n - 1) / (images - 1), copies * (n - 1) / (images - copies)
    once = (weights**2 - copies * single**2)[:, None]
    covariance = (single**2 * centered[:-1, :-1] + (once * around).T @ around) / (n - 1)
    squares = float(direction @ centered @ direction)
    norms = around.square().sum(1)
    excess = single**2 * squares + float((once[:, 0] * (norms - inner).square()).sum())
    fourth = single**4 * (squares + images * inner**2)
    fourth += float(((weights**4 - copies * single**4) * norms.square()).sum())
    found = inner + float(covariance.trace()) / n
    return Units(
        mean=mean,
        count=n,
        covariance=covariance,
        squared_trace=_squared_trace(covariance, n, fourth),
        total_variance=found if found > ROUNDING * float(sums.square_sum) / images else 0.0,
        variance_of_total=excess / n / (n - 1),
    )


def uncertainty(real: Units, fake: Units, limit: float = 0.0, level: float = LEVEL) -> Uncertainty:
    r"""Interval, test and power of the debiased distance.

    The test is a one-sided Satterthwaite F, :math:`P(F(f, f \nu) > Q / \mathrm{tr}\,V)` with
    :math:`f = (\mathrm{tr}\,V)^2 / \mathrm{tr}\,V^2`. With a limit :math:`\delta_0` it asks whether the shift is
    larger than that, and F has the noncentrality :math:`f \delta_0^2 / \mathrm{tr}\,V`. The interval holds the squared
    shifts :math:`x` with :math:`|T - x| \le t \sqrt{2\,\mathrm{tr}\,V^2 + 4 v x}`, where :math:`v = d' V d / Q` is the
    variance of the mean along the difference; where not even :math:`x = 0` lies that close, it is around :math:`T`.

    Args:
        real: Units of the real side, at least four.
        fake: Units of the generated side, at least four.
        limit: The largest shift that the test is not to reject.
        level: What the interval of the debiased distance leaves out; that of the variance ratio is of 95 %.

    """
    difference = real.mean - fake.mean
    square, noise = float(difference.square().sum()), real.mean_variance + fake.mean_variance
    variance = real.covariance / real.count + fake.covariance / fake.count
    cross = float((real.covariance * fake.covariance).sum()) / real.count / fake.count
    noise_square = real.squared_trace / real.count**2 + 2 * cross + fake.squared_trace / fake.count**2
    noise_square = min(max(noise_square, noise**2 / len(difference)), noise**2)
    along = float(difference @ variance @ difference) / square if square else 0.0
    if noise > 0:
        freedom = noise**2 / noise_square
        nu = noise**2 / sum(side.mean_variance**2 / (side.count - 1) for side in (real, fake))
        least = freedom * limit**2 / noise
        p_value = float(f_exceeds(square / noise, freedom, nu, least))
        detectable = math.sqrt(_detectable(freedom, nu, least) * noise / freedom)
        t = float(special.stdtrit(nu, 1 - level / 2))
    else:  # all images of a side are the same
        p_value, detectable, t = float(square <= limit**2), limit, 0.0
    low, high = (_root(_bound(square - noise, noise_square, along, sign * t)) for sign in (-1, 1))
    ratio, ratio_interval = _variance_ratio(real, fake)
    return Uncertainty(
        debiased=_root(square - noise),
        standard_error=(high - low) / (2 * t) if t else 0.0,
        interval=(low, high),
        p_value=p_value,
        detectable=detectable,
        variance_ratio=ratio,
        variance_ratio_interval=ratio_interval,
    )


def squared_trace(square: Numbers, trace: Numbers, fourth_sum: Numbers, n: int) -> Numbers:
    """Trace of the squared covariance, unbiased for any distribution (Himeno and Yamada 2014).

    Args:
        square: Squared Frobenius norm of the covariance of a sample, a number or one for each of several samples.
        trace: Trace of it.
        fourth_sum: Sum of ||x - mean||^4.
        n: Size of the sample, at least four.

    """
    unscaled = (n - 1) * (n - 2) * square + trace**2 - n * fourth_sum / (n - 1)
    return (n - 1) / (n * (n - 2) * (n - 3)) * unscaled


def f_exceeds(ratio: Numbers, freedom: Numbers, nu: Numbers, noncentrality: Numbers) -> NDArray[np.float64]:
    """Probability that F is larger than a ratio, of numbers or of one for each of several samples.

    Args:
        ratio: What F is compared with.
        freedom: Its first degrees of freedom; the second are ``freedom * nu``.
        nu: See there.
        noncentrality: Of F.

    """
    values = np.atleast_1d(*np.broadcast_arrays(ratio, freedom, np.multiply(freedom, nu), noncentrality))
    *central, least = values
    ratios, *ends = central
    found = np.asarray(special.fdtrc(*ends, ratios))
    # Scipy's noncentral F is wrong where central, and NaN far below its mean; where it has none, F has no spread.
    beyond, huge = (least > 0) & (least <= HUGE), least > HUGE
    not_above = special.ncfdtr(*(value[beyond] for value in (*ends, least, ratios)))
    not_above[np.isnan(not_above) & (ratios < 1 + least / ends[0])[beyond]] = 0
    found[beyond] = np.maximum(1 - not_above, 0)
    found[huge] = ratios[huge] * ends[0][huge] <= least[huge]
    return found.reshape(np.shape(noncentrality))


def _squared_trace(covariance: Tensor, n: int, fourth_sum: float) -> float:
    if n < MIN_UNITS:
        return math.nan
    return squared_trace(float(covariance.square().sum()), float(covariance.trace()), fourth_sum, n)


def _bound(value: float, noise_square: float, along: float, t: float) -> float:
    """The squared shift x at which the value lies t standard deviations off; there is no shift below 0."""
    of_none, slope = t * math.sqrt(2 * noise_square), 2 * along * t**2
    root = 4 * along * t**2 * (value + along * t**2) + 2 * t**2 * noise_square
    shift = value + slope + math.copysign(math.sqrt(max(root, 0)), t)
    return value + of_none if shift < 0 or value < -abs(of_none) else shift


def _detectable(freedom: float, nu: float, least: float, power: float = 0.8) -> float:
    """Noncentrality that a test of more than the least one finds at 5 % with this power."""
    from scipy import optimize

    if least > HUGE:
        return least
    ends = (freedom, freedom * nu)
    critical = float(special.ncfdtri(*ends, least, 0.95) if least else special.fdtri(*ends, 0.95))

    def missing(noncentrality: float) -> float:
        return power - float(f_exceeds(critical, freedom, nu, noncentrality))

    high = max(1.0, least)
    while missing(high) > 0:
        high *= 2
    return float(optimize.brentq(missing, 0, high))


def _variance_ratio(real: Units, fake: Units) -> tuple[float, tuple[float, float]]:
    if real.total_variance == 0:
        return math.nan, (math.nan, math.nan)
    ratio = fake.total_variance / real.total_variance
    parts = [
        side.variance_of_total / side.total_variance**2 if side.total_variance else math.nan for side in (real, fake)
    ]
    if not 0 < sum(parts) < 100:  # images that are all the same, or all as far from their mean
        return ratio, (math.nan, math.nan)
    freedom = sum(parts) ** 2 / sum(part**2 / (side.count - 1) for part, side in zip(parts, (real, fake), strict=True))
    half = float(special.stdtrit(freedom, 0.975)) * math.sqrt(sum(parts))
    return ratio, (ratio * math.exp(-half), ratio * math.exp(half))


def _root(square: float) -> float:
    return math.copysign(math.sqrt(abs(square)), square)
