"""Slides and folders of patches, screened: ``rl2 screen``."""

from torchmetrics_rl2.screening.outputs.folder import Outputs
from torchmetrics_rl2.screening.result import ScreenResult
from torchmetrics_rl2.screening.run import screen

__all__ = ["Outputs", "ScreenResult", "screen"]
