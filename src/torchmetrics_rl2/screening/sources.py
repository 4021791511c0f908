"""What a screen goes through: slides, or folders of patches; each gives its patches twice, a few and then all."""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, Protocol

import torch
from torch import Tensor

from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.images.reader import ImageReader, Reading
from torchmetrics_rl2.images.sampling import EvenSample, evenly
from torchmetrics_rl2.images.slide import Slide
from torchmetrics_rl2.pixels.stain import Stain, stain_of
from torchmetrics_rl2.screening.options import Outputs
from torchmetrics_rl2.screening.outputs.coordinates import write_coordinates
from torchmetrics_rl2.screening.outputs.geojson import geojson
from torchmetrics_rl2.screening.outputs.pictures import plot_heatmap
from torchmetrics_rl2.screening.outputs.tables import text_of
from torchmetrics_rl2.screening.rows import FilePlace, P, PatchRow, SlidePlace
from torchmetrics_rl2.storage import sha256_of

__all__ = ["Batch", "Grid", "Opened", "PatchFolder", "SlideFile", "Source", "TileReader"]

SAMPLE = 200


@dataclass(frozen=True)
class Batch(Generic[P]):
    """Patches of one size.

    Args:
        images: uint8 ``(N, 3, H, W)``.
        places: Which patch each is.
        done: How much of the source is read.

    """

    images: Tensor
    places: Sequence[P]
    done: int


@dataclass(frozen=True)
class Grid:
    """Size and resolution of the patches of a source, as in the row of a slide.

    Args:
        mpp: Resolution of the source in um/px, ``None`` if unknown.
        target_mpp: Resolution of its patches.
        px: Side of a tile in pixels; ``None`` for patches from files.
        size: Side of a tile in pixels of level 0; ``None`` for patches from files.

    """

    mpp: float | None
    target_mpp: float | None
    px: int | None = None
    size: float | None = None


class Opened(Protocol[P]):
    """A source that is ready to be read."""

    @property
    def path(self) -> Path:
        """What was given."""

    @property
    def total(self) -> int:
        """How much there is to read: tiles or files."""

    @property
    def grid(self) -> Grid:
        """Size and resolution of its patches."""

    @property
    def unreadable(self) -> int:
        """Files that were left out of the batches so far."""

    def sample(self) -> tuple[Stain, Sequence[Tensor]]:
        """Stain of up to 200 patches, spread evenly, and these patches."""

    def batches(self) -> Iterator[Batch[P]]:
        """All patches."""

    def patch(self, place: P) -> Tensor:
        """One patch again, uint8 ``(3, H, W)``."""

    def write(self, rows: Sequence[PatchRow[P]], folder: Path, name: str, outputs: Outputs, calibrated: bool) -> None:
        """Write what only such sources have, in addition to tables and contact sheet."""


class Source(Protocol):
    """A slide or a folder of patches."""

    @property
    def path(self) -> Path:
        """What was given."""

    @property
    def name(self) -> str:
        """What it is called, unless another source has the same name."""

    @property
    def mpp(self) -> float | None:
        """Its resolution in um/px, if it was given."""

    @property
    def has_target_mpp(self) -> bool:
        """Whether its patches are read at the target resolution, and not as they are."""

    @property
    def identity(self) -> dict[str, int | str]:
        """What decides whether a finished screen is of the same pixels."""

    def open(self, most: int | None = None) -> Opened[Any]:
        """Open it, for at most so many tiles or files, evenly spread.

        Raises:
            RL2Error: If it cannot be screened.

        """


@dataclass(frozen=True)
class PatchFolder:
    """Patches of one folder, glob or list.

    Args:
        path: What was given.
        paths: Its files.
        reader: How they are read.
        mpp: Their resolution in um/px, for the record.

    """

    path: Path
    paths: Sequence[Path]
    reader: ImageReader
    mpp: float | None = None
    has_target_mpp = False

    @property
    def name(self) -> str:
        """That of the folder."""
        path = self.path
        while "*" in path.name or "?" in path.name:  # a glob
            path = path.parent
        return path.resolve().name

    @property
    def identity(self) -> dict[str, int | str]:
        """Number and size of the files, and a checksum of their list."""
        stats = [(os.path.realpath(path), path.stat().st_size, path.stat().st_mtime_ns) for path in self.paths]
        return {"files": len(stats), "bytes": sum(size for _, size, _ in stats), "listing": _sha256_of_text(str(stats))}

    def open(self, most: int | None = None) -> "OpenedFolder":
        """Ready to be read."""
        return OpenedFolder(self, self.paths if most is None else evenly(self.paths, most))


class OpenedFolder:
    """Files of a folder of patches, ready to be read."""

    def __init__(self, source: PatchFolder, paths: Sequence[Path]) -> None:
        self.path, self.paths, self.reader = source.path, paths, source.reader
        self.total = len(paths)
        self.grid = Grid(source.mpp, source.mpp)
        self._reading: Reading = self.reader.read(paths)

    @property
    def unreadable(self) -> int:
        """Files that were left out."""
        return len(self._reading.unreadable)

    def sample(self) -> tuple[Stain, Sequence[Tensor]]:
        """Stain of up to 200 patches of up to 200 files, spread evenly, and these patches."""
        kept = EvenSample[Tensor](SAMPLE)
        some = evenly(self.paths, SAMPLE)
        for batch in self.reader.read(some):
            for image in batch.images:
                kept.add(image.clone())
        if not kept.items:
            raise RL2Error(f"None of {len(some)} files of {self.path} could be read.")
        by_size: dict[tuple[int, ...], list[Tensor]] = {}
        for image in kept.items:
            by_size.setdefault(tuple(image.shape), []).append(image)
        batches = [
            part for images in by_size.values() for part in torch.split(torch.stack(images), self.reader.batch_size)
        ]
        return stain_of(batches), batches

    def batches(self) -> Iterator[Batch[FilePlace]]:
        """All patches of all files."""
        counted: dict[Path, int] = {}
        for batch in self._reading:
            places = []
            for path in batch.paths:
                counted[path] = counted.get(path, -1) + 1
                places.append(FilePlace(os.fspath(path), counted[path]))
            yield Batch(batch.images, places, self._reading.done)

    def patch(self, place: FilePlace) -> Tensor:
        """One patch again."""
        one = ImageReader(self.reader.tile, self.reader.scale)
        tiles = torch.cat([batch.images for batch in one.read([Path(place.path)])])
        return tiles[place.tile]

    def write(
        self, rows: Sequence[PatchRow[FilePlace]], folder: Path, name: str, outputs: Outputs, calibrated: bool
    ) -> None:
        """Write ``kept.txt``, unless files were cut into tiles: a list cannot say which tile of a file."""
        if self.reader.tile is None:
            kept = [text_of(Path(row.place.path).absolute()) for row in rows if row.keep]
            (folder / "kept.txt").write_text("".join(f"{path}\n" for path in kept))


@dataclass(frozen=True)
class TileReader:
    """How tiles of slides are read.

    Args:
        px: Side of a tile.
        target_mpp: Resolution to read at.
        min_tissue: Share of a tile that has to be tissue.
        batch_size: Tiles a batch.
        workers: Processes that read.

    """

    px: int
    target_mpp: float
    min_tissue: float
    batch_size: int = 64
    workers: int = 0


@dataclass(frozen=True)
class SlideFile:
    """Tiles of a slide.

    Args:
        path: The file.
        reader: How they are read.
        mpp: Resolution of the slide, instead of what it says.

    """

    path: Path
    reader: TileReader
    mpp: float | None = None
    has_target_mpp = True

    @property
    def name(self) -> str:
        """That of the file, without its ending."""
        return self.path.stem

    @property
    def identity(self) -> dict[str, int | str]:
        """Size and checksum of the file."""
        found: dict[str, int | str] = {"bytes": self.path.stat().st_size, "sha256": sha256_of(self.path)}
        if self.path.suffix.lower() == ".mrxs":  # an index; the pixels are in the folder of the same name
            parts = sorted(self.path.with_suffix("").glob("*"))
            found["listing"] = _sha256_of_text(str([(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in parts]))
        return found

    def open(self, most: int | None = None) -> "OpenedSlide":
        """Open the slide and find its tissue.

        Raises:
            RL2Error: If it cannot be read, is coarser than the tiles, or has no tissue.

        """
        slide, reader = Slide.open(self.path, self.mpp), self.reader
        if reader.target_mpp < slide.finest:
            raise RL2Error(
                f"{self.path} has {slide.mpp:g} um/px, coarser than the {reader.target_mpp:g} of the tiles, which "
                "would have to be enlarged, and would be blurred. Choose a coarser --target-mpp."
            )
        places = slide.tiles(reader.px, reader.target_mpp, reader.min_tissue)
        if len(places) == 0:
            raise RL2Error(
                f"{self.path} has no tissue on which a tile of {reader.px} px at {reader.target_mpp:g} um/px fits: all "
                "background, or smaller than a tile."
            )
        return OpenedSlide(slide, places if most is None else evenly(places, most), reader)


@dataclass(frozen=True)
class OpenedSlide:
    """An open slide and the places of its tiles.

    Args:
        slide: The slide.
        places: Top left corners on level 0, ``(N, 2)``.
        reader: How tiles are read.

    """

    slide: Slide
    places: Tensor
    reader: TileReader
    unreadable = 0

    @property
    def path(self) -> Path:
        """Its file."""
        return self.slide.path

    @property
    def total(self) -> int:
        """Number of tiles."""
        return len(self.places)

    @cached_property
    def size(self) -> float:
        """Side of a tile in pixels of level 0."""
        return self.slide.field(self.reader.px, self.reader.target_mpp)

    @property
    def grid(self) -> Grid:
        """Size and resolution of the tiles."""
        return Grid(self.slide.mpp, self.reader.target_mpp, self.reader.px, self.size)

    def sample(self) -> tuple[Stain, Sequence[Tensor]]:
        """Stain of up to 200 tiles, spread evenly over the tissue, and these tiles."""
        images = [images for images, _ in self._read(evenly(self.places, SAMPLE))]
        return stain_of(images, self.slide.white), images

    def batches(self) -> Iterator[Batch[SlidePlace]]:
        """All tiles."""
        done = 0
        for images, places in self._read(self.places):
            done += len(images)
            yield Batch(images, [SlidePlace(x, y) for x, y in places.tolist()], done)

    def patch(self, place: SlidePlace) -> Tensor:
        """One tile again."""
        return self.slide.read((place.x, place.y), self.reader.px, self.reader.target_mpp)

    def write(
        self, rows: Sequence[PatchRow[SlidePlace]], folder: Path, name: str, outputs: Outputs, calibrated: bool
    ) -> None:
        """Write heatmap, GeoJSON and coordinates."""
        plot_heatmap(self.slide, rows, self.size, folder / "heatmap.png", calibrated)
        collection = geojson(rows, self.size, name, outputs.tiles, self.slide.origin)
        (folder / "patches.geojson").write_text(json.dumps(collection, allow_nan=False))
        px, mpp = self.reader.px, self.reader.target_mpp
        write_coordinates(rows, folder, name=name, px=px, size=self.size, mpp=mpp, slide=self.slide)

    def _read(self, places: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        how = self.reader
        for images, where in self.slide.batches(places, how.px, how.target_mpp, how.batch_size, how.workers):
            yield images.clone(), where.clone()  # what a worker sends keeps a file open for as long as it is used


def _sha256_of_text(text: str) -> str:
    return hashlib.sha256(os.fsencode(text)).hexdigest()
