"""What a screen found, in numbers and in sentences."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from torchmetrics_rl2.quality.calibration import Calibration, Threshold
from torchmetrics_rl2.screening.rows import SlideRow, SlideSummary

__all__ = ["ScreenResult", "describe", "warnings_of"]


@dataclass(frozen=True)
class ScreenResult:
    """What a screen found.

    Args:
        slides: A row for each slide or folder of patches, as in ``slides.csv``.
        out: Where everything was written.
        weights: Name with version, or path.
        weights_id: Which latents these are.
        calibration: Source of the good patches, number of patches and groups, whether they are of the domain of the
            weights, and a sha256 of all that scores depend on.
        threshold: The score at or below which patches were rejected, and the false rejection rate that it promises;
            ``None`` if none was rejected by its score.
        warnings: Sentences on what to look at first.
        left_out: Other files of the folders, which are neither slides nor patches.
        settings: All that was asked for.
        versions: Of Python, torch, torchvision and torchmetrics-rl2.

    """

    slides: list[SlideRow]
    out: str
    weights: str
    weights_id: str
    calibration: dict[str, Any]
    threshold: Threshold | None
    warnings: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def failed(self) -> list[SlideRow]:
        """Rows of slides that could not be screened, or are not finished."""
        return [row for row in self.slides if row.status != "finished"]

    def to_dict(self) -> dict[str, Any]:
        """As ``rl2 screen --json`` prints it."""
        return asdict(self) | {"slides": [row.columns() | {"new": row.new} for row in self.slides]}

    def __str__(self) -> str:
        lines = [_line(row) for row in self.slides]
        found = [row.summary for row in self.slides if row.status == "finished" and row.summary]
        if found:
            lines.append(self._judged(found))
        return "\n".join([*lines, f"Weights {self.weights} ({self.weights_id[:12]}); written to {self.out}"])

    def _judged(self, found: Sequence[SlideSummary]) -> str:
        good = "Percentiles refer to {patches} good patches of {source} ({groups} groups)".format(**self.calibration)
        if self.threshold is None or not any(summary.calibrated for summary in found):
            return f"{good}; no patch was rejected by its score"
        low, high = self.threshold.interval
        return (
            f"{good}; at most {100 * self.threshold.max_false_rejection:g} % of such patches are rejected, 95 % "
            f"interval {100 * low:.1f} to {100 * high:.1f} %"
        )


def _line(row: SlideRow) -> str:
    found = row.summary
    if row.status != "finished" or found is None:
        return f"{row.slide}: {row.status}, {row.error}"
    reasons = f" ({found.reasons})" if found.reasons else ""
    kept = f"{row.slide}: {found.kept} of {found.patches} patches with tissue kept{reasons}"
    apart = "" if found.domain_shift is None else f", {_deviations(found.domain_shift, 2)} from the good patches"
    notes = "" if found.calibrated else "; UNCALIBRATED, ranked only"
    notes += f"; {found.background} patches without tissue" if found.background else ""
    notes += f"; {found.unreadable} unreadable files left out" if found.unreadable else ""
    notes += "" if row.new else "; finished before"
    return f"{kept}; domain {found.domain}{apart}{notes}"


def _deviations(shift: float, digits: int) -> str:
    return f"{shift:.{digits}f} standard deviations"


def describe(calibration: Calibration) -> dict[str, Any]:
    """What a result says of its calibration."""
    return {
        "source": calibration.source,
        "patches": len(calibration),
        "groups": calibration.group_count,
        "of_weights": calibration.of_weights,
        "sha256": calibration.id,
    }


def warnings_of(row: SlideRow, warn_rejected: float) -> list[str]:
    """Sentences on what to look at first.

    Args:
        row: Of a slide.
        warn_rejected: Warn if more than this share of its patches with tissue is rejected.

    """
    summary = row.summary
    if row.status != "finished" or summary is None:
        return []
    found = []
    shift = _deviations(summary.domain_shift or 0.0, 1)
    only_ranked = (
        "UNCALIBRATED: its patches are ranked, and rejected only for ink, black and background. Calibrate with good "
        "patches of its kind, --calibrate."
    )
    if not summary.patches:
        found.append(f"{row.slide} has no patch with tissue: all {summary.background} are background.")
    elif not summary.calibrated and summary.domain == "unknown":
        found.append(
            f"{row.slide} has too few patches of tissue without ink and black to tell whether it is in the domain of "
            f"the weights. {only_ranked}"
        )
    elif not summary.calibrated:
        found.append(
            f"{row.slide} is out of the domain of the weights, {shift} from it: another tissue, stain or scanner, or "
            f"damaged as a whole. {only_ranked}"
        )
    elif summary.domain == "outside":
        found.append(
            f"{row.slide} is {shift} from the good patches, in stain, scanner, tissue or damage: the false rejection "
            "rate is not guaranteed for it."
        )
    if summary.patches and 1 - summary.kept_share > warn_rejected:
        found.append(
            f"{100 * (1 - summary.kept_share):.0f} % of the patches with tissue of {row.slide} are REJECTED "
            f"({summary.reasons}). Look at its pictures before you continue."
        )
    return found
