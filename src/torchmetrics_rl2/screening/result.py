"""What a screen found, in numbers and in sentences."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from torchmetrics_rl2.quality.calibration import Threshold

__all__ = ["ScreenResult"]


@dataclass(frozen=True)
class ScreenResult:
    """What a screen found.

    Args:
        slides: A row for each slide or folder of patches, as in ``slides.csv``.
        out: Where everything was written.
        weights: Name with version, or path.
        weights_id: Which latents these are.
        calibration: What the good patches are of, how many of how many groups, and the sha256 of what depends on them.
        threshold: The score that cuts, and the loss of good patches that it promises; ``None`` where nothing is cut.
        warnings: Sentences on what a person has to look at before believing the rest.
        settings: All that was asked for.
        versions: Of Python, torch, torchvision and torchmetrics-rl2.

    """

    slides: list[dict[str, Any]]
    out: str
    weights: str
    weights_id: str
    calibration: dict[str, Any]
    threshold: Threshold | None
    warnings: list[str] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def failed(self) -> list[dict[str, Any]]:
        """Rows of slides that could not be screened, or are not finished."""
        return [row for row in self.slides if row["status"] != "finished"]

    def to_dict(self) -> dict[str, Any]:
        """As ``rl2 screen --json`` prints it."""
        return asdict(self)

    def __str__(self) -> str:
        lines = [_line(row) for row in self.slides]
        finished = [row for row in self.slides if row["status"] == "finished"]
        if finished:
            lines.append(self._judged(finished))
        return "\n".join([*lines, f"Weights {self.weights} ({self.weights_id[:12]}); written to {self.out}"])

    def _judged(self, finished: Sequence[Mapping[str, Any]]) -> str:
        good = "{patches} good patches of {source} ({groups} groups)".format(**self.calibration)
        if self.threshold is None or not any(row["calibrated"] for row in finished):
            return f"Percentiles are among {good}; nothing was cut by its score"
        low, high = self.threshold.interval
        return (
            f"Percentiles are among {good}; at most {100 * self.threshold.max_false_rejection:g} % of such patches are "
            f"lost, 95 % interval {100 * low:.1f} to {100 * high:.1f} %"
        )


def _line(row: Mapping[str, Any]) -> str:
    if row["status"] != "finished":
        return f"{row['slide']}: {row['status']}, {row['error']}"
    reasons = f" ({row['reasons']})" if row["reasons"] else ""
    before = "" if row.get("new", True) else ", finished before"
    kept = f"{row['slide']}: {row['kept']} of {row['patches']} patches with tissue kept{reasons}"
    notes = "" if row["calibrated"] else "; UNCALIBRATED, ranked only"
    notes += f"; {row['unreadable']} unreadable left out" if row.get("unreadable") else ""
    spreads = "" if row["domain_shift"] is None else f", {row['domain_shift']:.2f} spreads from the good patches"
    return f"{kept}; domain {row['domain']}{spreads}{notes}{before}"
