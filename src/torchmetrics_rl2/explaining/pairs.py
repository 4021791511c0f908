r"""What two kinds of damage, one after the other, shift, and which two shift as a difference does.

Two kinds are no sum of both: a blur takes noise away, and JPEG what a blur left. So each pair was measured once, at
severities :math:`a_0, b_0` that a person sees, and its shift is written as

.. math:: s_{AB}(a_0, b_0) = \alpha\, s_A(a_0) + \beta\, s_B(b_0) + r,

with :math:`\alpha` and :math:`\beta` by least squares: what each leaves of the other, and what is neither. At other
severities, with the root of how long a signature is, :math:`\rho_A^2 = \lVert s_A(a) \rVert / \lVert s_A(a_0) \rVert`,

.. math:: s_{AB}(a, b) = \alpha^{\rho_B} s_A(a) + \beta^{\rho_A} s_B(b) + \rho_A\, \rho_B\, r,

which is one of them alone where there is none of the other. Without measured pairs it is the sum,
:math:`\alpha = \beta = 1` and :math:`r = 0`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.optimize import least_squares

from torchmetrics_rl2.explaining.curves import Array, Curve, Curves, Point
from torchmetrics_rl2.pixels.degradations import LADDERS

__all__ = ["Pair", "nearest_pair", "on_grid", "pairs_of"]

STEP = 1e-4
LEFT = (0.02, 1.5)
"""What is left of a kind of damage at least, and at most."""


@dataclass(frozen=True)
class Pair:
    r"""Two kinds of damage, the second after the first.

    Args:
        points: Where both were measured, which gives their ladders and signs.
        curves: Of both.
        left: The factors :math:`\alpha` and :math:`\beta`.
        rest: The shift :math:`r` that is neither's, ``(d,)``.

    """

    points: tuple[Point, Point]
    curves: tuple[Curve, Curve]
    left: tuple[float, float]
    rest: Array

    @classmethod
    def of(cls, points: tuple[Point, Point], curves: tuple[Curve, Curve], interaction: Array) -> "Pair":
        """A pair from the shift of both less the shifts of each."""
        alone = np.stack([curve(point.severity) for curve, point in zip(curves, points, strict=True)], 1)
        both = alone.sum(1) + interaction
        factors = np.clip(np.linalg.lstsq(alone, both, rcond=None)[0], *LEFT)
        return cls(points, curves, (float(factors[0]), float(factors[1])), both - alone @ factors)

    @classmethod
    def sum(cls, points: tuple[Point, Point], curves: tuple[Curve, Curve]) -> "Pair":
        """A pair that was not measured."""
        return cls(points, curves, (1.0, 1.0), np.zeros_like(curves[0](0.0)))

    def parts(self, severities: Sequence[float]) -> tuple[Array, Array]:
        """Shifts that are the first's and the second's; half of the rest is either's."""
        first, second = (curve(severity) for curve, severity in zip(self.curves, severities, strict=True))
        roots = self.roots(np.linalg.norm(first), np.linalg.norm(second))
        rest = roots[0] * roots[1] * self.rest / 2
        return self.left[0] ** roots[1] * first + rest, self.left[1] ** roots[0] * second + rest

    def shift(self, severities: Sequence[float]) -> Array:
        """Of both."""
        first, second = self.parts(severities)
        return first + second

    def slopes(self, severities: Sequence[float]) -> Array:
        """By how much that grows with either severity, ``(d, 2)``, by central differences."""
        found = []
        for step in np.diag(np.abs(severities) * STEP):
            found.append((self.shift(severities + step) - self.shift(severities - step)) / (2 * step.sum()))
        return np.stack(found, 1)

    def roots(self, *lengths: Array | np.floating) -> list[Array]:
        """Of how long signatures are, in lengths of those that were measured."""
        whole = (np.linalg.norm(curve(p.severity)) for curve, p in zip(self.curves, self.points, strict=True))
        return [np.sqrt(length / one) for length, one in zip(lengths, whole, strict=True)]

    def grids(self) -> list[tuple[Array, Array]]:
        """Severities of either in the direction of that which was measured, and the shifts of it alone."""
        found = []
        for curve, point in zip(self.curves, self.points, strict=True):
            rows = np.sign(curve.grid) == np.sign(point.severity)
            found.append((curve.grid[rows], curve.places[rows]))
        return found


def pairs_of(curves: Curves) -> list[Pair]:
    """Pairs that were measured; if none was, all of two families. Damage that moves nothing is in none."""

    def moves(point: Point) -> bool:
        return bool(curves.of[point.ladder](point.severity).any())

    if curves.measured:
        return [
            Pair.of(points, (curves.of[points[0].ladder], curves.of[points[1].ladder]), interaction)
            for points, interaction in curves.measured.items()
            if all(map(moves, points))
        ]
    ends = [Point(ladder, end) for ladder, curve in curves.of.items() for end in curve.ends if end]
    return [
        Pair.sum((a, b), (curves.of[a.ladder], curves.of[b.ladder]))
        for a, b in combinations(filter(moves, ends), 2)
        if LADDERS[a.ladder].family != LADDERS[b.ladder].family
    ]


def nearest_pair(pairs: Sequence[Pair], difference: Array) -> tuple[Pair, tuple[float, float], float]:
    """The pair and its severities whose shift lies nearest to a difference, and the squared distance from it."""
    aparts = [on_grid(pair, difference) for pair in pairs]
    best = int(np.argmin([apart.min() for apart in aparts]))
    pair, apart = pairs[best], aparts[best]
    at = np.unravel_index(int(apart.argmin()), apart.shape)
    start = np.array([grid[i] for (grid, _), i in zip(pair.grids(), at, strict=True)])
    ends = [grid[[max(i - 1, 0), min(i + 1, len(grid) - 1)]] for (grid, _), i in zip(pair.grids(), at, strict=True)]
    low, high = zip(*ends, strict=True)
    # Not on a bound, where nothing is left to search.
    start = np.clip(start, np.add(low, 1e-6), np.subtract(high, 1e-6))
    found = least_squares(
        lambda severities: difference - pair.shift(severities), start, bounds=(low, high), x_scale=np.abs(start)
    )
    return pair, (float(found.x[0]), float(found.x[1])), float(2 * found.cost)


def on_grid(pair: Pair, difference: Array) -> Array:
    """Squared distances at all severities of both, from products alone, ``(A, B)``."""
    (_, first), (_, second) = pair.grids()
    rest = pair.rest
    by_first, by_second = pair.roots(np.linalg.norm(first, axis=1)[:, None], np.linalg.norm(second, axis=1)[None])
    a, b, c = pair.left[0] ** by_second, pair.left[1] ** by_first, by_first * by_second
    along = a * (first @ difference)[:, None] + b * (second @ difference) + c * (rest @ difference)
    squares = a**2 * np.square(first).sum(1)[:, None] + b**2 * np.square(second).sum(1) + c**2 * (rest @ rest)
    products = a * b * (first @ second.T) + a * c * (first @ rest)[:, None] + b * c * (second @ rest)
    apart: Array = difference @ difference - 2 * along + squares + 2 * products
    return apart
