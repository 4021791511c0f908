"""A flow fitted to your own patches: ``rl2 fit``."""

from torchmetrics_rl2.fitting.result import FitResult
from torchmetrics_rl2.fitting.run import fit, fit_split
from torchmetrics_rl2.fitting.settings import FitSettings, JointSettings, Machine
from torchmetrics_rl2.fitting.split import Split, split_images

__all__ = ["FitResult", "FitSettings", "JointSettings", "Machine", "Split", "fit", "fit_split", "split_images"]
