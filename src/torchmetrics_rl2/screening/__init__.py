"""Slides and folders of patches, screened: ``rl2 screen``."""

from torchmetrics_rl2.screening.options import GoodPatches, Outputs, Tiling
from torchmetrics_rl2.screening.result import ScreenResult
from torchmetrics_rl2.screening.rows import SlideRow, SlideSummary
from torchmetrics_rl2.screening.run import screen

__all__ = ["GoodPatches", "Outputs", "ScreenResult", "SlideRow", "SlideSummary", "Tiling", "screen"]
