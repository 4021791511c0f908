r"""Which known damage shifts look as the generated images do, and by how much.

With :math:`d` the look of the difference of means and :math:`V` the covariance that chance gives it, a damage of
signature :math:`s` explains

.. math:: R^2 = 1 - \frac{\lVert d - s(a) \rVert^2 - \mathrm{tr}\,V}{\lVert d \rVert^2 - \mathrm{tr}\,V}

of it, at the severity :math:`a` where that is largest; two at once explain what the shift of both does.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from torchmetrics_rl2.distance.explanation import Cause, Explanation
from torchmetrics_rl2.distance.statistics import Statistics
from torchmetrics_rl2.distance.text import LEVEL
from torchmetrics_rl2.distance.uncertainty import ROUNDING
from torchmetrics_rl2.explaining.curves import Array, Curves, Point
from torchmetrics_rl2.explaining.pairs import Pair, nearest_pair, pairs_of
from torchmetrics_rl2.pixels.degradations import LADDERS
from torchmetrics_rl2.weights.signatures import Signatures

__all__ = ["Look", "explain_look"]

# A cause explains this share of the squared look; between real sets of other laboratories less was seen.
MIN_EXPLAINED = 0.4
# And it has this share of the severity that a person sees; scanners of other laboratories differ by less noise or blur.
MIN_SEEN = 0.25
# A damage is confusable with a cause if it explains no less than this below it.
CONFUSABLE = 0.03

# A second damage takes more of the squared look away than each of: this share of it, this multiple of what chance adds
# to it, and this share of what the first leaves. A misfit of the first, as of other tissue, stays beside any second.
MIN_SECOND = 0.002
MIN_GAIN = 0.75
MIN_REST = 0.25
# Two that are plain to see, by these shares of what a person sees and of the squared look, need not take as much: a
# weak second one is small beside a misfit of a strong first one.
PLAIN_SEEN, PLAIN_EXPLAINED = 0.4, 0.8
PLAIN_GAIN, PLAIN_REST = 0.25, 0.05


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
    real: Statistics,
    fake: Statistics,
    signatures: Signatures,
    least: float = MIN_EXPLAINED,
    least_seen: float = MIN_SEEN,
) -> Explanation:
    """Known damage that shifts the look of generated images away from that of real ones.

    It is for a look that differs beyond chance. Damage is named that explains enough of it, and that is not far below
    what a person sees; a second one, of another family, where it explains more than a misfit of the first does.

    Args:
        real: Of weights with these signatures, with second moments or groups, at least four units.
        fake: The same of the generated side.
        signatures: Of the weights, or of the real images.
        least: What share of the squared look a cause explains at least.
        least_seen: What share of the severity that a person sees a cause has at least.

    """
    curves, look = Curves(signatures, real.kinds), Look.of(real, fake)
    if look.total <= 0:
        return Explanation(withheld={"causes": "look is no larger than chance"})
    if look.noise <= ROUNDING * look.total:
        why = "images of either side do not vary, or groups of them, so what chance adds is not known"
        return Explanation(withheld={"causes": why})

    nearest = curves.nearest(look.difference)
    ladder = min(nearest, key=lambda name: nearest[name][1])
    severity, apart = nearest[ladder]
    point = Point(ladder, severity)
    pairs = pairs_of(curves)
    if pairs:
        pair, severities, apart_of_two = nearest_pair(pairs, look.difference)
        explained = look.explained(apart_of_two)
        found = [Point(point.ladder, severity) for point, severity in zip(pair.points, severities, strict=True)]
        seen = min(map(_share_seen, found))
        plain = seen >= PLAIN_SEEN and explained >= PLAIN_EXPLAINED
        if seen >= least_seen and explained >= least and _is_needed(apart, apart_of_two, look, plain):
            return Explanation(_causes_of_two(pair, severities, look), explained=explained)
    share = look.explained(apart)
    cause = _cause(curves, point, look, apart)
    if share < least or _share_seen(point) < least_seen:
        return Explanation(explained=share, closest=cause)
    close = [Point(name, found[0]) for name, found in nearest.items() if look.explained(found[1]) > share - CONFUSABLE]
    confusable = tuple(str(point) for point in close if point.ladder != ladder)
    return Explanation([replace(cause, confusable=confusable)], explained=share)


def _is_needed(apart: float, apart_of_two: float, look: Look, plain: bool) -> bool:
    """Whether a second damage explains more than chance and a misfit of the first do."""
    of_chance, of_rest = (PLAIN_GAIN, PLAIN_REST) if plain else (MIN_GAIN, MIN_REST)
    return apart - apart_of_two > max(MIN_SECOND * look.total, of_chance * look.noise, of_rest * apart)


def _share_seen(point: Point) -> float:
    """Severity of a damage, in that which a person sees."""
    return abs(point.severity) / LADDERS[point.ladder].visible


def _cause(curves: Curves, point: Point, look: Look, apart: float) -> Cause:
    curve = curves.of[point.ladder]
    (variance,) = _by_chance(curve.slope(point.severity)[:, None], look, apart)
    return _in_units(point, variance + curve.variance(point.severity), curve.ends, look, look.explained(apart))


def _causes_of_two(pair: Pair, severities: tuple[float, float], look: Look) -> list[Cause]:
    """Both, the one that explains more first."""
    by_chance = _by_chance(
        pair.slopes(severities), look, float(np.square(look.difference - pair.shift(severities)).sum())
    )
    found = []
    for point, curve, severity, variance, part in zip(
        pair.points, pair.curves, severities, by_chance, pair.parts(severities), strict=True
    ):
        share = float(part @ look.difference) / look.total
        variance += curve.variance(severity)
        found.append(_in_units(Point(point.ladder, severity), variance, curve.ends, look, share))
    return sorted(found, key=lambda cause: -cause.share)


def _by_chance(slopes: Array, look: Look, apart: float) -> list[float]:
    """Variances of severities that come of the variance of a difference, by least squares.

    A shift that is further from the difference than chance puts it is no better known than that: as of a regression
    whose residuals are larger than their errors say, variances are so many times larger.
    """
    solve = np.linalg.pinv(slopes)
    found: list[float] = (max(1.0, apart / look.noise) * np.diag(solve @ look.variance @ solve.T)).tolist()
    return found


def _in_units(point: Point, variance: float, ends: tuple[float, float], look: Look, share: float) -> Cause:
    ladder = LADDERS[point.ladder]
    half = float(stats.t.ppf(1 - LEVEL / 2, look.freedom)) * math.sqrt(variance)
    low, high = (ladder.amount(min(max(point.severity + sign * half, ends[0]), ends[1])) for sign in (-1, 1))
    return Cause(
        damage=point.ladder,
        family=ladder.family,
        amount=point.amount,
        unit=ladder.unit,
        severity=point.severity,
        interval=(min(low, high), max(low, high)),
        share=share,
    )
