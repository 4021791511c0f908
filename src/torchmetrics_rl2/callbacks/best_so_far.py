r"""Whether a validation is better than the best so far beyond chance, however often one asks.

Comparison :math:`k` is one-sided at :math:`\alpha_k`, what a spending function (Lan and DeMets 1983) adds,

.. math:: \alpha(k) = \alpha \frac{k}{k + K}, \qquad \alpha_k = \alpha(k) - \alpha(k - 1) ,

with :math:`K` the number of comparisons that are planned. All :math:`\alpha_k` add up to less than :math:`\alpha`, for
ever, so by Bonferroni it does not matter how comparisons depend on each other. It is about uniform over the planned
ones: a sequence that starts at once with :math:`1 / k^2` would ask for larger improvements late in training.

The best so far was chosen for looking close, which makes it harder to beat. What the choice owes to the real images, if
they are the same each time, is in no formula; ``benchmarks/checkpointing.py`` measures it.
"""

import math
from dataclasses import dataclass
from typing import Any

from scipy import stats

from torchmetrics_rl2.distance.differences import difference, squared_distance
from torchmetrics_rl2.distance.text import POWER
from torchmetrics_rl2.distance.uncertainty import Units

__all__ = ["BestSoFar", "Judged"]


@dataclass(frozen=True)
class Judged:
    """A validation against the best so far.

    Args:
        name: Of the validation.
        squared: Its debiased squared distance from the real images.
        is_better: Whether it takes the place of the best so far; the first one does.
        than: Name of the best before; ``None`` for the first.
        gain: By which share of the squared distance of the best it is closer; below 0 it is further away.
        detectable: The smallest such share that this comparison finds with 80 % power; infinite where the best is at
            distance 0 as far as can be told.
        without_gain: Comparisons since the last improvement.

    """

    name: str
    squared: float
    is_better: bool
    than: str | None = None
    gain: float = math.nan
    detectable: float = math.nan
    without_gain: int = 0

    @property
    def debiased(self) -> float:
        """Signed root of the squared distance."""
        return math.copysign(math.sqrt(abs(self.squared)), self.squared)


class BestSoFar:
    """Remembers the best validation, and what was spent on finding better ones.

    Args:
        level: Probability that ever one takes the place of another that is as good or better.
        planned: About how many comparisons there will be.

    """

    def __init__(self, level: float, planned: int) -> None:
        self.level, self.planned = level, planned
        self._comparisons = self._without_gain = 0
        self._spent = 0.0
        self._name: str | None = None
        self._units: Units | None = None

    def judge(self, name: str, real: Units, generated: Units) -> Judged:
        """Compare a validation with the best so far, and change nothing.

        Args:
            name: Of the validation.
            real: Its real images, from which the best is measured anew: so both are from the same ones.
            generated: Its generated images.

        """
        squared = squared_distance(real, generated)
        if not math.isfinite(squared):
            return Judged(name, squared, False, self._name, without_gain=self._without_gain)
        if self._units is None:
            return Judged(name, squared, True)
        found = difference(real, generated, self._units, level=2 * self._next_level())
        half = found.interval[1] - found.value
        smallest = half + float(stats.norm.ppf(POWER)) * found.standard_error
        best = squared_distance(real, self._units)
        is_better = found.interval[1] < 0
        return Judged(
            name,
            squared,
            is_better,
            self._name,
            -found.value / best if best > 0 else math.nan,
            smallest / best if best > 0 else math.inf,
            0 if is_better else self._without_gain + 1,
        )

    def take(self, judged: Judged, generated: Units) -> None:
        """Count a validation, and remember it if it is better.

        Args:
            judged: What :meth:`judge` returned.
            generated: Its generated images.

        """
        if not math.isfinite(judged.squared):
            return
        if self._units is not None:
            self._spent += self._next_level()
            self._comparisons += 1
        self._without_gain = judged.without_gain
        if judged.is_better:
            self._name, self._units = judged.name, generated

    def state_dict(self) -> dict[str, Any]:
        """Numbers, text and tensors."""
        return {
            "comparisons": self._comparisons,
            "without_gain": self._without_gain,
            "spent": self._spent,
            "name": self._name,
            "units": None if self._units is None else dict(vars(self._units)),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state.

        Args:
            state: What :meth:`state_dict` returned.

        """
        self._comparisons, self._without_gain = state["comparisons"], state["without_gain"]
        self._spent, self._name = state["spent"], state["name"]
        self._units = None if state["units"] is None else Units(**state["units"])

    def _next_level(self) -> float:
        # What was spent counts, also if fewer were planned when training began.
        comparison = self._comparisons + 1
        return max(0.0, self.level * comparison / (comparison + self.planned) - self._spent)
