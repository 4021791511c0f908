"""RL2 between sets of image files: ``rl2 score``, ``rl2 compare`` and ``rl2 stats``."""

from torchmetrics_rl2.scoring.generators import compare_generators
from torchmetrics_rl2.scoring.run import compute_statistics, score
from torchmetrics_rl2.scoring.scored import Scored

__all__ = ["Scored", "compare_generators", "compute_statistics", "score"]
