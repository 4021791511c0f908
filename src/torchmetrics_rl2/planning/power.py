r"""What a number of images finds, from a pilot of real ones.

Generated images are taken to vary as real ones do. With :math:`S` the covariance of images, or that of groups of them
on the real side, :math:`V = S_r / n_r + S / n_g` shrinks with the numbers while
:math:`f = (\mathrm{tr}\,S_r)^2 / \mathrm{tr}\,S_r^2` stays, and the test of
:mod:`torchmetrics_rl2.distance.uncertainty` finds the shift at which its noncentral F has the power asked for.
"""

import math
from dataclasses import dataclass

from scipy import stats

from torchmetrics_rl2.distance.comparing import compare
from torchmetrics_rl2.distance.differences import own_variance, shared_variance
from torchmetrics_rl2.distance.statistics import Statistics
from torchmetrics_rl2.distance.text import LEVEL
from torchmetrics_rl2.distance.uncertainty import MIN_UNITS, detectable_noncentrality

__all__ = ["Difference", "Noise"]

MAX_UNITS = 10_000_000
ROUNDS = 20
# Mean of the square root of the positive part of a standard normal number.
ROOT_OF_CHANCE = 2**0.25 * math.gamma(0.75) / (2 * math.sqrt(math.pi))


@dataclass(frozen=True)
class Noise:
    """How far one side, or both, are moved by chance, in a part of RL2 or in the whole.

    Args:
        unit: Total variance of the units of the real side.
        image: Total variance of its images.
        freedom: Effective number of dimensions.
        images: Images a unit, 1 where units are images.
        grouped: Whether units are groups, and there is a p-value.
        leak: Share of the other part that moves this one.
        other: What chance moves the other part by.

    """

    unit: float
    image: float
    freedom: float
    images: float
    grouped: bool
    leak: float = 0.0
    other: "Noise | None" = None

    @classmethod
    def of(cls, pilot: Statistics, leak: float = 0.0, other: "Noise | None" = None) -> "Noise":
        """That of a pilot of at least four units.

        Args:
            pilot: Real images, or their content or look.
            leak: Share of the other part that moves this one.
            other: Noise of that.

        """
        units = pilot.units
        assert units is not None
        trace = float(units.covariance.trace())
        freedom = min(max(trace**2 / units.squared_trace, 1.0), float(len(units.mean))) if trace else 1.0
        return cls(
            trace, pilot.total_variance, freedom, len(pilot) / units.count, pilot.groups is not None, leak, other
        )

    def variance(self, n: float) -> float:
        """Trace of the covariance of the difference of means at n units of real images, and as many generated images.

        Args:
            n: Units; generated images are independent of each other.

        """
        return self.unit / n + self.image / (n * self.images)

    def detectable(self, n: float, power: float) -> float:
        """The smallest distance that n units find.

        Args:
            n: Units of real images, and as many generated images as they have.
            power: Share of draws in which it is to be found.

        """
        real, fake = self.unit / n, self.image / (n * self.images)
        variance = real + fake
        if not variance:
            return 0.0
        nu = variance**2 / (real**2 / (n - 1) + fake**2 / (n * self.images - 1))
        limit = 0.0
        if self.other is not None:
            limit = self.leak * ROOT_OF_CHANCE * math.sqrt(self.other.variance(n) * math.sqrt(2 / self.other.freedom))
        # Without groups the verdict asks that the two-sided interval lies above the limit.
        level = LEVEL if self.grouped else LEVEL / 2
        least = self.freedom * limit**2 / variance
        return math.sqrt(detectable_noncentrality(self.freedom, nu, least, power, level) * variance / self.freedom)

    def needed(self, distance: float, power: float) -> int | None:
        """The smallest number of units that finds a distance; ``None`` where it is above ten million.

        Args:
            distance: A debiased one.
            power: Share of draws in which it is to be found.

        """
        if not distance > 0:
            return None
        n = float(MIN_UNITS)
        for _ in range(ROUNDS):
            # What is detectable falls with the root of n, but for degrees of freedom.
            then = max(float(MIN_UNITS), n * (self.detectable(n, power) / distance) ** 2)
            if then > MAX_UNITS:
                return None
            if abs(then - n) < 0.01 * n:
                break
            n = then
        return math.ceil(then)


@dataclass(frozen=True)
class Difference:
    """Of the squared distances of two generators, from pilots of both, at n images of each and the reals of the pilot.

    Args:
        value: Debiased squared distance of the second less that of the first, as in the pilots.
        fixed: Variance that the real images leave, however many images are generated.
        linear: Variance times n.
        square: Variance times the square of n.

    """

    value: float
    fixed: float
    linear: float
    square: float

    @classmethod
    def of(cls, real: Statistics, one: Statistics, other: Statistics) -> "Difference":
        """From pilots with at least four units each, of one set of weights."""
        sides = [side.units for side in (real, one, other)]
        of_real, *fakes = (side for side in sides if side is not None)
        squares = [compare(real, side).debiased for side in (one, other)]
        value = squares[1] * abs(squares[1]) - squares[0] * abs(squares[0])
        between = fakes[0].mean - fakes[1].mean
        shared = [shared_variance(of_real, side) for side in fakes]
        fixed = float(between @ of_real.covariance @ between) / of_real.count - sum(shared)
        linear = square = 0.0
        for side, common in zip(fakes, shared, strict=True):
            at_zero = 2 * side.squared_trace / side.count**2
            linear += (own_variance(of_real, side) - at_zero + 4 * common) * side.count
            square += at_zero * side.count**2
        return cls(value, 4 * max(fixed, 0.0), max(linear, 0.0), square)

    def detectable(self, n: float, power: float) -> float:
        """The smallest difference that n images of each generator find.

        Args:
            n: Images.
            power: Share of draws in which it is to be found.

        """
        error = math.sqrt(self.fixed + self.linear / n + self.square / n**2)
        return float(stats.norm.isf(LEVEL / 2) + stats.norm.ppf(power)) * error

    def needed(self, difference: float, power: float) -> int | None:
        """The smallest number of images of each that finds a difference; ``None`` where no number does.

        Args:
            difference: Of squared distances.
            power: Share of draws in which it is to be found.

        """
        if self.detectable(MAX_UNITS, power) > abs(difference):
            return None
        low, high = MIN_UNITS, MAX_UNITS
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if self.detectable(middle, power) > abs(difference) else (low, middle)
        return low
