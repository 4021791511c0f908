"""Real images inside weights: sums of their latents, and the scores of some of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from torchmetrics_rl2.distance.sums import sums_to_tensors, tensors_to_sums
from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.functional import LatentSums

__all__ = ["REFERENCE_SCORES", "Reference"]

REFERENCE_SCORES = 2000


@dataclass(frozen=True)
class Reference:
    """Real images that neither fitted nor stopped the flow.

    Args:
        sums: Sums of their latents.
        scores: For up to 2,000 of them log-likelihood, latent norm and log-determinant, ``(n, 3)`` float32.
        groups: Sums of the latents of each slide, patient or source image, one row a group, where those are known.

    """

    sums: LatentSums
    scores: Tensor
    groups: LatentSums | None = None

    def tensors(self) -> dict[str, Tensor]:
        """What a file holds of them."""
        return sums_to_tensors(self.sums, self.groups) | {"scores": self.scores}

    @classmethod
    def read(cls, path: Path, tensors: Mapping[str, Tensor], kinds: int) -> "Reference":
        """Reference of a file.

        Args:
            path: The file.
            tensors: What it holds.
            kinds: Number of kinds of tissue of the flow.

        Raises:
            RL2Error: If it is not whole.

        """
        found = dict(tensors)
        scores = found.pop("scores")
        sums, groups, _ = tensors_to_sums(path, found, kinds if kinds > 1 else 0)
        count = int(sums.count)
        scores_shape = (min(count, REFERENCE_SCORES), 3)
        if count < 2 or sums.sum.shape != (512,) or scores.shape != scores_shape or scores.dtype != torch.float32:
            raise RL2Error(f"{path} has a malformed reference: {count} images, scores of shape {tuple(scores.shape)}.")
        return cls(sums, scores, groups)
