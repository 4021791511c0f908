"""RL2 (ResNet-L2): distance and likelihood of histopathology patches, as a torchmetrics metric."""

from torchmetrics_rl2.encoder import LatentEncoder
from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.metric import ResNetL2
from torchmetrics_rl2.scoring import RL2Result, score
from torchmetrics_rl2.weights import list_weights

__version__ = "0.1.0"

__all__ = ["LatentEncoder", "RL2Error", "RL2Result", "ResNetL2", "__version__", "list_weights", "score"]
