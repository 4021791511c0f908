"""How well known damage matches look, severity by severity."""

from dataclasses import dataclass

import numpy as np

from torchmetrics_rl2.distance.explanation import amount_text
from torchmetrics_rl2.distance.statistics import Statistics
from torchmetrics_rl2.explaining.causes import Array, Curves, Look
from torchmetrics_rl2.pixels.degradations import LADDERS
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

    def explained(ladder: str, severities: Array) -> Array:
        apart = np.square(look.difference - curves.of[ladder](severities)).sum(-1)
        return np.asarray(1 - (apart - look.noise) / look.total)

    found = []
    for ladder, (best, _) in curves.nearest(look.difference).items():
        low, high = curves.of[ladder].x[[0, -1]].tolist()
        severities = np.unique([0.0, *np.linspace(low, high, STEPS)])
        amounts = tuple(_amount(ladder, severity) for severity in severities)
        share = float(explained(ladder, np.array(best)))
        found.append(
            Match(ladder, severities, amounts, explained(ladder, severities), best, _amount(ladder, best), share)
        )
    return sorted(found, key=lambda match: -match.share)


def _amount(ladder: str, severity: float) -> str:
    return amount_text(ladder, LADDERS[ladder].amount(float(severity)), LADDERS[ladder].unit)
