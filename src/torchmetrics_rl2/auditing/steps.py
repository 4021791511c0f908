"""The steps of an audit: one severity of one ladder each."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torchmetrics_rl2.auditing.subject import Subject
from torchmetrics_rl2.distance.uncertainty import MIN_UNITS
from torchmetrics_rl2.pixels.degradations import LADDERS, Ladder

__all__ = ["Step", "steps_of"]

POWER_LADDERS = ("gaussian blur", "gaussian noise")


@dataclass(frozen=True)
class Step:
    """One severity of a ladder, or of one direction of it.

    Args:
        ladder: The ladder.
        severity: One of its severities, or the negative of one on a signed ladder.

    """

    ladder: Ladder
    severity: float

    @property
    def name(self) -> str:
        """The damage with its amount."""
        return f"{self.ladder.name} {self.ladder.amount(self.severity):{'+' if self.ladder.signed else ''}.3g}"

    @property
    def on_same_images(self) -> bool:
        """Coarser magnification has other fields, whose composition is another by chance."""
        return self.ladder.name != "magnification" or self.severity > 0

    @property
    def tests_power(self) -> bool:
        """Whether the power of the test is measured on it."""
        return self.ladder.name in POWER_LADDERS and self.severity == self.ladder.severities[0]

    @property
    def marks(self) -> list[Literal["visible", "weakest"]]:
        """As what its cross-talk is asked for."""
        if not self.on_same_images:
            return []
        severities, strength = self.ladder.severities, abs(self.severity)
        visible = min(severities, key=lambda one: abs(one - self.ladder.visible))
        found: list[Literal["visible", "weakest"]] = ["visible"] if strength == visible else []
        return [*found, "weakest"] if strength == severities[0] else found


def steps_of(names: Sequence[str], subject: Subject, withheld: list[str]) -> list[list[Step]]:
    """The steps of each ladder, and of each direction of a signed one, weakest first.

    Args:
        names: Of the ladders.
        subject: The images.
        withheld: Where to say what these images are too few or too small for.

    """
    if subject.units_in_half < MIN_UNITS:
        withheld.append(
            f"intervals and tests, so every ladder is 'untested': a half has {subject.units_in_half} units and needs "
            f"{MIN_UNITS}"
        )
    climbed = [(LADDERS[name], sign) for name in names for sign in ((1, -1) if LADDERS[name].signed else (1,))]
    if subject.fields is None and (LADDERS["magnification"], -1) in climbed:
        climbed.remove((LADDERS["magnification"], -1))
        px = subject.px
        withheld.append(f"coarser magnification: it needs fields of {2 * px} px; give larger images and --tile {px}")
    return [[Step(ladder, sign * severity) for severity in ladder.severities] for ladder, sign in climbed]
