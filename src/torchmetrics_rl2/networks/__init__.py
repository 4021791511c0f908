"""The networks: ResNet-18 and the RealNVP flow."""

from torchmetrics_rl2.networks.extractor import FeatureExtractor, Preprocessing
from torchmetrics_rl2.networks.flow import RealNVP
from torchmetrics_rl2.networks.gaussian import Gaussian
from torchmetrics_rl2.networks.mixture import Mixture

__all__ = ["FeatureExtractor", "Gaussian", "Mixture", "Preprocessing", "RealNVP"]
