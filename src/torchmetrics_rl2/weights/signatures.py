"""Shifts of the mean latent that known damage causes, by which a difference of means is explained."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from torchmetrics_rl2.pixels.degradations import LADDERS

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
        pairs: Rows of two kinds of damage that were done one after the other, if any were.
        interactions: Shift of both less the shifts of each, on the same images, ``(P, 512)``; half precision in a file.

    """

    ladders: tuple[str, ...]
    severities: tuple[float, ...]
    shifts: Tensor
    variances: Tensor
    images: int
    pairs: tuple[tuple[int, int], ...] = ()
    interactions: Tensor = field(default_factory=lambda: torch.zeros(0, 512, dtype=torch.float64))

    def header(self) -> dict[str, Any]:
        """What a file says of them beside the tensors."""
        found = {"ladders": list(self.ladders), "severities": list(self.severities), "images": self.images}
        return found | ({"pairs": [list(pair) for pair in self.pairs]} if self.pairs else {})

    def tensors(self) -> dict[str, Tensor]:
        """What a file holds of them."""
        found = {"shifts": self.shifts.half(), "variances": self.variances}
        return found | ({"interactions": self.interactions.half()} if self.pairs else {})

    @classmethod
    def read(cls, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> "Signatures":
        """Signatures of a file.

        Raises:
            ValueError: If they are not whole, or of damage that this version does not know.

        """
        ladders, severities = tuple(map(str, header["ladders"])), tuple(map(float, header["severities"]))
        pairs = tuple((int(first), int(second)) for first, second in header.get("pairs", ()))
        n = len(ladders)
        expected = {"shifts": ((n, 512), torch.float16), "variances": ((n,), torch.float32)}
        expected |= {"interactions": ((len(pairs), 512), torch.float16)} if pairs else {}
        found = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}
        if not (
            n == len(severities)
            and found == expected
            and (tensors["variances"] >= 0).all()
            and all(0 <= row < n for pair in pairs for row in pair)
        ):
            raise ValueError(
                f"{n} signatures of damage need as many severities, shifts of 512 numbers, and variances, and "
                f"{len(pairs)} pairs of them as many interactions"
            )
        if unknown := sorted(set(ladders) - set(LADDERS)):
            raise ValueError(f"it has signatures of {unknown[0]!r}, a damage that only a later version may know")
        if len(set(zip(ladders, severities, strict=False))) < len(ladders) or not all(
            0 < (abs(one) if LADDERS[name].signed else one) <= 1 for name, one in zip(ladders, severities, strict=True)
        ):
            raise ValueError("each signature of a damage has a severity of its own, and none has 0 or more than 1")
        shifts, variances, images = tensors["shifts"].double(), tensors["variances"], int(header["images"])
        if not pairs:
            return cls(ladders, severities, shifts, variances, images)
        return cls(ladders, severities, shifts, variances, images, pairs, tensors["interactions"].double())
