r"""Which of several sets is closer to the same real ones: differences of squared distances, and their noise.

With :math:`d_i = m_r - m_i` and :math:`V_i` the covariance of the mean of a set, the debiased squared distance is
:math:`T_i = \lVert d_i \rVert^2 - \mathrm{tr}(V_r + V_i)`. In :math:`T_i - T_j` the noise of the real mean cancels but
for its part along :math:`m_i - m_j`:

.. math::

    \mathrm{var}(T_i - T_j) = 4 (m_i - m_j)' V_r (m_i - m_j) + 4 d_i' V_i d_i + 4 d_j' V_j d_j
    - 2\,\mathrm{tr}\,V_i^2 - 2\,\mathrm{tr}\,V_j^2 - 4\,\mathrm{tr}\,V_r (V_i + V_j)

is unbiased at any distance; two sets at distance 0 have
:math:`2\,\mathrm{tr}\,V_i^2 + 2\,\mathrm{tr}\,V_j^2 + 4\,\mathrm{tr}\,V_r (V_i + V_j)`, which it is not let fall below.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import stdtr, stdtrit

from torchmetrics_rl2.distance.text import LEVEL
from torchmetrics_rl2.distance.uncertainty import Units

__all__ = ["Difference", "chances_to_be_closest", "difference", "own_variance", "shared_variance", "squared_distance"]

DRAWS = 100_000


@dataclass(frozen=True)
class Difference:
    """Of the debiased squared distances of two sets from the same real ones.

    Args:
        value: That of the first less that of the second; below 0 the first is closer.
        standard_error: Of the value.
        interval: Its interval.
        p_value: Of the test that both are as far, two-sided.

    """

    value: float
    standard_error: float
    interval: tuple[float, float]
    p_value: float


def difference(real: Units, one: Units, other: Units, tests: int = 1, level: float = LEVEL) -> Difference:
    """The difference of two sets, with Welch's t.

    Args:
        real: Units of the real side.
        one: Of a set.
        other: Of another, independent of the first.
        tests: Number of pairs that are looked at; interval and p-value hold for all together (Bonferroni).
        level: What the interval leaves out.

    """
    value = squared_distance(real, one) - squared_distance(real, other)
    between = one.mean - other.mean
    parts = [float(between @ real.covariance @ between) / real.count]
    counts, at_zero = [real.count], 0.0
    for side in (one, other):
        apart = real.mean - side.mean
        parts.append(float(apart @ side.covariance @ apart) / side.count)
        counts.append(side.count)
        at_zero += 2 * side.squared_trace / side.count**2 + 4 * shared_variance(real, side)
    variance = max(4 * sum(parts) - at_zero, at_zero)
    freedom = (
        sum(parts) ** 2 / sum(part**2 / (n - 1) for part, n in zip(parts, counts, strict=True)) if any(parts) else 1
    )
    error = math.sqrt(variance)
    half = -float(stdtrit(freedom, level / 2 / tests)) * error
    p_value = min(1.0, 2 * tests * float(stdtr(freedom, -abs(value) / error))) if error else float(value == 0)
    return Difference(value, error, (value - half, value + half), p_value)


def chances_to_be_closest(real: Units, sets: Sequence[Units]) -> list[float]:
    r"""Share of draws in which each set is the closest, where squared distances are drawn about what was found.

    Draws are normal with :math:`\mathrm{cov}(T_i, T_j) = 4 d_i' V_r d_j`, up to what all have in common, and with the
    noise of each set by itself; always the same ones.

    Args:
        real: Units of the real side.
        sets: Units of each set.

    """
    values = np.array([squared_distance(real, side) for side in sets])
    apart = torch.stack([real.mean - side.mean for side in sets])
    shared = 4 * apart @ real.covariance @ apart.T / real.count
    own = [own_variance(real, side) for side in sets]
    covariance = shared.numpy() + np.diag(own)
    draws = np.random.default_rng(0).multivariate_normal(values, covariance, DRAWS, method="eigh")
    counts = np.bincount(draws.argmin(1), minlength=len(sets))
    return [float(count) for count in counts / DRAWS]


def squared_distance(real: Units, side: Units) -> float:
    """Debiased; below 0 where chance makes it so."""
    return float((real.mean - side.mean).square().sum()) - real.mean_variance - side.mean_variance


def own_variance(real: Units, side: Units) -> float:
    """What the noise of a set adds to the variance of its squared distance, beside that of the real images."""
    apart, at_zero = real.mean - side.mean, 2 * side.squared_trace / side.count**2
    along = float(apart @ side.covariance @ apart) / side.count
    return max(4 * along - at_zero - 4 * shared_variance(real, side), at_zero)


def shared_variance(real: Units, side: Units) -> float:
    """Trace of the product of the covariances of both means."""
    return float((real.covariance * side.covariance).sum()) / real.count / side.count
