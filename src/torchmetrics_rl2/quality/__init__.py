"""Whether a patch is good, compared with patches that are."""

from torchmetrics_rl2.quality.calibrating import calibrate
from torchmetrics_rl2.quality.calibration import Calibration, Threshold
from torchmetrics_rl2.quality.datasets import keep_good, sample_by_quality, screen_dataset
from torchmetrics_rl2.quality.reasons import REASONS
from torchmetrics_rl2.quality.screener import PatchScreener, Verdicts

__all__ = [
    "REASONS",
    "Calibration",
    "PatchScreener",
    "Threshold",
    "Verdicts",
    "calibrate",
    "keep_good",
    "sample_by_quality",
    "screen_dataset",
]
