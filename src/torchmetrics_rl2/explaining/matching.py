"""How well known damage matches look, severity by severity."""

from dataclasses import dataclass

import numpy as np

from torchmetrics_rl2.distance.statistics import Statistics
from torchmetrics_rl2.explaining.causes import Look
from torchmetrics_rl2.explaining.curves import Array, Curves, Point
from torchmetrics_rl2.weights.signatures import Signatures

__all__ = ["Match", "matches"]

STEPS = 41


@dataclass(frozen=True)
class Match:
    """How much of look one kind of damage explains, by severity.

    Args:
        damage: Its name.
        severities: Evenly spaced, 0 among them.
        amounts: The same in words.
        shares: Of the squared look that each explains, without what chance adds; below 0 where it leads away.
        best: The severity that explains most.
        amount: That in words.
        share: What that explains.

    """

    damage: str
    severities: Array
    amounts: tuple[str, ...]
    shares: Array
    best: float
    amount: str
    share: float


def matches(real: Statistics, fake: Statistics, signatures: Signatures) -> list[Match]:
    """The match of each damage of the signatures, the best first.

    Args:
        real: Of weights with these signatures, with second moments or groups, at least four units.
        fake: The same of the generated side.
        signatures: Of the weights, or of the real images.

    """
    curves, look = Curves(signatures, real.kinds), Look.of(real, fake)
    if look.total <= 0:
        return []

    found = []
    for ladder, (best, apart) in curves.nearest(look.difference).items():
        low, high = curves.of[ladder].ends
        severities = np.unique([0.0, *np.linspace(low, high, STEPS)])
        amounts = tuple(str(Point(ladder, float(severity))) for severity in severities)
        others = np.square(look.difference - curves.of[ladder](severities)).sum(-1)
        shares = np.array([look.explained(other) for other in others])
        share = look.explained(apart)
        found.append(Match(ladder, severities, amounts, shares, best, str(Point(ladder, best)), share))
    return sorted(found, key=lambda match: -match.share)
