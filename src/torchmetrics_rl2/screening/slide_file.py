"""Slides, as sources of a screen."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from torch import Tensor

from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.files import sha256_of
from torchmetrics_rl2.images.sampling import evenly
from torchmetrics_rl2.images.slide import Slide
from torchmetrics_rl2.pixels.stain import Stain, stain_of
from torchmetrics_rl2.screening.options import Outputs
from torchmetrics_rl2.screening.outputs.coordinates import write_coordinates
from torchmetrics_rl2.screening.outputs.geojson import geojson
from torchmetrics_rl2.screening.outputs.pictures import plot_heatmap
from torchmetrics_rl2.screening.rows import PatchRow, SlidePlace
from torchmetrics_rl2.screening.sources import SAMPLE, Batch, Grid, sha256_of_text

__all__ = ["OpenedSlide", "SlideFile", "TileReader"]


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
        parts: All files of it, if it is a DICOM series.

    """

    path: Path
    reader: TileReader
    mpp: float | None = None
    parts: Sequence[Path] = ()
    has_target_mpp = True

    @property
    def name(self) -> str:
        """That of the file, without its ending; of a DICOM series that of its folder."""
        return self.path.absolute().parent.name if self.parts else self.path.stem

    @property
    def identity(self) -> dict[str, int | str]:
        """Size and checksum of the file."""
        found: dict[str, int | str] = {"bytes": self.path.stat().st_size, "sha256": sha256_of(self.path)}
        if self.path.suffix.lower() == ".mrxs":  # an index; the pixels are in the folder of the same name
            found["listing"] = _listing(sorted(self.path.with_suffix("").glob("*")))
        if self.parts:
            found["listing"] = _listing(self.parts)
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


def _listing(parts: Sequence[Path]) -> str:
    """Checksum of names, sizes and times of the files of a slide."""
    return sha256_of_text(str([(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in parts]))


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
        collection = geojson(rows, self.size, name, outputs.tiles, self.slide.origin, calibrated)
        (folder / "patches.geojson").write_text(json.dumps(collection, allow_nan=False), encoding="utf-8")
        px, mpp = self.reader.px, self.reader.target_mpp
        write_coordinates(rows, folder, name=name, px=px, size=self.size, mpp=mpp, slide=self.slide)

    def _read(self, places: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        how = self.reader
        return self.slide.batches(places, how.px, how.target_mpp, how.batch_size, how.workers)
