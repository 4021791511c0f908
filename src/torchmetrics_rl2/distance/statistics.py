"""Statistics of one side of the distance: add, save, load, compare."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, reduce
from operator import add
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from torchmetrics_rl2.distance.kinds import Kinds, Part, rows_of_images, sums_of
from torchmetrics_rl2.distance.statistics_file import read_fields, write_fields
from torchmetrics_rl2.distance.sums import add_rows, rows_of, stack, sums_to_tensors
from torchmetrics_rl2.distance.text import identity_text
from torchmetrics_rl2.distance.uncertainty import MIN_UNITS, ROUNDING, Units, distinct_units, group_units, image_units
from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.functional import LatentSums, mean_variance

__all__ = ["Statistics"]

REFERENCE = "reference data of the weights"
"""Source of the real images inside weights."""


@dataclass(frozen=True, eq=False)
class Statistics:
    """What is kept of the images of one side; statistics of parts add up to those of the whole.

    Args:
        sums: Sums over all latents.
        groups: The same sums of each slide, patient or source image, one row a group; ``None`` takes every image as
            independent of the others.
        group_names: Their names, by which they merge.
        weights: Name of the weights, for people.
        weights_id: Which latents these are; ``None`` if the encoder does not say.
        source: Where the images came from, for people.
        settings: How they were read: ``tile``, ``scale`` and the sizes that came of it, ``px``.
        unreadable: Files that were left out, with the reason.
        repeated: Where images are units, those that there are several of: one row each, over all its copies, which
            count as one unit.
        duplicates: Images that repeat another of the side pixel for pixel, each with the other.
        left_out: Files of the folders that are no images.
        kinds: The kinds of tissue of the weights, if they have several.

    Example:
        >>> import torch
        >>> from torchmetrics_rl2 import Statistics, compare
        >>> latents = torch.randn(200, 8, generator=torch.Generator().manual_seed(0))
        >>> slides = [f"slide {i // 10}" for i in range(200)]
        >>> real = Statistics.of_latents(latents[:100], slides[:100])
        >>> fake = Statistics.of_latents(latents[100:] + 0.5, slides[100:])
        >>> result = compare(real, fake)
        >>> round(result.debiased, 2), [round(end, 2) for end in result.interval], result.p_value < 0.05
        (1.26, [0.94, 1.67], True)

    """

    sums: LatentSums
    groups: LatentSums | None = None
    group_names: tuple[str, ...] = ()
    weights: str = "unnamed"
    weights_id: str | None = None
    source: str = "latents"
    settings: Mapping[str, Any] = field(default_factory=dict)
    unreadable: tuple[str, ...] = ()
    repeated: LatentSums | None = None
    duplicates: tuple[tuple[str, str], ...] = ()
    left_out: tuple[str, ...] = ()
    kinds: Kinds | None = None

    @classmethod
    def of_latents(
        cls, latents: Tensor, groups: Sequence[str] | None = None, kinds: Kinds | None = None, **described: Any
    ) -> "Statistics":
        """Statistics of latents.

        Args:
            latents: ``(N, d)``.
            groups: Slide, patient or source image of each, as text.
            kinds: The kinds of tissue of the weights, if they have several.
            described: ``weights``, ``weights_id``, ``source`` and ``settings``.

        Raises:
            ValueError: If latents are not ``(N, d)``, or there are more or fewer groups.

        """
        if latents.ndim != 2 or not len(latents) or (groups is not None and len(groups) != len(latents)):
            raise ValueError(
                f"Statistics need latents (N, d) and a group for each, but got {tuple(latents.shape)} and "
                f"{'no' if groups is None else len(groups)} groups."
            )
        # Groups are the units where there are any, and the second moment of single images has no use.
        sums = sums_of(latents, kinds, second_moment=groups is None).to("cpu", torch.float64)
        if groups is None:
            return cls(sums, kinds=kinds, **described)
        names, rows = rows_of([str(name) for name in (groups.tolist() if isinstance(groups, Tensor) else groups)])
        grouped = add_rows(rows_of_images(latents.cpu(), kinds), rows, len(names))
        return cls(sums, grouped, names, kinds=kinds, **described)

    def __len__(self) -> int:
        return int(self.sums.count)

    def __repr__(self) -> str:
        groups = "no groups" if self.groups is None else f"{len(self.group_names)} groups"
        return f"Statistics({len(self)} images of {self.source}, {groups}, weights {self.weights})"

    def described(self) -> dict[str, Any]:
        """As ``rl2 stats --json`` prints it."""
        return {
            "images": len(self),
            "groups": len(self.group_names) or None,
            "source": self.source,
            "weights": self.weights,
            "weights_id": self.weights_id,
            "settings": dict(self.settings),
            "unreadable": list(self.unreadable),
            "duplicates": [list(pair) for pair in self.duplicates],
            "left_out": list(self.left_out),
        }

    def __deepcopy__(self, _: dict[int, Any]) -> "Statistics":
        return self  # nothing in it changes, and clones of a metric can share it

    def __add__(self, other: "Statistics") -> "Statistics":
        """Statistics of both; groups of one name become one group."""
        return Statistics.merge([self, other])

    @classmethod
    def merge(cls, parts: "Sequence[Statistics]") -> "Statistics":
        """Statistics of all parts; groups of one name become one group.

        Args:
            parts: At least one.

        Raises:
            RL2Error: If they are of different weights, or some have groups and some not.

        """
        if not parts:
            raise RL2Error("There are no statistics to merge.")
        first = parts[0]
        for part in parts[1:]:
            check_same_weights(first, part)
            if (first.groups is None) != (part.groups is None):
                raise RL2Error(
                    f"Of the statistics of {first.source} and {part.source} one has groups and the other has none. "
                    "Make both with groups, or both without."
                )
        groups, names = None, tuple(name for part in parts for name in part.group_names)
        if first.groups is not None:
            names, rows = rows_of(names)
            groups = add_rows(stack([part.groups for part in parts if part.groups is not None]), rows, len(names))
        sources = dict.fromkeys(source for part in parts for source in part.source.split(", "))
        agreed = {
            key: value for key, value in first.settings.items() if all(p.settings.get(key) == value for p in parts)
        }
        sizes = {tuple(px) for part in parts for px in part.settings.get("px", ())}
        agreed |= {"px": [list(px) for px in sorted(sizes)]} if sizes else {}
        sums = reduce(add, (part.sums for part in parts))
        unreadable = tuple(reason for part in parts for reason in part.unreadable)
        copies = [part.repeated for part in parts if part.repeated is not None]
        return cls(
            sums,
            groups,
            names,
            first.weights,
            first.weights_id,
            ", ".join(sources),
            agreed,
            unreadable,
            stack(copies) if copies else None,
            tuple(pair for part in parts for pair in part.duplicates),
            tuple(name for part in parts for name in part.left_out),
            first.kinds,
        )

    def part(self, part: Part) -> "Statistics":
        """Statistics of the content or of the look alone, see :mod:`torchmetrics_rl2.distance.kinds`.

        Args:
            part: ``"content"`` or ``"look"``.

        Raises:
            RL2Error: If the weights have no kinds of tissue.

        """
        if self.kinds is None:
            raise RL2Error(
                f"The weights {self.weights} have no kinds of tissue, so RL2 has no content and look. 'rl2 fit' finds "
                "kinds in your own patches."
            )
        kinds = self.kinds
        groups, repeated = (None if rows is None else kinds.part(rows, part) for rows in (self.groups, self.repeated))
        return replace(self, sums=kinds.part(self.sums, part), groups=groups, repeated=repeated, kinds=None)

    @property
    def mean_variance(self) -> float:
        """Trace of the covariance of the mean latent, which is what chance adds to a squared distance."""
        if not self._has_clusters:
            return float(mean_variance(self.sums))
        return self._clusters.mean_variance if self.unit_count > 1 else math.nan

    @property
    def unit_count(self) -> int:
        """Number of independent units: of groups, or else of distinct images."""
        if self.groups is not None:
            return len(self.groups.count)
        return len(self) - (0 if self.repeated is None else int((self.repeated.count - 1).sum()))

    @property
    def total_variance(self) -> float:
        """Total variance of the images, the trace of their covariance; NaN where there is but one, or one group."""
        if self.unit_count < 2:
            return math.nan
        if self._has_clusters:
            return self._clusters.total_variance
        total = self.mean_variance * len(self)
        return 0.0 if total <= ROUNDING * float(self.sums.square_sum) / len(self) else total

    @property
    def has_uncertainty(self) -> bool:
        """Whether groups or second moments are known, as an interval needs, and not sums alone."""
        return self.groups is not None or self.sums.second_moment is not None

    @property
    def units(self) -> Units | None:
        """Independent units, or ``None`` where there are too few, or only sums and no second moment."""
        if self.unit_count < MIN_UNITS or not self.has_uncertainty:
            return None
        return self._clusters if self._has_clusters else image_units(self.sums)

    @property
    def _has_clusters(self) -> bool:
        """Whether units are groups, of copies or of others, and enough is known of them."""
        return self.groups is not None or (self.repeated is not None and self.sums.second_moment is not None)

    @cached_property
    def _clusters(self) -> Units:
        # A debiased metric asks its reference in every step.
        if self.groups is not None:
            return group_units(self.groups)
        assert self.repeated is not None
        return distinct_units(self.sums, self.repeated)

    def save(self, path: str | Path) -> None:
        """Write a file, whole or not at all.

        Args:
            path: Where to, ``.safetensors``. Names of groups are in it.

        Raises:
            RL2Error: If the encoder has no ``weights_id``: nobody could say later which latents these are.

        """
        if self.weights_id is None:
            raise RL2Error(
                f"These statistics cannot be saved: their encoder, {self.weights}, has no weights_id, so nobody could "
                "tell later which latents they are of. Give the module a weights_id that names its weights."
            )
        tensors = sums_to_tensors(self.sums, self.groups, self.repeated)
        if self.kinds is not None:
            tensors |= self.kinds.to_tensors()
        if not len(self) or not all(value.isfinite().all() for value in tensors.values()):
            raise RL2Error(f"The statistics of {self.source} cannot be saved: they have no images, or NaN among them.")
        described = self.described() | {"groups": list(self.group_names)}
        described["kinds"] = [] if self.kinds is None else list(self.kinds.names)
        write_fields(Path(path), described, tensors)

    @classmethod
    def load(cls, path: str | Path) -> "Statistics":
        """Read a file and check all of it.

        Args:
            path: What :meth:`save` or ``rl2 stats`` wrote.

        Raises:
            RL2Error: If there is no such file, or it is no complete, unaltered file of a known format version.

        """
        return cls(**read_fields(Path(path)))


def check_same_weights(one: Statistics, other: Statistics) -> None:
    """Refuse to mix latents of different weights: their coordinates mean different things."""
    if one.weights_id != other.weights_id or one.sums.sum.shape != other.sums.sum.shape:
        sides = (
            f"{side.weights} ({identity_text(side.weights_id)}, {len(side.sums.sum)} numbers)" for side in (one, other)
        )
        raise RL2Error(
            f"The statistics of {one.source} and of {other.source} are latents of different weights, "
            f"{' and '.join(sides)}. Make both with the same weights; on the command line, with --weights."
        )
    if len(one.kinds or ()) != len(other.kinds or ()):
        sides = (f"{len(side.kinds or ()) or 'no'} kinds of tissue in {side.source}" for side in (one, other))
        raise RL2Error(f"One encoder, but {' and '.join(sides)}. Make the statistics of both sides again.")
