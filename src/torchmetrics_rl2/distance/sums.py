"""Sums of latents by group, and as tensors in a file."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.functional import LatentSums

__all__ = [
    "add_rows",
    "group_mean_variance",
    "jackknife_residuals",
    "one_row_each",
    "rows_of",
    "stack",
    "sums_by_name",
    "sums_to_tensors",
    "tensors_to_sums",
]

BY_ROW = ("sum", "square_sum", "count", "content_square_sum", "kind_counts")
"""What groups, and images that there are several of, have in a file; their second moment is not kept."""

Name = TypeVar("Name", bound=Hashable)


def rows_of(names: Sequence[Name]) -> tuple[tuple[Name, ...], Tensor]:
    """Names of groups, none twice, and for each of those given the row of its group."""
    index = {name: i for i, name in enumerate(dict.fromkeys(names))}
    return tuple(index), torch.tensor([index[name] for name in names], dtype=torch.int64)


def add_rows(values: LatentSums, rows: Tensor, count: int, start: LatentSums | None = None) -> LatentSums:
    """Rows of sums added up into ``count`` rows.

    Args:
        values: Rows to add.
        rows: For each of them the row that it is added to.
        count: Number of rows.
        start: What the first rows have already.

    """
    added = {}
    for name, value in sums_by_name(values).items():
        known = value[:0] if start is None else getattr(start, name)
        missing = value.new_zeros(count - len(known), *value.shape[1:])
        first = torch.cat([known, missing]) if len(missing) else known
        added[name] = first.index_add(0, rows.to(value.device), value)
    return LatentSums(**added)


def repeat_rows(values: LatentSums, counts: Tensor) -> LatentSums:
    """Rows of sums, each over so many times the same."""
    return LatentSums(
        **{
            name: value * counts.view(-1, *[1] * (value.ndim - 1)).to(value.dtype)
            for name, value in sums_by_name(values).items()
        }
    )


def sums_by_name(sums: LatentSums) -> dict[str, Tensor]:
    """What is kept of latents, of sums or of rows of them."""
    return {name: value for name, value in vars(sums).items() if value is not None}


def jackknife_residuals(groups: LatentSums) -> tuple[Tensor, Tensor]:
    """How far each group pulls the mean, ``(n, d)``, and the jackknife's weights, ``(n,)``.

    A group that most images are of pulls the mean to itself, and without weights would seem to vary little.
    """
    n, images = len(groups.count), groups.count.sum()
    mean = groups.sum.sum(0) / images
    weights = (n - 1) / (images - groups.count).to(groups.sum.dtype)
    return (groups.sum - groups.count[:, None] * mean) * weights[:, None], weights


def group_mean_variance(groups: LatentSums) -> Tensor:
    """Trace of the covariance of the mean with groups as units, without its matrix; NaN where there is but one."""
    n = len(groups.count)
    return jackknife_residuals(groups)[0].square().sum() / (n - 1) / n


def stack(parts: Sequence[LatentSums]) -> LatentSums:
    """Rows of all parts, one after the other."""
    return LatentSums(**{name: torch.cat([getattr(part, name) for part in parts]) for name in sums_by_name(parts[0])})


def one_row_each(parts: Sequence[LatentSums]) -> LatentSums:
    """Sums of all parts, a row a part."""
    return LatentSums(**{name: torch.stack([getattr(part, name) for part in parts]) for name in sums_by_name(parts[0])})


def sums_to_tensors(
    sums: LatentSums, groups: LatentSums | None, repeated: LatentSums | None = None
) -> dict[str, Tensor]:
    """Sums of a side, those of its groups, and those of images that there are several of, by name."""
    tensors = sums_by_name(sums)
    for prefix, rows in (("group", groups), ("repeated", repeated)):
        if rows is not None:
            tensors |= {f"{prefix}_{name}": value for name, value in sums_by_name(rows).items()}
    return tensors


def tensors_to_sums(
    path: Path, tensors: Mapping[str, Tensor], kinds: int = 0
) -> tuple[LatentSums, LatentSums | None, LatentSums | None]:
    """What :func:`sums_to_tensors` made, checked.

    Args:
        path: The file, for messages.
        tensors: By name.
        kinds: Number of kinds, 0 without any.

    Raises:
        RL2Error: If names, shapes, dtypes or numbers of images are not those of sums.

    """
    shapes = {key: tuple(value.shape) for key, value in tensors.items()}
    width, rows, repeats = (next(iter(shapes.get(key, ())), 0) for key in ("sum", "group_count", "repeated_count"))
    expected = _shapes("", (), width, kinds)
    if "second_moment" in tensors:
        expected["second_moment"] = (width + 1 + bool(kinds),) * 2
    if any(key.startswith("group_") for key in tensors):
        expected |= _shapes("group_", (rows,), width, kinds)
    if any(key.startswith("repeated_") for key in tensors):
        expected |= _shapes("repeated_", (repeats,), width, kinds)
    dtypes = {key: torch.int64 if key.endswith(("count", "counts")) else torch.float64 for key in expected}
    fits = shapes == expected and all(tensors[key].dtype == dtype for key, dtype in dtypes.items())
    empty = 0 in (width, rows if "group_sum" in tensors else width, repeats if "repeated_sum" in tensors else width)
    if not fits or empty:
        raise RL2Error(f"{path} has malformed sums of latents: shapes {shapes}, expected {expected}.")
    if not all(value.isfinite().all() for value in tensors.values()):
        raise RL2Error(f"{path} has sums that are not finite: a latent was NaN, or beyond all bounds.")
    sums = LatentSums(**{field.name: tensors.get(field.name) for field in fields(LatentSums)})  # type: ignore[arg-type]
    groups, repeated = (
        LatentSums(**{name: tensors[f"{prefix}_{name}"] for name in BY_ROW if f"{prefix}_{name}" in tensors})
        if f"{prefix}_sum" in tensors
        else None
        for prefix in ("group", "repeated")
    )
    wrong = groups is not None and bool(groups.count.min() < 1 or groups.count.sum() != sums.count)
    wrong |= repeated is not None and bool(repeated.count.min() < 2 or repeated.count.sum() > sums.count)
    for part in (sums, groups, repeated):
        if part is not None and part.kind_counts is not None:
            wrong |= bool((part.kind_counts < 0).any() or (part.kind_counts.sum(-1) != part.count).any())
    if int(sums.count) < 1 or wrong:
        raise RL2Error(f"{path} has malformed sums of latents: of {int(sums.count)} images.")
    if groups is not None:
        added = {name: value.sum(0) for name, value in sums_by_name(groups).items()}
        if not all(torch.allclose(value, getattr(sums, name)) for name, value in added.items()):
            raise RL2Error(f"{path} has malformed sums of latents: its groups do not add up to the whole.")
    return sums, groups, repeated


def _shapes(prefix: str, rows: tuple[int, ...], width: int, kinds: int) -> dict[str, tuple[int, ...]]:
    found = {"sum": (*rows, width), "square_sum": rows, "count": rows}
    found |= {"content_square_sum": rows, "kind_counts": (*rows, kinds)} if kinds else {}
    return {f"{prefix}{name}": shape for name, shape in found.items()}
