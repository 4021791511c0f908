r"""What a number of images finds, from a pilot of real ones.

Generated images are taken to vary as real ones do. With :math:`S` the covariance of images, or that of groups of them
on the real side, that of the difference of means is :math:`V = c S`, and :math:`c` falls with the numbers. Differences
:math:`d = \delta + \sqrt{c}\,S^{1/2} \epsilon` are drawn for the shift :math:`\delta` that is looked for, always with
the same :math:`\epsilon`, and judged as :mod:`torchmetrics_rl2.distance.uncertainty` and the verdict judge them. So
damage in a direction in which real images differ is known to be harder to find.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Generator, Tensor

from torchmetrics_rl2.distance.composition import composition_p_values
from torchmetrics_rl2.distance.differences import own_variance, shared_variance, squared_distance
from torchmetrics_rl2.distance.kinds import PARTS, Kinds
from torchmetrics_rl2.distance.statistics import Statistics
from torchmetrics_rl2.distance.text import LEVEL
from torchmetrics_rl2.distance.uncertainty import MIN_UNITS, f_exceeds

__all__ = ["MAX_UNITS", "Difference", "Judged", "Pilot", "Shift", "least_length", "least_units"]

MAX_UNITS = 10_000_000
DRAWS = 1000

Judged = Literal["whole", "content", "look"]
Array = NDArray[np.float64]


@dataclass(frozen=True)
class _Part:
    """Draws of chance in the whole or in a part, ``(DRAWS, d)``, others as directions, and their covariance."""

    draws: Tensor
    directions: Tensor
    covariance: Tensor
    projector: Tensor

    @cached_property
    def trace(self) -> float:
        return float(self.covariance.trace())

    @cached_property
    def squared_trace(self) -> float:
        return float(self.covariance.square().sum())

    @cached_property
    def squares(self) -> Array:
        """Of the draws."""
        found: Array = self.draws.square().sum(1).numpy()
        return found

    @cached_property
    def along(self) -> Array:
        """Variance along each draw."""
        found: Array = ((self.draws @ self.covariance) * self.draws).sum(1).numpy()
        return found


@dataclass(frozen=True)
class Shift:
    """A difference of means in one direction, or in one for each draw: what its square and its noise are made of.

    Args:
        square: Squared length in each part.
        across: Inner product with the draws.
        along: Variance along it.
        along_draws: Covariance of it and the draws.
        content: Its coordinates on the axes that content is tested on, ``(k,)`` or ``(DRAWS, k)``; none without kinds.

    """

    square: dict[Judged, Array]
    across: dict[Judged, Array]
    along: dict[Judged, Array]
    along_draws: dict[Judged, Array]
    content: Array


class Pilot:
    """Chance, as a pilot of at least four units knows it.

    Args:
        pilot: Real images, or groups of them.
        kinds: Of the weights, if they have several.

    """

    def __init__(self, pilot: Statistics, kinds: Kinds | None) -> None:
        units = pilot.units
        assert units is not None
        self.grouped, self.images = pilot.groups is not None, len(pilot) / units.count
        trace = float(units.covariance.trace())
        # Generated images stand for themselves; they are as far apart as real ones.
        self._share = pilot.total_variance / trace / self.images if trace else 0.0
        self._leaks = dict(zip(PARTS, (0.0, 0.0) if kinds is None else kinds.leaks, strict=True))
        d = len(units.mean)
        self._axes = torch.zeros(d, 0, dtype=torch.float64) if kinds is None else kinds.axes
        projectors: dict[Judged, Tensor] = {"whole": torch.eye(d, dtype=torch.float64)}
        squares: dict[Judged, float] = {"whole": units.squared_trace}
        if kinds is not None:
            projectors["content"] = kinds.basis @ kinds.basis.T
            projectors["look"] = projectors["whole"] - projectors["content"]
            for part in PARTS:
                of_part = pilot.part(part).units
                assert of_part is not None
                squares[part] = of_part.squared_trace
        generator = Generator().manual_seed(0)
        self._parts: dict[Judged, _Part] = {}
        for name, projector in projectors.items():
            covariance = _shrunk(projector @ units.covariance @ projector, squares[name], projector)
            values, vectors = torch.linalg.eigh(covariance)
            root = vectors * values.clamp(min=0).sqrt()
            chance = torch.randn(2 * DRAWS, d, generator=generator, dtype=torch.float64) @ root.T
            self._parts[name] = _Part(chance[:DRAWS], chance[DRAWS:], covariance, projector)
        covariance = self._axes.T @ units.covariance @ self._axes
        values, vectors = torch.linalg.eigh(covariance)
        chance = torch.randn(DRAWS, len(values), generator=generator, dtype=torch.float64)
        self._content = chance * values.clamp(min=0).sqrt() @ vectors.T, covariance

    def shift(self, vector: Tensor) -> Shift:
        """A shift of the mean latent, ``(d,)``, or one for each draw."""
        found = Shift({}, {}, {}, {}, (vector.double() @ self._axes).numpy())
        for name, part in self._parts.items():
            own = vector.double() @ part.projector
            turned = own @ part.covariance
            found.square[name] = own.square().sum(-1).numpy()
            found.across[name] = _inner(part.draws, own)
            found.along[name] = (own * turned).sum(-1).numpy()
            found.along_draws[name] = _inner(part.draws, turned)
        return found

    def by_chance(self, part: Judged) -> Shift:
        """A shift of length 1 in a part, in the directions in which chance moves it."""
        directions = self._parts[part].directions
        return self.shift(directions / directions.norm(dim=1, keepdim=True).clamp(min=1e-12))

    def power(self, shift: Shift, part: Judged, n: float, length: float = 1.0) -> float:
        """Share of draws in which a part differs.

        Args:
            shift: What is to be found.
            part: That is judged.
            n: Units of real images, and as many generated images as they have.
            length: What the shift is multiplied by.

        """
        c, judged = (1 + self._share) / n, self._parts[part]
        excess = {name: self._excess(shift, name, c, length) for name in self._parts}
        limit = np.zeros(DRAWS)
        if part != "whole":
            other: Judged = "look" if part == "content" else "content"
            limit = self._leaks[part] * np.sqrt(np.maximum(excess[other], 0.0)) if other in excess else limit
        noise, noise_square = c * judged.trace, c**2 * judged.squared_trace
        if not noise:
            return 1.0
        real = 1 / n / c
        nu = 1 / (real**2 / (n - 1) + (1 - real) ** 2 / max(n * self.images - 1, 1.0))
        if part == "content":
            return float((self._of_content(shift, n, length, limit, nu) < LEVEL).mean())
        square = excess[part] + noise
        freedom = noise**2 / noise_square
        if self.grouped:
            ones = np.ones(DRAWS)
            p_values = f_exceeds(square / noise, freedom * ones, nu * ones, freedom * limit**2 / noise)
            return float((p_values < LEVEL).mean())
        along = length**2 * shift.along[part] + 2 * length * math.sqrt(c) * shift.along_draws[part] + c * judged.along
        slope = c * along / np.maximum(square, 1e-300)
        t = float(stats.t.isf(LEVEL / 2, nu))
        least = limit**2
        return float((excess[part] - least > t * np.sqrt(2 * noise_square + 4 * slope * least)).mean())

    def _of_content(self, shift: Shift, n: float, length: float, limit: Array, nu: float) -> Array:
        """P-values of content, of which the covariance is known."""
        c, (chance, covariance) = (1 + self._share) / n, (tensor.numpy() for tensor in self._content)
        difference = length * shift.content + math.sqrt(c) * chance
        trace = np.full(DRAWS, np.trace(covariance))
        freedom = trace**2 / np.square(covariance).sum()
        ratio = np.square(difference).sum(1) / (c * trace)
        of_length = f_exceeds(ratio, freedom, nu, freedom * limit**2 / (c * trace))
        variances = covariance / n, covariance * self._share / n
        return composition_p_values(of_length, difference, variances, (n, n * self.images), limit)

    def _excess(self, shift: Shift, part: Judged, c: float, length: float) -> Array:
        """Debiased squared distances of all draws."""
        own = self._parts[part]
        found: Array = length**2 * shift.square[part] + 2 * length * math.sqrt(c) * shift.across[part]
        return found + c * own.squares - c * own.trace


def _inner(draws: Tensor, other: Tensor) -> Array:
    """Inner product of each draw with one vector, or with its own."""
    found: Array = (draws @ other if other.ndim == 1 else (draws * other).sum(1)).numpy()
    return found


def least_units(is_found: Callable[[int], bool]) -> int | None:
    """The smallest number of units, four at least, with which something is found; ``None`` above ten million."""
    if not is_found(MAX_UNITS):
        return None
    low, high = MIN_UNITS, MIN_UNITS
    while not is_found(high):
        low, high = high + 1, 2 * high
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if is_found(middle) else (middle + 1, high)
    return high


def least_length(power: Callable[[float], float], wanted: float) -> float:
    """The smallest length of a shift that is found with a power."""
    if power(0.0) >= wanted:
        return 0.0
    high = 1.0
    while power(high) < wanted:
        high *= 2
    while power(high / 2) >= wanted:
        high /= 2
    low = high / 2
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (low, middle) if power(middle) >= wanted else (middle, high)
    return high


def _shrunk(covariance: Tensor, squared_trace: float, identity: Tensor) -> Tensor:
    """A covariance with its trace, and with the trace of its square that is known without bias.

    That of a few images in many dimensions is too uneven; a share of the identity of its space makes up for it.
    """
    trace, found = float(covariance.trace()), float(covariance.square().sum())
    mean = trace / float(identity.trace())
    even = mean * trace
    if found <= even:
        return covariance
    keep = min(math.sqrt(max(squared_trace - even, 0.0) / (found - even)), 1.0)
    return keep * covariance + (1 - keep) * mean * identity


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
        value = squared_distance(of_real, fakes[1]) - squared_distance(of_real, fakes[0])
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
        return least_units(lambda n: self.detectable(n, power) <= abs(difference))
