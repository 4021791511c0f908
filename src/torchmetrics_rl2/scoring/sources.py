"""What a side of the distance is made of: images that are still to be read, and statistics."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeGuard

from torchmetrics_rl2.distance.statistics import Statistics
from torchmetrics_rl2.distance.sums import sums_to_tensors
from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.images.find import base_of, find, text_of
from torchmetrics_rl2.images.groups import groups_of, labels_of
from torchmetrics_rl2.images.hub_datasets import ImageDataset, ImageStream, check_dataset, is_dataset, is_stream
from torchmetrics_rl2.images.packed import real_paths
from torchmetrics_rl2.storage import digest

__all__ = ["ImageSource", "Source", "find_sources", "group_of_each", "images_of", "number_of_files", "several_of"]

Source = str | Path | Statistics | ImageDataset
"""A folder, a glob in quotes, a text file of paths, one image, tar, Parquet or Arrow files, a file of statistics,
statistics, or a ``Dataset`` or ``IterableDataset`` of Hugging Face."""


@dataclass(frozen=True)
class ImageSource:
    """Images to read.

    Args:
        source: Where they are, as it was given.
        paths: Their files.
        groups: What each belongs to; ``None`` takes all images as independent.
        left_out: Other files of the folder.
        classes: The class of each; ``None`` without classes.

    """

    source: str
    paths: Sequence[Path]
    groups: Mapping[Path, str] | None
    left_out: Sequence[Path] = field(default_factory=list)
    classes: Mapping[Path, str] | None = None


def find_sources(
    source: Source | Sequence[Source], groups: str | Path | None, classes: str | Path | None = None
) -> list[Statistics | ImageSource]:
    """Everything that can be wrong with sources before an image is read."""
    found: list[Statistics | ImageSource] = []
    several = several_of(source)
    seen: set[str] = set()
    for one in several:
        if isinstance(one, Statistics) or _is_statistics_file(one):
            statistics = one if isinstance(one, Statistics) else replace(Statistics.load(one), source=os.fspath(one))
            sums = digest([], sums_to_tensors(statistics.sums, statistics.groups, statistics.repeated))
            if sums in seen:
                raise RL2Error(f"The statistics {statistics.source} are given twice. Leave them out once.")
            seen.add(sums)
            found.append(statistics)
            continue
        if is_stream(one):
            found.append(_streamed(one, groups, classes))
            continue
        # An image that two sources have counts once.
        images = find(one)
        files = dict(zip(real_paths(images.paths), images.paths, strict=True))
        paths = [path for real, path in files.items() if real not in seen]
        seen |= files.keys()
        base = base_of(one) if len(several) == 1 else Path()
        named = groups_of(groups, paths, base) if groups else None
        labels = labels_of(classes, paths, base, "class") if classes is not None else None
        found.append(ImageSource(text_of(one), paths, named, images.left_out, labels))
    if not found:
        raise RL2Error("There is no source of images. Expected a folder, a glob, a list, an image or statistics.")
    for name, given in (("groups", groups), ("classes", classes)):
        if given is not None and all(isinstance(one, Statistics) for one in found):
            raise RL2Error(f"The {name} of statistics are those they were made with; give {name} with images only.")
    grouped = [one.source for one in found if one.groups is not None]
    if 0 < len(grouped) < len(found):
        others = [one.source for one in found if one.groups is None]
        raise RL2Error(
            f"{grouped[0]} has groups and {others[0]} has none, so they do not merge. Give all of them groups, or none."
        )
    return found


def number_of_files(found: Sequence[Statistics | ImageSource]) -> int:
    """How many there are to read, 0 if nobody knows."""
    images = [one for one in found if isinstance(one, ImageSource)]
    return 0 if any(isinstance(one.paths, ImageStream) for one in images) else sum(len(one.paths) for one in images)


def several_of(source: Source | Sequence[Source]) -> list[Source]:
    """Sources of which one may be given alone."""
    if isinstance(source, str | Path | Statistics) or is_dataset(source):
        return [source]
    return list(source)  # type: ignore[arg-type]


def _streamed(dataset: Any, groups: str | Path | None, classes: str | Path | None) -> ImageSource:
    """A data set that is read once.

    Raises:
        RL2Error: If groups or classes are asked for, which need to be known before.

    """
    check_dataset(dataset)
    if groups is not None or classes is not None:
        raise RL2Error(
            "A streaming data set has no list of its images, to which groups or classes could be given. Load it with "
            "streaming=False, or leave them out."
        )
    stream = ImageStream(dataset)
    return ImageSource(stream.name, stream, None)


def images_of(found: Mapping[str, Sequence[Statistics | ImageSource]]) -> dict[str, list[ImageSource]]:
    """The sources of each side that are images."""
    return {side: [one for one in parts if isinstance(one, ImageSource)] for side, parts in found.items()}


def group_of_each(found: Sequence[Statistics | ImageSource]) -> dict[Path, str] | None:
    """The group of each file of all sources that are images, if there are groups."""
    images = images_of({"": found})[""]
    return {path: group for one in images for path, group in (one.groups or {}).items()} or None


def _is_statistics_file(source: Any) -> TypeGuard[str | Path]:
    return isinstance(source, str | os.PathLike) and os.fspath(source).endswith(".safetensors")
