"""How each severity of a ladder compares with the clean images."""

import math
from collections.abc import Sequence
from statistics import fmean

from torch import Tensor

from torchmetrics_rl2.auditing.ladder_result import LadderResult, SeverityResult
from torchmetrics_rl2.auditing.meter import Measured
from torchmetrics_rl2.auditing.steps import Step
from torchmetrics_rl2.auditing.subject import Subject
from torchmetrics_rl2.distance.comparing import compare
from torchmetrics_rl2.distance.kinds import Kinds
from torchmetrics_rl2.distance.parts import PartResult
from torchmetrics_rl2.distance.result import RL2Result
from torchmetrics_rl2.distance.statistics import Statistics
from torchmetrics_rl2.networks.gaussian import Gaussian
from torchmetrics_rl2.pixels.degradations import LADDERS

__all__ = ["auroc"]


def auroc(clean: Tensor, damaged: Tensor) -> float:
    """Probability that a damaged patch ``(M,)`` scores below a clean one ``(N,)``; ties count half."""
    below, equal = damaged[:, None] < clean, damaged[:, None] == clean
    return float(below.double().mean() + equal.double().mean() / 2)


class Judge:
    """Compares damaged with clean images: by look if there are kinds, else chance in content drowns weak damage.

    Args:
        subject: The images.
        clean: What is known of them.
        kinds: The kinds of tissue of the weights, if they have several.

    """

    def __init__(self, subject: Subject, clean: Measured, kinds: Kinds | None) -> None:
        self.subject, self.measured, self.kinds = subject, clean, kinds
        self.first = self._statistics(clean, subject, ~subject.second)
        self.clean = self._compare(self._statistics(clean, subject, subject.second))
        self.features, self.handcrafted = (self._baseline(numbers) for numbers in (clean.features, clean.handcrafted))

    def _statistics(self, measured: Measured, of: Subject, rows: Tensor) -> Statistics:
        groups = [unit for unit, row in zip(of.units, rows.tolist(), strict=True) if row]
        grouped = groups if of.groups or self.subject.groups else None
        return Statistics.of_latents(measured.latents[rows], grouped, self.kinds)

    def _compare(self, second: Statistics) -> RL2Result | PartResult:
        result = compare(self.first, second)
        return result.look or result

    def severity(self, step: Step, damaged: Measured, source: Subject) -> SeverityResult:
        """Response to one severity; ``source`` says which unit and half each damaged image is of."""
        result = self._compare(self._statistics(damaged, source, source.second))
        of_features = self._area(self.features, damaged.features, source)
        has_flow = bool(damaged.likelihood.isfinite().any())
        return SeverityResult(
            severity=step.severity,
            amount=step.ladder.amount(step.severity),
            value=result.value,
            debiased=result.debiased,
            interval=_finite_interval(result.interval),
            p_value=result.p_value,
            auc=auroc(self.measured.likelihood, damaged.likelihood) if has_flow else of_features,
            auc_gaussian=of_features,
            auc_handcrafted=self._area(self.handcrafted, damaged.handcrafted, source),
        )

    def _baseline(self, clean: Tensor) -> list[tuple[bool, Gaussian, Tensor]]:
        """For each half: which it is, the Gaussian of the other half, and what that makes of the clean half."""
        halves = []
        for half in (False, True):
            gaussian = Gaussian(clean[self.subject.second != half])
            halves.append((half, gaussian, gaussian.log_prob(clean[self.subject.second == half])))
        return halves

    def _area(self, baseline: list[tuple[bool, Gaussian, Tensor]], damaged: Tensor, source: Subject) -> float:
        """Mean AUC of both halves."""
        judged = [(gaussian, clean, damaged[source.second == half]) for half, gaussian, clean in baseline]
        return fmean(auroc(clean, gaussian.log_prob(numbers)) for gaussian, clean, numbers in judged if len(numbers))

    def ladder(self, climb: Sequence[Step], severities: Sequence[SeverityResult]) -> LadderResult:
        """All severities of a ladder, or of one direction."""
        ladder, sign = climb[0].ladder, 1 if climb[0].severity > 0 else -1
        number = list(LADDERS).index(ladder.name) + 1
        name = f"{ladder.name} {'+' if sign > 0 else '-'}" if ladder.signed else ladder.name
        return LadderResult(
            number=number,
            name=name,
            family=ladder.family,
            unit=ladder.unit,
            visible=ladder.amount(sign * ladder.visible),
            clean=self.clean.value,
            clean_debiased=self.clean.debiased,
            clean_interval=_finite_interval(self.clean.interval),
            severities=severities,
            part="look" if self.kinds else "whole",
        )


def _finite_interval(interval: tuple[float, float] | None) -> tuple[float, float] | None:
    return interval if interval and all(map(math.isfinite, interval)) else None
