"""A score with what it was found from, for those who show it."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from torchmetrics_rl2.distance.result import RL2Result
from torchmetrics_rl2.distance.statistics import Statistics
from torchmetrics_rl2.encoder.encoder import LatentEncoder
from torchmetrics_rl2.encoder.own import OwnEncoder
from torchmetrics_rl2.explaining.images import SeenImages
from torchmetrics_rl2.images.reader import ImageReader
from torchmetrics_rl2.weights.signatures import Signatures

__all__ = ["Scored"]


@dataclass(frozen=True)
class Scored:
    """A result, and what it was found from. Sides are ``real`` and ``fake``.

    Args:
        result: With its explanation.
        sides: Statistics of both.
        seen: Latents and names of the images of a side, where these were read.
        formats: Number of images by format of their file, of those that were read.
        signatures: Of damage, by which look was explained.
        reader: How images were read.
        encoder: What embedded them, where any were.

    """

    result: RL2Result
    sides: Mapping[str, Statistics]
    seen: Mapping[str, SeenImages]
    formats: Mapping[str, Counter[str]]
    signatures: Signatures | None
    reader: ImageReader
    encoder: LatentEncoder | OwnEncoder | None = None
