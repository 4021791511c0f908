"""What an audit found on one ladder, severity by severity, and its verdict."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from scipy.stats import spearmanr

__all__ = ["LadderResult", "SeverityResult"]

RISE = 1.1


@dataclass(frozen=True)
class SeverityResult:
    """Response to one severity of a ladder: of look, if the weights have kinds of tissue, else of the whole of RL2.

    Args:
        severity: As :func:`~torchmetrics_rl2.pixels.degrade` takes it.
        amount: The same in the unit of the ladder.
        value: Distance of the damaged half from the clean other half.
        debiased: The same without what small sets add.
        interval: 95 % interval of the debiased value; ``None`` with fewer than four units a half.
        p_value: Of the test that the damaged half is like the clean one; of look, that it is no further off than its
            composition may move it; ``None`` likewise.
        auc: Probability that a damaged patch is less likely than a clean one under the flow.
        auc_gaussian: The same for one Gaussian on the same features, fitted to the other half.
        auc_handcrafted: The same for one Gaussian on fifteen hand-crafted statistics.

    """

    severity: float
    amount: float
    value: float
    debiased: float
    interval: tuple[float, float] | None
    p_value: float | None
    auc: float
    auc_gaussian: float
    auc_handcrafted: float


@dataclass(frozen=True)
class LadderResult:
    """Response to one ladder, or to one direction of a signed ladder.

    Args:
        number: Number of the ladder.
        name: Name of the ladder, with ``+`` or ``-`` if it is signed.
        family: Its family.
        unit: Of its amounts.
        visible: The amount from which a person clearly sees the damage.
        clean: Distance of the two clean halves.
        clean_debiased: The same without what small sets add.
        clean_interval: 95 % interval of its debiased value.
        severities: Weakest first.
        part: What all distances are of: ``look``, or ``whole`` if the weights have no kinds of tissue.

    """

    number: int
    name: str
    family: str
    unit: str
    visible: float
    clean: float
    clean_debiased: float
    clean_interval: tuple[float, float] | None
    severities: Sequence[SeverityResult]
    part: Literal["look", "whole"] = "whole"

    @property
    def rho(self) -> float:
        """Spearman's rank correlation of severity and distance, the clean halves included."""
        values = [self.clean, *(severity.value for severity in self.severities)]
        return float(spearmanr(range(len(values)), values).statistic)

    @property
    def reach(self) -> float:
        """The largest distance in multiples of that of the clean halves."""
        return max(severity.value for severity in self.severities) / self.clean

    @property
    def detected_from(self) -> float | None:
        """Weakest amount that is detected at 95 %, and all stronger ones too.

        The test has to reject, and the interval to lie above the debiased value of the clean halves, which by chance
        differ a little, too.
        """
        weakest = None
        for severity in reversed(self.severities):
            rejected = severity.p_value is not None and severity.p_value < 0.05
            if not rejected or severity.interval is None or severity.interval[0] <= max(self.clean_debiased, 0):
                break
            weakest = severity.amount
        return weakest

    @property
    def at_visible(self) -> SeverityResult:
        """The severity from which a person clearly sees the damage."""
        return min(self.severities, key=lambda severity: abs(severity.amount - self.visible))

    @property
    def verdict(self) -> str:
        """One of five words.

        - ``untested``: there are too few units for a test
        - ``inverts``: the interval of a severity lies below that of a weaker one, or of the clean halves
        - ``blind``: the strongest severity is not detected at 95 %
        - ``saturates``: the strongest severity scores less than 1.1 times the one before
        - ``detects``: none of these
        """
        if self.severities[-1].p_value is None:
            return "untested"
        intervals = [self.clean_interval, *(severity.interval for severity in self.severities)]
        for i, weaker in enumerate(intervals):
            if weaker and any(stronger and stronger[1] < weaker[0] for stronger in intervals[i + 1 :]):
                return "inverts"
        if self.detected_from is None:
            return "blind"
        return "saturates" if self.severities[-1].value < RISE * self.severities[-2].value else "detects"

    def to_dict(self) -> dict[str, Any]:
        """With what follows from the numbers."""
        return asdict(self) | {
            "rho": self.rho,
            "reach": self.reach,
            "detected_from": self.detected_from,
            "verdict": self.verdict,
        }
