"""Signatures as curves through latent space: where on them a difference lies, and how well that is known."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator
from scipy.optimize import minimize_scalar
from torch import Tensor

from torchmetrics_rl2.distance.explanation import amount_text
from torchmetrics_rl2.distance.kinds import Kinds
from torchmetrics_rl2.pixels.degradations import LADDERS
from torchmetrics_rl2.weights.signatures import Signatures

__all__ = ["Array", "Curve", "Curves", "Point"]

Array = NDArray[np.float64]

POSITIONS = 32
FINER = 4
"""By how much an interpolation of second order is nearer at half the spacing."""


@dataclass(frozen=True)
class Point:
    """A place on the curve of a ladder."""

    ladder: str
    severity: float

    @property
    def amount(self) -> float:
        """The severity in the unit of the ladder."""
        return LADDERS[self.ladder].amount(self.severity)

    def __str__(self) -> str:
        return amount_text(self.ladder, self.amount, LADDERS[self.ladder].unit)


class Curve:
    """The signature of a ladder by severity, from no damage on, by shape-preserving interpolation.

    Args:
        severities: Measured ones and 0, ascending, ``(S,)``.
        shifts: Theirs, ``(S, d)``.
        variances: Of each along its own direction, ``(S,)``.

    """

    def __init__(self, severities: Array, shifts: Array, variances: Array) -> None:
        self.severities, self.shifts = severities, shifts
        self._through = PchipInterpolator(severities, shifts)
        self._variances = PchipInterpolator(severities, variances)

    def __call__(self, severity: float | Array) -> Array:
        """The shift at a severity, or at several, ``(d,)`` or ``(N, d)``."""
        found: Array = self._through(severity)
        return found

    @property
    def ends(self) -> tuple[float, float]:
        """The least and the greatest severity."""
        return float(self.severities[0]), float(self.severities[-1])

    @cached_property
    def grid(self) -> Array:
        """Severities that lie dense, ascending, 0 left out."""
        least = np.abs(self.severities[self.severities != 0]).min() / 10
        sides = [(sign, (sign * self.severities).max()) for sign in (-1, 1)]
        return np.sort(np.concatenate([sign * np.geomspace(least, end, POSITIONS) for sign, end in sides if end > 0]))

    @cached_property
    def places(self) -> Array:
        """Shifts of these, ``(G, d)``."""
        return self(self.grid)

    def slope(self, severity: float) -> Array:
        """By how much the shift grows with the severity, ``(d,)``."""
        found: Array = self._through(severity, 1)
        return found

    def variance(self, severity: float) -> float:
        """Of a severity that is found here: because few images were measured, and few severities."""
        steepness = float(np.square(self.slope(severity)).sum())
        if not steepness:
            return math.inf
        of_images = float(self._variances(severity)) / steepness
        return of_images + float(np.interp(severity, self.severities, self._misses)) ** 2

    @cached_property
    def _misses(self) -> Array:
        """By how much a severity is off between those that were measured, ``(S,)``.

        Each but 0 and the ends is left out, and where the others put it tells how far off they are.
        """
        found = np.full(len(self.severities), np.nan)
        for i in range(1, len(found) - 1):
            severity, slope = self.severities[i], self.slope(self.severities[i])
            if severity and slope.any():
                others = PchipInterpolator(np.delete(self.severities, i), np.delete(self.shifts, i, 0))
                found[i] = abs((others(severity) - self.shifts[i]) @ slope) / (slope @ slope) / FINER
        known = np.isfinite(found)
        if not known.any():
            return np.zeros(len(found))
        everywhere: Array = np.interp(self.severities, self.severities[known], found[known])
        return everywhere


class Curves:
    """Signatures as curves, and as points on them.

    Args:
        signatures: Of the weights.
        kinds: Of the weights, if they have several; content is then left out.

    Attributes:
        of: Curve of each ladder.
        measured: Shifts of two kinds of damage, one after the other, less those of each.

    """

    def __init__(self, signatures: Signatures, kinds: Kinds | None) -> None:
        def look(shifts: Tensor) -> Array:
            found: Array = (shifts if kinds is None else shifts - shifts @ kinds.basis @ kinds.basis.T).numpy()
            return found

        shifts = look(signatures.shifts)
        self.of: dict[str, Curve] = {}
        for ladder in dict.fromkeys(signatures.ladders):
            rows = [i for i, name in enumerate(signatures.ladders) if name == ladder]
            at = np.array([0.0, *(signatures.severities[i] for i in rows)])
            through = np.concatenate([np.zeros((1, shifts.shape[1])), shifts[rows]])
            noise = np.array([0.0, *signatures.variances[rows].double().tolist()])
            order = at.argsort()
            self.of[ladder] = Curve(at[order], through[order], noise[order])
        self.measured: dict[tuple[Point, Point], Array] = {}
        if signatures.pairs:
            points = [Point(*step) for step in zip(signatures.ladders, signatures.severities, strict=True)]
            pairs = [(points[first], points[second]) for first, second in signatures.pairs]
            self.measured = dict(zip(pairs, look(signatures.interactions), strict=True))

    def nearest(self, difference: Array) -> dict[str, tuple[float, float]]:
        """For each ladder the severity whose signature lies nearest, and the squared distance from it."""
        return {ladder: self._nearest(difference, curve) for ladder, curve in self.of.items()}

    @staticmethod
    def _nearest(difference: Array, curve: Curve) -> tuple[float, float]:
        def apart(severity: float) -> float:
            return float(np.square(difference - curve(severity)).sum())

        grid = curve.grid
        best = int(np.square(difference - curve.places).sum(1).argmin())
        low, high = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
        found = minimize_scalar(apart, bounds=(low, high), method="bounded")
        return float(found.x), float(found.fun)
