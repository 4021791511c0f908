"""Sums of latents as states of a metric, over all images of a side or over each of its groups."""

from collections.abc import Iterable, Sequence
from dataclasses import fields
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from torchmetrics_rl2.distance.kinds import Kinds, rows_of_images, sums_of
from torchmetrics_rl2.distance.sums import add_rows, rows_of, stack
from torchmetrics_rl2.encoder.sharing import network_of
from torchmetrics_rl2.functional import LatentSums
from torchmetrics_rl2.metrics.network_metric import NetworkMetric

__all__ = ["GroupNames", "KeptSums", "names_of"]

GroupNames = str | int | Sequence[str | int] | Tensor | np.ndarray[Any, Any]
"""What ``update`` takes as groups: one name for a batch, or one for each image."""

END = "\0"


class KeptSums(NetworkMetric):
    """Base of metrics that keep sums of latents of several sides.

    The states of a side are the fields of :class:`LatentSums`. With groups each has one row a group, and a further one
    has their names, as UTF-8, each with a zero byte after it: text of any length that can be gathered and joined.

    Args:
        encoder: Name of weights, path of a weights file, or a module with ``num_features``.
        uncertainty: Whether to keep second moments; groups need none.
        groups: Whether to keep the sums of each group.
        kwargs: See :class:`torchmetrics.Metric`.

    """

    def __init__(self, encoder: str | Path | nn.Module, uncertainty: bool, groups: bool, **kwargs: Any) -> None:
        super().__init__(encoder, **kwargs)
        self.uncertainty = uncertainty
        self.groups = groups
        kinds = getattr(network_of(self.encoder), "kinds", None)
        self._kinds = kinds if isinstance(kinds, Kinds) else None
        self._sides: tuple[str, ...] = ()

    def _add_sides(self, sides: Sequence[str]) -> None:
        empty = self._sums_of(torch.empty(0, self.num_features, device=self.device))
        self._sides = tuple(sides)
        for side in sides:
            for name, value in _given(empty):
                self.add_state(f"{side}_{name}", value, dist_reduce_fx="cat" if self.groups else "sum")
            if self.groups:
                no_names = torch.empty(0, dtype=torch.uint8, device=self.device)
                self.add_state(f"{side}_group_names", no_names, dist_reduce_fx="cat")

    def _sums_of(self, latents: Tensor) -> LatentSums:
        if self.groups:
            return rows_of_images(latents, self._kinds)
        return sums_of(latents, self._kinds, self.uncertainty)

    def _kept(self, side: str) -> LatentSums:
        """Sums as they are kept, with groups one row each."""
        kept: dict[str, Any] = {field.name: getattr(self, f"{side}_{field.name}", None) for field in fields(LatentSums)}
        return LatentSums(**kept)

    def _sums(self, side: str) -> LatentSums:
        """Sums over all images of a side."""
        kept = self._kept(side)
        return LatentSums(**{name: value.sum(0) for name, value in _given(kept)}) if self.groups else kept

    def _group_names(self, side: str) -> tuple[str, ...]:
        return _to_names(getattr(self, f"{side}_group_names")) if self.groups else ()

    def _add(self, side: str, latents: Tensor, names: Sequence[str] | None) -> None:
        # Out of place: a state made under inference mode could not be changed in place outside of it.
        more = self._sums_of(latents)
        if names is None:
            self._set(side, self._kept(side) + more)
        else:
            self._set_groups(side, [*self._group_names(side), *names], stack([self._kept(side), more]))

    def _set(self, side: str, sums: LatentSums) -> None:
        for name, value in _given(sums):
            setattr(self, f"{side}_{name}", value)

    def _set_groups(self, side: str, names: Sequence[str], rows: LatentSums) -> None:
        """Keep one row for each name, of all rows of that name."""
        found, index = rows_of(names)
        self._set(side, add_rows(rows, index, len(found)))
        setattr(self, f"{side}_group_names", _to_bytes(found).to(self.device))

    def _merge_groups(self) -> None:
        for side in self._sides if self.groups else ():
            self._set_groups(side, self._group_names(side), self._kept(side))

    def _sync_dist(self, *args: Any, **kwargs: Any) -> None:
        with self._unchanged_by_errors():
            # torchmetrics joins tensors of different lengths only where it finds them in lists.
            for name in filter(self._grows, self._defaults):
                setattr(self, name, [getattr(self, name)])
            super()._sync_dist(*args, **kwargs)
            self._merge_groups()

    def _reduce_states(self, incoming_state: dict[str, Any]) -> None:
        super()._reduce_states(incoming_state)
        self._merge_groups()

    def _unlike_own(self, states: dict[str, Tensor]) -> str:
        wrong = super()._unlike_own(states)
        if wrong or not self.groups:
            return wrong
        for side in self._sides:
            names = states.get(f"{side}_group_names")
            rows = {len(states[f"{side}_{name}"]) for name, _ in _given(self._kept(side)) if f"{side}_{name}" in states}
            if names is not None and {len(_to_names(names))} != rows:
                return f"{side}_group_names has {len(_to_names(names))} names for sums of {sorted(rows)} groups."
        return ""


def names_of(groups: Any, count: int) -> list[str]:
    """Names of the groups of a batch, one for each of its images.

    Args:
        groups: A name for the whole batch, or one for each image.
        count: Number of images.

    Raises:
        ValueError: If there are more or fewer, or a name is no text and no whole number.

    """
    given = groups.tolist() if isinstance(groups, Tensor | np.ndarray) else groups
    names = list(given) if isinstance(given, Iterable) and not isinstance(given, str) else [given] * count
    if len(names) != count:
        raise ValueError(f"ResNetL2 expects a group for each of {count} images, but got {len(names)} groups.")
    for name in names:
        if not isinstance(name, str | Integral) or isinstance(name, bool) or (isinstance(name, str) and END in name):
            raise ValueError(
                "ResNetL2 expects names of slides or patients as groups, text or whole numbers, but got "
                f"{name!r} among {len(names)}."
            )
    return [str(name) for name in names]


def _given(sums: LatentSums) -> list[tuple[str, Tensor]]:
    return [(name, value) for name, value in vars(sums).items() if value is not None]


def _to_bytes(names: Sequence[str]) -> Tensor:
    text = "".join(f"{name}{END}" for name in names)
    # Names of files may hold bytes that are no text.
    return torch.from_numpy(np.array(bytearray(text.encode(errors="surrogateescape")), dtype=np.uint8))


def _to_names(data: Tensor) -> tuple[str, ...]:
    text = data.cpu().numpy().tobytes().decode(errors="surrogateescape")
    return tuple(text.split(END)[:-1])
