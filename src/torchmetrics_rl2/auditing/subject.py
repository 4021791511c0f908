"""The images of an audit: what they are, which unit each is of, in which half, and what the weights make of them."""

import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import center_crop

from torchmetrics_rl2.auditing.meter import BATCH
from torchmetrics_rl2.distance.uncertainty import MIN_UNITS
from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.images.duplicates import pixel_keys
from torchmetrics_rl2.images.find import base_of, find, left_out_sentence, text_of
from torchmetrics_rl2.images.groups import groups_of, labels_of
from torchmetrics_rl2.images.hub_datasets import ImageDataset
from torchmetrics_rl2.images.reader import ImageReader
from torchmetrics_rl2.rank_zero import rank_zero_warn

__all__ = ["MIN_IMAGES", "Subject", "read_images"]

MIN_IMAGES = 8
MIN_IN_HALF = 4


@dataclass(frozen=True)
class Subject:
    """The images of an audit.

    Args:
        images: uint8 ``(N, 3, H, W)``.
        units: Which independent unit each is of.
        second: Which are in the second of two halves that share no unit, ``(N,)`` bool.
        fields: The middle of larger fields of the same files, twice the side, where there are any.
        unreadable: Files that were left out, with the reason.
        left_out: Files of the source that are no images.
        kinds: The kind of tissue of each, if it was given.

    """

    images: Tensor
    units: Sequence[str]
    second: Tensor
    fields: "Subject | None" = None
    unreadable: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    kinds: Sequence[str] | None = None

    @classmethod
    def read(
        cls,
        source: str | Path | ImageDataset,
        groups: str | Path | None,
        reader: ImageReader,
        limit: int,
        seed: int,
        kinds: str | Path | None = None,
    ) -> "Subject":
        """Draw at most so many images of a source.

        Args:
            source: A folder, a glob, a text file of paths, tar or Parquet files, or a ``datasets.Dataset``.
            groups: ``"parent"``, ``"file"`` or a CSV; by default files are the units.
            reader: How images are read.
            limit: How many images at most.
            seed: Of the draw and of the halves.
            kinds: ``"parent"`` or a CSV, the kind of tissue of each image.

        Raises:
            RL2Error: If there are too few images or units, or they differ in size.

        """
        name = text_of(source)
        paths, left_out = (found := find(source)).paths, tuple(map(os.fspath, found.left_out))
        if left_out:
            rank_zero_warn(left_out_sentence(source, found.left_out))
        base = base_of(source)
        named = groups_of(groups or "file", paths, base)
        labels = None if kinds is None else labels_of(kinds, paths, base, "kind")
        drawn = sorted(random.Random(seed).sample(paths, min(limit, len(paths))))
        images, files, unreadable = read_images(reader, drawn)
        keep = sorted(random.Random(seed).sample(range(len(images)), min(limit, len(images))))
        units, first, keys = [], dict[str, str](), pixel_keys(images[keep])
        for i, key in zip(keep, keys, strict=True):
            unit = named[files[i]]
            units.append(unit if key is None else first.setdefault(key, unit))  # of the unit of the first copy
        if repeated := len(keep) - len(first) - keys.count(None):
            rank_zero_warn(f"{repeated} of {len(keep)} images repeat others pixel for pixel.")
        if bool((images == images[:1]).all()):
            raise RL2Error(f"The images of {name} are all the same, so that nothing can be distinguished from chance.")
        if len(keep) < MIN_IMAGES or len(set(units)) < 2:
            raise RL2Error(
                f"An audit needs at least {MIN_IMAGES} images of at least two units, but {name} has {len(keep)} of "
                f"{len(set(units))}."
            )
        second = second_half(units, seed)
        smaller = min(int(second.sum()), int((~second).sum()))
        if smaller < MIN_IN_HALF:
            raise RL2Error(
                f"Two halves of {name} that share no unit leave {smaller} images in one of them; expected at least "
                f"{MIN_IN_HALF}. Give more images, or units of similar size."
            )
        shown = None if labels is None else [labels[files[i]] for i in keep]
        in_second = dict(zip(units, second.tolist(), strict=True))
        fields = _fields(reader, list(dict.fromkeys(files[i] for i in keep)), len(keep), images.shape[-1], seed)
        if fields is None:
            return cls(images[keep], units, second, unreadable=unreadable, left_out=left_out, kinds=shown)
        unit_of = {files[i]: unit for i, unit in zip(keep, units, strict=True)}
        of_fields = [unit_of[path] for path in fields[1]]
        larger = cls(fields[0], of_fields, torch.tensor([in_second[unit] for unit in of_fields]))
        enough = larger.units_in_half >= MIN_UNITS
        return cls(images[keep], units, second, larger if enough else None, unreadable, left_out, shown)

    @property
    def px(self) -> int:
        """Side of the images in pixels."""
        return self.images.shape[-1]

    @property
    def groups(self) -> Sequence[str] | None:
        """The units, if one of them has more than one image."""
        return self.units if len(set(self.units)) < len(self.units) else None

    @property
    def units_in_half(self) -> int:
        """Units of the half that has fewer."""
        halves = {(unit, bool(half)) for unit, half in zip(self.units, self.second, strict=True)}
        return min(sum(half == side for _, half in halves) for side in (False, True))

    def middle(self, px: int) -> Tensor:
        """The middle of the images."""
        cropped: Tensor = center_crop(self.images, [px, px])
        return cropped


def second_half(units: Sequence[str], seed: int) -> Tensor:
    """Which images are in the second of two halves of about one size that share no unit, ``(N,)`` bool."""
    counts = dict.fromkeys(sorted(set(units)), 0)
    for unit in units:
        counts[unit] += 1
    names = list(counts)
    random.Random(seed).shuffle(names)
    sizes, second = [0, 0], set()
    for name in sorted(names, key=lambda name: -counts[name]):
        side = int(sizes[1] < sizes[0])
        sizes[side] += counts[name]
        if side:
            second.add(name)
    return torch.tensor([unit in second for unit in units])


def read_images(reader: ImageReader, paths: Sequence[Path]) -> tuple[Tensor, list[Path], tuple[str, ...]]:
    """Images of one size, ``(N, 3, H, W)``, the file of each, and why files were left out."""
    batches = list(reading := reader.read(paths))
    sizes = sorted({tuple(batch.images.shape[-2:]) for batch in batches})
    if len(sizes) != 1:
        shown = " and ".join(f"{width} x {height}" for height, width in sizes[:3]) or "no images that can be read"
        raise RL2Error(f"An audit needs images of one size, but got {shown} px. Cut tiles, with --tile.")
    files = [path for batch in batches for path in batch.paths]
    return torch.cat([batch.images for batch in batches]), files, tuple(reading.unreadable)


def _fields(
    reader: ImageReader, paths: Sequence[Path], count: int, px: int, seed: int
) -> tuple[Tensor, list[Path]] | None:
    if reader.tile is None:
        return None
    larger = ImageReader(2 * px, reader.scale, BATCH, skip_unreadable=True)
    batches = list(larger.read(paths))
    files = [path for batch in batches for path in batch.paths]
    if len(files) < MIN_IMAGES:
        return None
    drawn = sorted(random.Random(seed).sample(range(len(files)), min(count, len(files))))
    return torch.cat([batch.images for batch in batches])[drawn], [files[i] for i in drawn]
