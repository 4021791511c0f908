"""Sums of latents as states of a metric, over all images of a side or over each of its groups and classes."""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from torchmetrics_rl2.distance.kinds import Kinds, rows_of_images, sums_of
from torchmetrics_rl2.distance.statistics import Statistics
from torchmetrics_rl2.distance.strata import MAX_CLASSES
from torchmetrics_rl2.distance.sums import add_rows, one_row_each, rows_of, sums_by_name
from torchmetrics_rl2.encoder.sharing import network_of
from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.functional import LatentSums
from torchmetrics_rl2.metrics.image_names import CLASSES, GROUPS, Naming, to_bytes, to_names
from torchmetrics_rl2.metrics.network_metric import NetworkMetric

__all__ = ["KeptSums", "Key"]

Key = tuple[str, ...]
"""Names that images have in common: of their class, of their group, or of both."""

NAMED = 5


class KeptSums(NetworkMetric):
    """Base of metrics that keep sums of latents of several sides.

    The states of a side are the fields of :class:`LatentSums`. With groups or classes each has one row a key, and for
    each part of the key a further state has the names, one a row.

    Args:
        encoder: Name of weights, path of a weights file, or a module with ``num_features``.
        uncertainty: Whether to keep second moments; groups need none.
        groups: Whether to keep the sums of each group.
        classes: Whether to keep the sums of each class, or of each group of it.
        kwargs: See :class:`torchmetrics.Metric`.

    """

    def __init__(
        self, encoder: str | Path | nn.Module, uncertainty: bool, groups: bool, classes: bool, **kwargs: Any
    ) -> None:
        super().__init__(encoder, **kwargs)
        self.uncertainty = uncertainty
        self.groups = groups
        self.classes = classes
        self._namings = tuple(naming for naming, by in ((CLASSES, classes), (GROUPS, groups)) if by)
        kinds = getattr(network_of(self.encoder), "kinds", None)
        self._kinds = kinds if isinstance(kinds, Kinds) else None
        self._sides: tuple[str, ...] = ()

    def _add_sides(self, sides: Sequence[str]) -> None:
        empty = self._sums_of(torch.empty(0, self.num_features, device=self.device))
        self._sides = tuple(sides)
        for side in sides:
            for name, value in sums_by_name(empty).items():
                start = value.new_empty(0, *value.shape) if self._namings else value
                self.add_state(f"{side}_{name}", start, dist_reduce_fx="cat" if self._namings else "sum")
            for naming in self._namings:
                no_names = torch.empty(0, dtype=torch.uint8, device=self.device)
                self.add_state(f"{side}_{naming.one}_names", no_names, dist_reduce_fx="cat")

    def _sums_of(self, latents: Tensor) -> LatentSums:
        return sums_of(latents, self._kinds, self.uncertainty and not self.groups)

    def _rows_of(self, latents: Tensor, index: Tensor, count: int) -> LatentSums:
        """Sums of latents as ``count`` rows, each latent in the row of its index."""
        if self.groups or not self.uncertainty:
            return add_rows(rows_of_images(latents, self._kinds), index, count)
        # Second moments of single images would be as large as those of a class.
        return one_row_each([self._sums_of(latents[index == row]) for row in range(count)])

    def _kept(self, side: str) -> LatentSums:
        """Sums as they are kept, with groups or classes one row each."""
        kept: dict[str, Any] = {field.name: getattr(self, f"{side}_{field.name}", None) for field in fields(LatentSums)}
        return LatentSums(**kept)

    def _sums(self, side: str) -> LatentSums:
        """Sums over all images of a side."""
        return _total(self._kept(side)) if self._namings else self._kept(side)

    def _keys(self, side: str) -> list[Key]:
        """The key of each row."""
        return list(zip(*(self._names(side, naming) for naming in self._namings), strict=True))

    def _names(self, side: str, naming: Naming) -> tuple[str, ...]:
        """The group or class of each row."""
        return to_names(getattr(self, f"{side}_{naming.one}_names"))

    def _by_group(self, side: str) -> tuple[tuple[str, ...], LatentSums]:
        """Names of all groups of a side, and a row for each of them, over all of its classes."""
        names, index = rows_of(self._names(side, GROUPS))
        return names, add_rows(self._kept(side), index, len(names))

    def _described_latents(self) -> dict[str, Any]:
        """Which latents these are, as statistics have it."""
        return {"weights": self._encoder_name(), "weights_id": self._weights_id(), "kinds": self._kinds}

    def _by_class(self, side: str) -> dict[str, Statistics]:
        """Statistics of each class of a side, in the order of their names."""
        kept, keys = self._kept(side).to("cpu", torch.float64), self._keys(side)
        rows: dict[str, list[int]] = {}
        for row, key in enumerate(keys):
            rows.setdefault(key[0], []).append(row)
        found = {}
        for name, of_class in sorted(rows.items()):
            own = LatentSums(**{field: value[of_class] for field, value in sums_by_name(kept).items()})
            names = tuple(keys[row][-1] for row in of_class)
            groups, names = (own, names) if self.groups else (None, ())
            found[name] = Statistics(_total(own), groups, names, source=name, **self._described_latents())
        return found

    def _add(self, side: str, latents: Tensor, keys: Sequence[Key]) -> None:
        # Out of place: a state made under inference mode could not be changed in place outside of it.
        if not self._namings:
            self._set(side, self._kept(side) + self._sums_of(latents))
            return
        if not keys:
            return
        new, index = rows_of(keys)
        rows, known = self._rows_of(latents, index, len(new)), self._keys(side)
        found, index = rows_of([*known, *new])
        self._set(side, add_rows(rows, index[len(known) :], len(found), self._kept(side)))
        self._set_names(side, found)
        if self.classes:
            _check_number_of_classes(self._names(side, CLASSES))

    def _set(self, side: str, sums: LatentSums) -> None:
        for name, value in sums_by_name(sums).items():
            setattr(self, f"{side}_{name}", value)

    def _set_names(self, side: str, keys: Sequence[Key]) -> None:
        for i, naming in enumerate(self._namings):
            names = to_bytes([key[i] for key in keys])
            setattr(self, f"{side}_{naming.one}_names", names.to(self.device))

    def _merge_rows(self) -> None:
        """Keep one row for each key, of all rows of that key."""
        for side in self._sides if self._namings else ():
            found, index = rows_of(self._keys(side))
            self._set(side, add_rows(self._kept(side), index, len(found)))
            self._set_names(side, found)

    def _sync_dist(self, *args: Any, **kwargs: Any) -> None:
        with self._unchanged_by_errors():
            # torchmetrics joins tensors of different lengths only where it finds them in lists.
            for name in filter(self._grows, self._defaults):
                setattr(self, name, [getattr(self, name)])
            super()._sync_dist(*args, **kwargs)
            self._merge_rows()

    def _reduce_states(self, incoming_state: dict[str, Any]) -> None:
        super()._reduce_states(incoming_state)
        self._merge_rows()

    def _unlike_own(self, states: dict[str, Tensor]) -> str:
        wrong = super()._unlike_own(states)
        for side in self._sides if self._namings and not wrong else ():
            kept = (f"{side}_{name}" for name in sums_by_name(self._kept(side)))
            rows = {len(states[name]) for name in kept if name in states}
            named = {naming.option: f"{side}_{naming.one}_names" for naming in self._namings}
            names = {option: to_names(states[state]) for option, state in named.items() if state in states}
            for option, found in names.items():
                if {len(found)} != rows:
                    return f"{named[option]} has {len(found)} names for sums of {sorted(rows)} {option}."
            keys = list(zip(*names.values(), strict=True))
            if len(set(keys)) < len(keys):
                return f"{' and '.join(named.values())} have a name twice: of a metric with other options."
        return wrong


def _total(rows: LatentSums) -> LatentSums:
    return LatentSums(**{name: value.sum(0) for name, value in sums_by_name(rows).items()})


def _check_number_of_classes(names: Sequence[str]) -> None:
    every = sorted(set(names))
    if len(every) > MAX_CLASSES:
        raise RL2Error(
            f"ResNetL2 was given more than {MAX_CLASSES} classes, {', '.join(every[:NAMED])} among them. Slides and "
            "patients are groups: make the metric with groups=True and name them there."
        )
