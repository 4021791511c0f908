"""Folders, globs and lists of patches to batches of uint8 tensors."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.images.decode import MAX_PX, open_image
from torchmetrics_rl2.images.formats import of_any_size
from torchmetrics_rl2.images.hub_datasets import ImageStream, known, restore
from torchmetrics_rl2.images.loading import read_ahead, read_stream_ahead, to_array
from torchmetrics_rl2.images.tensors import resized, to_tensor
from torchmetrics_rl2.pixels.batch import MIN_PX

__all__ = ["TO_SKIP", "ImageBatch", "ImageReader", "Reading"]

MAX_SCALE = 16
SIZES_WAITING = 8
TO_SKIP = "With --skip-unreadable such files are left out and counted."


@dataclass(frozen=True)
class ImageBatch:
    """Images of one size.

    Args:
        images: uint8 ``(N, 3, H, W)``.
        paths: The file each came from.
        formats: Its format, as Pillow names it.

    """

    images: Tensor
    paths: Sequence[Path]
    formats: Sequence[str]


@dataclass(frozen=True)
class ImageReader:
    """How files are read; each :meth:`read` is a run of its own.

    Args:
        tile: Cut into tiles of this side in pixels, row by row from the top left; what is left over is dropped.
        scale: Resize by this factor first, antialiased.
        batch_size: Images a batch, at most.
        workers: Processes that read ahead.
        skip_unreadable: Leave out files that cannot be read, and list them in :attr:`Reading.unreadable`, instead of
            stopping.

    Raises:
        RL2Error: If tile, scale, batch size or number of workers is out of range.

    """

    tile: int | None = None
    scale: float | None = None
    batch_size: int = 64
    workers: int = 0
    skip_unreadable: bool = False

    def __post_init__(self) -> None:
        if self.tile is not None and self.tile < MIN_PX:
            raise RL2Error(f"Tiles need at least {MIN_PX} px, but got tile={self.tile}.")
        if self.scale is not None and not 0 < self.scale <= MAX_SCALE:
            raise RL2Error(f"The scale is a factor above 0 and at most {MAX_SCALE}, but got scale={self.scale}.")
        if self.batch_size < 1 or self.workers < 0:
            raise RL2Error(f"Expected batch_size >= 1 and workers >= 0, got {self.batch_size} and {self.workers}.")

    def read(self, paths: Sequence[Path]) -> "Reading":
        """Batches of all images of these files."""
        return Reading(self, paths)

    def read_parts(self, parts: Sequence[Sequence[Path]]) -> "Iterator[Reading]":
        """The same of several parts, each to be read to its end; processes that read ahead go on from one to the next.

        Args:
            parts: The files of each.

        """
        paths = [path for part in parts for path in part]
        decoded = read_ahead(_Files(paths, self.tile, self.scale), self.workers)
        for part in parts:
            yield Reading(self, part, islice(decoded, len(part)))


class Reading:
    """Batches of the images of some files, one size a batch, in the order of the files.

    Args:
        reader: How they are read.
        paths: The files.
        decoded: What is in them, if they are being read already.

    Attributes:
        done: Files read so far.
        unreadable: Files left out so far, with the reason.

    """

    def __init__(self, reader: ImageReader, paths: Sequence[Path], decoded: Iterator[Any] | None = None) -> None:
        self.reader, self.paths, self._decoded = reader, paths, decoded
        self.done, self.unreadable = 0, list[str]()

    def __iter__(self) -> Iterator[ImageBatch]:
        """Read the files, from the first on.

        Raises:
            RL2Error: If one cannot be read, unless such files are skipped.

        """
        reader = self.reader
        self.done, self.unreadable = 0, []
        waiting: dict[tuple[int, ...], list[tuple[np.ndarray[Any, Any], Path, str]]] = defaultdict(list)
        for path, (read, kind) in self._items():
            self.done += 1
            if isinstance(read, str):
                if not reader.skip_unreadable:
                    raise RL2Error(f"{read} {TO_SKIP}")
                self.unreadable.append(read)
                continue
            queue = waiting[tuple(read.shape[1:])]
            queue += [(image, path, kind) for image in read]
            while len(queue) >= reader.batch_size:
                yield _batch(queue[: reader.batch_size])
                del queue[: reader.batch_size]
            if sum(map(len, waiting.values())) >= SIZES_WAITING * reader.batch_size:
                yield _batch(waiting.pop(max(waiting, key=lambda size: len(waiting[size]))))
        for queue in waiting.values():
            if queue:
                yield _batch(queue)

    def _items(self) -> Iterator[tuple[Path, tuple[np.ndarray[Any, Any] | str, str]]]:
        """Each file, and what was read of it."""
        reader = self.reader
        files = _Files(self.paths, reader.tile, reader.scale)
        if isinstance(self.paths, ImageStream):
            with of_any_size():  # which threads would set for each other
                yield from read_stream_ahead(
                    self.paths.images(), lambda one: (one[0], files.read(*one)), reader.workers
                )
        else:
            yield from zip(self.paths, self._decoded or read_ahead(files, reader.workers), strict=True)


def _batch(queue: list[tuple[np.ndarray[Any, Any], Path, str]]) -> ImageBatch:
    images, paths, formats = zip(*queue, strict=True)
    return ImageBatch(torch.from_numpy(np.stack(images)), paths, formats)


class _Files(Dataset[tuple[np.ndarray[Any, Any] | str, str]]):
    """Tiles ``(T, 3, H, W)`` of each file and its format, or the sentence that says why it cannot be used."""

    def __init__(self, paths: Sequence[Path], tile: int | None, scale: float | None) -> None:
        self.paths, self.tile, self.scale = paths, tile, scale
        self.datasets = known()

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        restore(self.datasets)  # in a process that was started anew

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[np.ndarray[Any, Any] | str, str]:
        return self.read(self.paths[index])

    def read(self, path: Path, cell: Any = None) -> tuple[np.ndarray[Any, Any] | str, str]:
        """The same of one file, or of a cell of a table that holds its image."""
        try:
            image = open_image(path, cell)
            return to_array(self._tiles(path, to_tensor(image))), str(image.format)
        except RL2Error as error:
            return str(error), ""

    def _tiles(self, path: Path, image: Tensor) -> Tensor:
        if self.scale is not None:
            size = [max(1, round(side * self.scale)) for side in image.shape[1:]]
            image = resized(image, size)
        height, width = image.shape[1:]
        least = self.tile or MIN_PX
        if min(height, width) < least:
            to_do = " Give a smaller --tile, or none." if self.tile else ""
            raise RL2Error(f"{path} is {width} x {height} px; expected at least {least} x {least}.{to_do}")
        if self.tile is None and max(height, width) > MAX_PX:
            raise RL2Error(
                f"{path} is {width} x {height} px, more than a patch has, which is at most {MAX_PX}. Cut it into "
                "tiles, with --tile 224 for one."
            )
        if self.tile is None:
            return image[None]
        rows, columns = height // least, width // least
        grid = image[:, : rows * least, : columns * least].reshape(3, rows, least, columns, least)
        return grid.permute(1, 3, 0, 2, 4).flatten(0, 1)
