"""Sums of latents by group, and as tensors in a file."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.functional import LatentSums

__all__ = ["add_rows", "rows_of", "stack", "sums_to_tensors", "tensors_to_sums"]


def rows_of(names: Sequence[str]) -> tuple[tuple[str, ...], Tensor]:
    """Names of groups, none twice, and for each of those given the row of its group."""
    index = {name: i for i, name in enumerate(dict.fromkeys(names))}
    return tuple(index), torch.tensor([index[name] for name in names])


def add_rows(values: Sequence[Tensor], rows: Tensor, count: int) -> LatentSums:
    """Sums, squared norms and counts added up into ``count`` rows."""
    total, squares, counts = (value.new_zeros(count, *value.shape[1:]).index_add(0, rows, value) for value in values)
    return LatentSums(total, squares, counts)


def stack(parts: Sequence[LatentSums]) -> LatentSums:
    """Rows of all parts, one after the other."""
    return LatentSums(*(torch.cat([getattr(part, name) for part in parts]) for name in ("sum", "square_sum", "count")))


GROUPS = ("group_sum", "group_square_sum", "group_count")
REPEATED = ("repeated_sum", "repeated_square_sum", "repeated_count")


def sums_to_tensors(
    sums: LatentSums, groups: LatentSums | None, repeated: LatentSums | None = None
) -> dict[str, Tensor]:
    """Sums of a side, those of its groups, and those of images that there are several of, by name."""
    tensors = {key: value for key, value in vars(sums).items() if value is not None}
    for names, rows in ((GROUPS, groups), (REPEATED, repeated)):
        if rows is not None:
            tensors |= dict(zip(names, (rows.sum, rows.square_sum, rows.count), strict=True))
    return tensors


def tensors_to_sums(
    path: Path, tensors: Mapping[str, Tensor]
) -> tuple[LatentSums, LatentSums | None, LatentSums | None]:
    """What :func:`sums_to_tensors` made, checked.

    Raises:
        RL2Error: If names, shapes, dtypes or numbers of images are not those of sums.

    """
    shapes = {key: tuple(value.shape) for key, value in tensors.items()}
    width, rows, repeats = (next(iter(shapes.get(key, ())), 0) for key in ("sum", "group_count", "repeated_count"))
    expected: dict[str, tuple[int, ...]] = {"sum": (width,), "square_sum": (), "count": ()}
    if "second_moment" in tensors:
        expected["second_moment"] = (width + 1, width + 1)
    if any(key.startswith("group_") for key in tensors):
        expected |= dict(zip(GROUPS, ((rows, width), (rows,), (rows,)), strict=True))
    if any(key.startswith("repeated_") for key in tensors):
        expected |= dict(zip(REPEATED, ((repeats, width), (repeats,), (repeats,)), strict=True))
    dtypes = {key: torch.int64 if key.endswith("count") else torch.float64 for key in expected}
    fits = shapes == expected and all(tensors[key].dtype == dtype for key, dtype in dtypes.items())
    empty = 0 in (width, rows if "group_sum" in tensors else width, repeats if "repeated_sum" in tensors else width)
    if not fits or empty:
        raise RL2Error(f"{path} has malformed sums of latents: shapes {shapes}, expected {expected}.")
    groups, repeated = (
        LatentSums(*(tensors[name] for name in names)) if names[0] in tensors else None for names in (GROUPS, REPEATED)
    )
    sums = LatentSums(tensors["sum"], tensors["square_sum"], tensors["count"], tensors.get("second_moment"))
    wrong = groups is not None and bool(groups.count.min() < 1 or groups.count.sum() != sums.count)
    wrong |= repeated is not None and bool(repeated.count.min() < 2 or repeated.count.sum() > sums.count)
    if int(sums.count) < 1 or wrong:
        raise RL2Error(f"{path} has malformed sums of latents: of {int(sums.count)} images.")
    if not all(value.isfinite().all() for value in tensors.values()):
        raise RL2Error(f"{path} has sums that are not finite: a latent was NaN, or beyond all bounds.")
    if groups is not None:
        whole = (groups.sum.sum(0), groups.square_sum.sum())
        if not all(torch.allclose(got, own) for got, own in zip(whole, (sums.sum, sums.square_sum), strict=True)):
            raise RL2Error(f"{path} has malformed sums of latents: its groups do not add up to the whole.")
    return sums, groups, repeated
