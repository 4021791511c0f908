"""RL2 between two sets of image files: ``rl2 score`` and ``rl2 stats``."""

from torchmetrics_rl2.scoring.run import compute_statistics, score
from torchmetrics_rl2.scoring.scored import Scored

__all__ = ["Scored", "compute_statistics", "score"]
