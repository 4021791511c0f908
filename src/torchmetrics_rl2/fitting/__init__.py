"""A flow fitted to your own patches: ``rl2 fit``."""

from torchmetrics_rl2.fitting.result import FitResult
from torchmetrics_rl2.fitting.run import fit
from torchmetrics_rl2.fitting.settings import FitSettings, JointSettings

__all__ = ["FitResult", "FitSettings", "JointSettings", "fit"]
