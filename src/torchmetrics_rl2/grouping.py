"""Latents by group: one row of sums for each slide, patient or source image."""

from collections.abc import Sequence

import torch
from torch import Tensor

from torchmetrics_rl2.functional import LatentSums

__all__ = ["add_rows", "rows_of"]


def rows_of(names: Sequence[str]) -> tuple[tuple[str, ...], Tensor]:
    """Names of groups, none twice, and for each of those given the row of its group."""
    index = {name: i for i, name in enumerate(dict.fromkeys(names))}
    return tuple(index), torch.tensor([index[name] for name in names])


def add_rows(values: Sequence[Tensor], rows: Tensor, count: int) -> LatentSums:
    """Sums, squared norms and counts added up into ``count`` rows."""
    total, squares, counts = (value.new_zeros(count, *value.shape[1:]).index_add(0, rows, value) for value in values)
    return LatentSums(total, squares, counts)
