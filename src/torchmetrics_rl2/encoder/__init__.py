"""From pixels to latents."""

from torchmetrics_rl2.encoder.encoder import LatentEncoder
from torchmetrics_rl2.encoder.exporting import export_program

__all__ = ["LatentEncoder", "export_program"]
