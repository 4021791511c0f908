"""Statistics of one side of the distance: add, save, load, compare."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from torchmetrics_rl2.distance.kinds import Kinds, Part, rows_of_images, sums_of
from torchmetrics_rl2.distance.merging import UNNAMED, merged_fields
from torchmetrics_rl2.distance.statistics_file import read_fields, write_statistics
from torchmetrics_rl2.distance.sums import add_rows, rows_of
from torchmetrics_rl2.distance.uncertainty import MIN_UNITS, ROUNDING, Units, distinct_units, group_units, image_units
from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.functional import LatentSums, mean_variance

__all__ = ["Statistics", "merge_classes"]

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
        classes: Statistics of the images of each class, by its name, if there are classes.

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
    weights: str = UNNAMED
    weights_id: str | None = None
    source: str = "latents"
    settings: Mapping[str, Any] = field(default_factory=dict)
    unreadable: tuple[str, ...] = ()
    repeated: LatentSums | None = None
    duplicates: tuple[tuple[str, str], ...] = ()
    left_out: tuple[str, ...] = ()
    kinds: Kinds | None = None
    classes: "Mapping[str, Statistics]" = field(default_factory=dict)

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
        classes = f", {len(self.classes)} classes" if self.classes else ""
        return f"Statistics({len(self)} images of {self.source}, {groups}{classes}, weights {self.weights})"

    def described(self) -> dict[str, Any]:
        """As ``rl2 stats --json`` prints it."""
        return {
            "images": len(self),
            "groups": len(self.group_names) or None,
            "classes": {name: len(one) for name, one in self.classes.items()} or None,
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
        """Statistics of both; groups of one name become one group, and classes of one name one class."""
        return Statistics.merge([self, other])

    @classmethod
    def merge(cls, parts: "Sequence[Statistics]") -> "Statistics":
        """Statistics of all parts; groups of one name become one group, and classes of one name one class.

        Args:
            parts: At least one.

        Raises:
            RL2Error: If they are of different weights, or some have groups or classes and some not.

        """
        classes = merge_classes([part.classes for part in parts])
        return cls(**merged_fields(parts), classes=classes)

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
        return replace(self, sums=kinds.part(self.sums, part), groups=groups, repeated=repeated, kinds=None, classes={})

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
            path: Where to, ``.safetensors``. Names of groups and classes are in it.

        Raises:
            RL2Error: If the encoder has no ``weights_id``: nobody could say later which latents these are.

        """
        if self.weights_id is None:
            raise RL2Error(
                f"These statistics cannot be saved: their encoder, {self.weights}, has no weights_id, so nobody could "
                "tell later which latents they are of. Give the module a weights_id that names its weights."
            )
        write_statistics(Path(path), self)

    @classmethod
    def load(cls, path: str | Path) -> "Statistics":
        """Read a file and check all of it.

        Args:
            path: What :meth:`save` or ``rl2 stats`` wrote.

        Raises:
            RL2Error: If there is no such file, or it is no complete, unaltered file of a known format version.

        """
        fields = read_fields(Path(path))
        return cls(**fields | {"classes": {name: cls(**own) for name, own in fields["classes"].items()}})


def merge_classes(parts: Sequence[Mapping[str, Statistics]]) -> dict[str, Statistics]:
    """Statistics of each class of all parts; classes of one name become one class."""
    names = sorted({name for part in parts for name in part})
    return {name: Statistics.merge([part[name] for part in parts if name in part]) for name in names}
