"""The distance between two sets of latents, and how far to trust it."""

from torchmetrics_rl2.distance.between_groups import BetweenGroups
from torchmetrics_rl2.distance.comparing import compare
from torchmetrics_rl2.distance.comparison import ComparisonResult, GeneratorPair, RankedGenerator
from torchmetrics_rl2.distance.copies import find_copies
from torchmetrics_rl2.distance.copies_result import CopiesResult, CopyPair
from torchmetrics_rl2.distance.diversity import find_repeats
from torchmetrics_rl2.distance.diversity_result import DiversityResult, Repeats
from torchmetrics_rl2.distance.explanation import Cause, Explanation, ImageShare
from torchmetrics_rl2.distance.kinds import Kinds
from torchmetrics_rl2.distance.parts import KindShare, PartResult
from torchmetrics_rl2.distance.result import RL2Result
from torchmetrics_rl2.distance.statistics import Statistics
from torchmetrics_rl2.distance.strata_result import StrataSplit, StratumResult
from torchmetrics_rl2.distance.uncertainty import Uncertainty

__all__ = [
    "BetweenGroups",
    "Cause",
    "ComparisonResult",
    "CopiesResult",
    "CopyPair",
    "DiversityResult",
    "Explanation",
    "GeneratorPair",
    "ImageShare",
    "KindShare",
    "Kinds",
    "PartResult",
    "RL2Result",
    "RankedGenerator",
    "Repeats",
    "Statistics",
    "StrataSplit",
    "StratumResult",
    "Uncertainty",
    "compare",
    "find_copies",
    "find_repeats",
]
