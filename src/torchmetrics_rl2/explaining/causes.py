r"""Which known damage shifts look as the generated images do, and by how much.

The signature of a ladder is a curve :math:`s(a)` through latent space, from 0 on, by shape-preserving interpolation of
the shifts that were measured at its severities. With :math:`d` the look of the difference of means and :math:`V` the
covariance that chance gives it, a damage explains

.. math:: R^2 = 1 - \frac{\lVert d - s(a) \rVert^2 - \mathrm{tr}\,V}{\lVert d \rVert^2 - \mathrm{tr}\,V}

of it, at the severity :math:`a` where that is largest; two at once explain what the sum of their signatures does.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.interpolate import PchipInterpolator
from scipy.optimize import minimize_scalar

from torchmetrics_rl2.distance.explanation import Cause, Explanation, amount_text
from torchmetrics_rl2.distance.kinds import Kinds
from torchmetrics_rl2.distance.statistics import Statistics
from torchmetrics_rl2.distance.text import LEVEL
from torchmetrics_rl2.pixels.degradations import LADDERS
from torchmetrics_rl2.weights.signatures import Signatures

__all__ = ["Array", "Curves", "Look", "Point", "explain_look"]

Array = NDArray[np.float64]

POSITIONS = 64
MIN_EXPLAINED = 0.4  # between real sets of other laboratories less was seen
MIN_SECOND = 0.015  # of the squared look, and
MIN_GAIN = 0.25  # of what chance adds to it: misfit of the first signature explains less
CONFUSABLE = 0.03


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


@dataclass(frozen=True)
class Look:
    """The look of a difference of means.

    Args:
        difference: Generated less real, ``(d,)``.
        variance: What chance makes of it, ``(d, d)``.
        freedom: Degrees of freedom of that.

    """

    difference: Array
    variance: Array
    freedom: int

    @classmethod
    def of(cls, real: Statistics, fake: Statistics) -> "Look":
        """That of two sides, of at least four units each."""
        units = [(side if side.kinds is None else side.part("look")).units for side in (real, fake)]
        of_real, of_fake = (side for side in units if side is not None)
        variance = of_real.covariance / of_real.count + of_fake.covariance / of_fake.count
        difference = of_fake.mean - of_real.mean
        return cls(difference.numpy(), variance.numpy(), min(of_real.count, of_fake.count) - 1)

    @property
    def noise(self) -> float:
        """What chance adds to the squared length."""
        return float(np.trace(self.variance))

    @property
    def total(self) -> float:
        """The squared length without that."""
        return float(self.difference @ self.difference) - self.noise

    def explained(self, apart: float) -> float:
        """Share of that which a signature explains, from its squared distance ``apart``."""
        return 1 - (apart - self.noise) / self.total


def explain_look(
    real: Statistics, fake: Statistics, signatures: Signatures, least: float = MIN_EXPLAINED
) -> Explanation:
    """Known damage that shifts the look of generated images away from that of real ones.

    It is for a look that differs beyond chance. Damage is named that explains enough of it; a second one, of
    another family, where it explains more than a misfit of the first does.

    Args:
        real: Of weights with these signatures, with second moments or groups, at least four units.
        fake: The same of the generated side.
        signatures: Of the weights, or of the real images.
        least: What share of the squared look a cause explains at least.

    """
    curves, look = Curves(signatures, real.kinds), Look.of(real, fake)
    difference, noise, total = look.difference, look.noise, look.total
    if total <= 0:
        return Explanation(withheld={"causes": "it is no larger than chance"})

    nearest = curves.nearest(difference)
    ladder = min(nearest, key=lambda name: nearest[name][1])
    severity, apart = nearest[ladder]
    points, share = [Point(ladder, severity)], look.explained(apart)
    *pair, apart_of_two = curves.pair(difference, LADDERS[ladder].family)
    if apart - apart_of_two > max(MIN_SECOND * total, MIN_GAIN * noise):
        points, share = sorted(pair, key=lambda point: -curves.length(point)), look.explained(apart_of_two)
    if share < least:
        (closest,) = curves.causes([Point(ladder, severity)], look)
        return Explanation(explained=look.explained(apart), closest=replace(closest, share=look.explained(apart)))
    causes = curves.causes(points, look)
    if len(causes) == 1:
        close = [
            Point(name, nearest[name][0]) for name in nearest if look.explained(nearest[name][1]) > share - CONFUSABLE
        ]
        causes = [replace(causes[0], share=share, confusable=tuple(str(p) for p in close if p.ladder != ladder))]
    return Explanation(causes, explained=share)


class Curves:
    """Signatures as curves, and as points on them.

    Args:
        signatures: Of the weights.
        kinds: Of the weights, if they have several; content is then left out.

    """

    def __init__(self, signatures: Signatures, kinds: Kinds | None) -> None:
        shifts = signatures.shifts
        if kinds is not None:
            shifts = shifts - shifts @ kinds.basis @ kinds.basis.T
        self.of = {}
        self.variances = {}
        points: list[Point] = []
        places: list[Array] = []
        for ladder in dict.fromkeys(signatures.ladders):
            rows = [i for i, name in enumerate(signatures.ladders) if name == ladder]
            at = np.array([0.0, *(signatures.severities[i] for i in rows)])
            through = np.concatenate([np.zeros((1, shifts.shape[1])), shifts[rows].numpy()])
            noise = np.array([0.0, *signatures.variances[rows].double().tolist()])
            order = at.argsort()
            self.of[ladder] = PchipInterpolator(at[order], through[order])
            self.variances[ladder] = PchipInterpolator(at[order], noise[order])
            least = min(abs(value) for value in at if value) / 10
            grid = np.concatenate(
                [sign * np.geomspace(least, (sign * at).max(), POSITIONS) for sign in (-1, 1) if (sign * at).max() > 0]
            )
            grid.sort()
            points += [Point(ladder, float(severity)) for severity in grid]
            places.append(self.of[ladder](grid))
        self.points, self.places = points, np.concatenate(places)
        self.squares = np.square(self.places).sum(1)

    def nearest(self, difference: Array) -> dict[str, tuple[float, float]]:
        """For each ladder the severity whose signature lies nearest, and the squared distance from it."""
        apart = difference @ difference - 2 * self.places @ difference + self.squares
        found: dict[str, tuple[float, float]] = {}
        for ladder in self.of:
            rows = [i for i, point in enumerate(self.points) if point.ladder == ladder]
            best = rows[int(apart[rows].argmin())]
            found[ladder] = self._refined(difference, ladder, [self.points[i].severity for i in rows], best - rows[0])
        return found

    def pair(self, difference: Array, family: str) -> tuple[Point, Point, float]:
        """A point of a family, one of another, whose signatures add up to what lies nearest; its squared distance."""
        of_family = np.array([LADDERS[point.ladder].family == family for point in self.points])
        rows, others = np.flatnonzero(of_family), np.flatnonzero(~of_family)
        if not len(others):
            return self.points[0], self.points[0], math.inf
        projected = self.squares - 2 * self.places @ difference
        apart = difference @ difference + projected[rows][:, None] + projected[others]
        apart += 2 * self.places[rows] @ self.places[others].T
        first, second = np.unravel_index(int(apart.argmin()), apart.shape)
        return self.points[rows[first]], self.points[others[second]], float(apart[first, second])

    def length(self, point: Point) -> float:
        """How far a point is from no damage."""
        return float(np.linalg.norm(self.of[point.ladder](point.severity)))

    def causes(self, points: Sequence[Point], look: Look) -> list[Cause]:
        """Points as causes, each with its interval and its share of the squared look.

        Args:
            points: One, or two.
            look: What they explain.

        """
        quantile = stats.t.ppf(1 - LEVEL / 2, look.freedom)
        tangents = np.stack([self.of[point.ladder](point.severity, 1) for point in points], 1)
        solve = np.linalg.pinv(tangents)
        by_chance = np.diag(solve @ look.variance @ solve.T)
        found = []
        for i, point in enumerate(points):
            of_signature = float(self.variances[point.ladder](point.severity)) / float(np.square(tangents[:, i]).sum())
            half = quantile * math.sqrt(float(by_chance[i]) + of_signature)
            ladder, ends = LADDERS[point.ladder], self.of[point.ladder].x[[0, -1]]
            low, high = (ladder.amount(float(np.clip(point.severity + sign * half, *ends))) for sign in (-1, 1))
            found.append(
                Cause(
                    damage=point.ladder,
                    family=ladder.family,
                    amount=point.amount,
                    unit=ladder.unit,
                    severity=point.severity,
                    interval=(min(low, high), max(low, high)),
                    share=float(self.of[point.ladder](point.severity) @ look.difference) / look.total,
                )
            )
        return found

    def _refined(self, difference: Array, ladder: str, grid: Sequence[float], best: int) -> tuple[float, float]:
        low, high = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
        found = minimize_scalar(
            lambda severity: float(np.square(difference - self.of[ladder](severity)).sum()),
            bounds=(low, high),
            method="bounded",
        )
        return float(found.x), float(found.fun)
