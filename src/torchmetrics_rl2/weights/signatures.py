"""Shifts of the mean latent that known damage causes, by which a difference of means is explained."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["Signatures"]


@dataclass(frozen=True)
class Signatures:
    """How far known damage shifts the mean latent of real images.

    Args:
        ladders: The ladder of damage of each shift, see :data:`~torchmetrics_rl2.pixels.LADDERS`.
        severities: Its severity.
        shifts: Mean latent of damaged images less that of the same clean ones, ``(S, 512)``; half precision in a file.
        variances: Variance of each shift along its own direction that comes of the number of images, ``(S,)``, single
            precision.
        images: How many images they were measured on.

    """

    ladders: tuple[str, ...]
    severities: tuple[float, ...]
    shifts: Tensor
    variances: Tensor
    images: int

    def header(self) -> dict[str, Any]:
        """What a file says of them beside the tensors."""
        return {"ladders": list(self.ladders), "severities": list(self.severities), "images": self.images}

    def tensors(self) -> dict[str, Tensor]:
        """What a file holds of them."""
        return {"shifts": self.shifts.half(), "variances": self.variances}

    @classmethod
    def read(cls, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> "Signatures":
        """Signatures of a file.

        Raises:
            ValueError: If they are not whole.

        """
        ladders, severities = tuple(map(str, header["ladders"])), tuple(map(float, header["severities"]))
        shifts, variances, n = tensors["shifts"], tensors["variances"], len(ladders)
        if not (
            n == len(severities)
            and (tuple(shifts.shape), shifts.dtype) == ((n, 512), torch.float16)
            and (tuple(variances.shape), variances.dtype) == ((n,), torch.float32)
            and len(tensors) == 2
            and (variances >= 0).all()
        ):
            raise ValueError(f"{n} signatures of damage need as many severities, shifts of 512 numbers, and variances")
        return cls(ladders, severities, shifts.double(), variances, int(header["images"]))
