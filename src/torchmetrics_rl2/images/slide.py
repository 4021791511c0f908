"""Whole-slide images: tissue, and tiles of it at a given resolution, read with OpenSlide."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.images.find import same_name
from torchmetrics_rl2.images.loading import read_ahead, to_array
from torchmetrics_rl2.images.slide_handle import mpps_of, on_glass, open_handle, read_region
from torchmetrics_rl2.images.tensors import resized, to_tensor
from torchmetrics_rl2.pixels.density import optical_density
from torchmetrics_rl2.pixels.stain import MAX_WHITE, WHITE, three
from torchmetrics_rl2.pixels.tissue import MIN_DENSITY, NOT_BRIGHT_FIELD, is_black, is_bright_field

__all__ = ["Slide", "read_mpps"]

THUMBNAIL_UM, THUMBNAIL_PX = 8.0, 4096
STRIP_PIXELS = 2**24
MIN_THRESHOLD = 0.05
MPP = (0.02, 50.0)
ENLARGED = 1.1
MAX_ANISOTROPY = 1.03


def read_mpps(table: Path) -> dict[str, float]:
    """Resolution of slides in um/px from a CSV with the columns ``slide`` and ``mpp``, as names, stems or paths.

    Raises:
        RL2Error: If it is no such table.

    """
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
        column = next(name for name in ("slide", "wsi") if rows and name in rows[0])
        return {same_name(row[column]): float(row["mpp"]) for row in rows}
    except (OSError, UnicodeError, csv.Error, KeyError, TypeError, ValueError, StopIteration) as error:
        raise RL2Error(
            f"{table} is no CSV with the columns slide and mpp, a number on each line: {error!r}."
        ) from error


@dataclass(frozen=True)
class Slide:
    """A slide, or an image of a section as large as one.

    Args:
        path: Its file.
        mpp: Its resolution at level 0 in um/px.
        size: Width and height of level 0 in pixels.
        downsamples: Of each level.
        origin: Where on level 0 what was scanned begins, x and y.
        extent: Width and height of what was scanned.

    """

    path: Path
    mpp: float
    size: tuple[int, int]
    downsamples: tuple[float, ...]
    origin: tuple[int, int]
    extent: tuple[int, int]

    @classmethod
    def open(cls, path: Path, mpp: float | None = None) -> "Slide":
        """Look at a file.

        Args:
            path: The file.
            mpp: Its resolution, in place of what the file says.

        Raises:
            RL2Error: If it is no slide that can be read, or neither it nor the caller knows its resolution.

        """
        handle = open_handle(path)
        properties = handle.properties
        if mpp is None:
            known = mpps_of(handle, path)
            if not known:
                raise RL2Error(
                    f"{path} does not say its resolution. Give it in um/px with --mpp, or a CSV of slides with --mpps; "
                    "40x is often 0.25 and 20x 0.5, but look before you trust that."
                )
            if max(known) > MAX_ANISOTROPY * min(known):
                raise RL2Error(
                    f"{path} has {known[0]:g} um/px along x and {known[1]:g} along y; expected the same, as tiles are "
                    "square. Resample it, or give the one that is right with --mpp."
                )
            mpp = sum(known) / len(known)
        if not MPP[0] <= mpp <= MPP[1]:
            raise RL2Error(f"{path} would have {mpp:g} um/px; expected {MPP[0]} to {MPP[1]:g}. Correct it with --mpp.")
        bounds = [int(properties.get(f"openslide.bounds-{name}", 0)) for name in ("x", "y", "width", "height")]
        extent = tuple(given or whole for given, whole in zip(bounds[2:], handle.dimensions, strict=True))
        return cls(
            path,
            mpp,
            handle.dimensions,
            tuple(handle.level_downsamples),
            (bounds[0], bounds[1]),
            (extent[0], extent[1]),
        )

    def field(self, px: int, mpp: float) -> float:
        """Side on level 0, in pixels, of a tile of so many pixels at a resolution."""
        return px * mpp / self.mpp

    @cached_property
    def thumbnail(self) -> Image.Image:
        """What was scanned, at 8 um/px, or at most 4,096 px a side."""
        handle = open_handle(self.path)
        shrink = max(1.0, THUMBNAIL_UM / self.mpp, max(self.extent) / THUMBNAIL_PX)
        level = handle.get_best_level_for_downsample(shrink)
        width, height = (max(1, round(side / shrink)) for side in self.extent)
        wide = max(1, round(self.extent[0] / self.downsamples[level]))
        # In strips, as the only level of a file may be all of it.
        rows = max(1, int(STRIP_PIXELS / (wide * shrink / self.downsamples[level])))
        image = Image.new("RGB", (width, height), "white")
        for top in range(0, height, rows):
            some = min(rows, height - top)
            place = self.origin[0], self.origin[1] + round(top * shrink)
            strip = read_region(
                handle, self.path, place, level, (wide, max(1, round(some * shrink / self.downsamples[level])))
            )
            image.paste(on_glass(strip).resize((width, some), Image.Resampling.BOX), (0, top))
        return image

    @cached_property
    def tissue(self) -> np.ndarray[Any, Any]:
        """Which pixels of the thumbnail are tissue or ink, denser than glass by more than Otsu's threshold.

        Raises:
            RL2Error: If it is no bright-field slide.

        """
        from skimage.filters import gaussian, threshold_otsu

        pixels = self._pixels
        if not is_bright_field(pixels.flatten(1)):
            raise RL2Error(f"{self.path} {NOT_BRIGHT_FIELD}")
        density, lit = _density_and_lit(pixels)
        density = gaussian((density - self.white) * lit[..., None], sigma=1, channel_axis=2).mean(2)
        # Otsu splits anything, glass alone and tissue alone too, so it may move only between what is surely either.
        threshold = threshold_otsu(density[lit]) if np.ptp(density) else MIN_DENSITY
        return np.asarray((density > np.clip(threshold, MIN_THRESHOLD, MIN_DENSITY)) & lit)

    @cached_property
    def white(self) -> tuple[float, float, float]:
        """Optical density of glass, that of the lightest 2 % of the thumbnail, unless that is too dense for any."""
        density, lit = _density_and_lit(self._pixels)
        found = np.quantile(density[lit], WHITE, axis=0).clip(0, MAX_WHITE) if lit.any() else np.zeros(3)
        return three((found + 0.0).tolist())

    @property
    def _pixels(self) -> Tensor:
        """Of the thumbnail, ``(3, H, W)`` in [0, 1]."""
        return torch.from_numpy(np.asarray(self.thumbnail, dtype=np.float64)).movedim(2, 0) / 255

    def tiles(self, px: int, mpp: float, min_tissue: float) -> Tensor:
        """Places on level 0 of the top left corners of tiles with tissue, ``(N, 2)`` int64, x and y, row by row.

        Args:
            px: Side of a tile.
            mpp: Its resolution.
            min_tissue: Share of a tile that has to be tissue.

        """
        from skimage.transform import integral_image

        field = self.field(px, mpp)
        columns, rows = (int(side / field + 1e-6) for side in self.extent)
        if columns < 1 or rows < 1:
            return torch.empty(0, 2, dtype=torch.int64)
        mask = self.tissue
        total = np.pad(integral_image(mask.astype(np.float64)), ((1, 0), (1, 0)))
        scales = [have / side for have, side in zip(mask.shape[::-1], self.extent, strict=True)]

        def edges(count: int, scale: float, most: int) -> tuple[Any, Any]:
            low = np.floor(np.arange(count) * field * scale).astype(int).clip(0, most - 1)
            return low, np.ceil((np.arange(count) + 1) * field * scale).astype(int).clip(1, most)

        (x0, x1), (y0, y1) = edges(columns, scales[0], mask.shape[1]), edges(rows, scales[1], mask.shape[0])
        inside = total[y1][:, x1] - total[y0][:, x1] - total[y1][:, x0] + total[y0][:, x0]
        share = inside / ((y1 - y0)[:, None] * (x1 - x0)[None])
        found = np.argwhere(share >= max(min_tissue, 1e-9))
        places = np.round(found[:, ::-1] * field).astype(np.int64) + np.array(self.origin)
        return torch.from_numpy(places)

    def batches(
        self, places: Tensor, px: int, mpp: float, batch_size: int, workers: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of tiles, uint8 ``(N, 3, px, px)``, and their places, read in processes of their own.

        Raises:
            RL2Error: If a tile cannot be read.

        """
        start = 0
        for tiles in read_ahead(_Tiles(self, places, px, mpp), workers, batch_size):
            for tile in tiles:
                if isinstance(tile, str):
                    raise RL2Error(tile)
            yield torch.from_numpy(np.stack(tiles)), places[start : start + len(tiles)]
            start += len(tiles)

    def read(self, place: Sequence[int], px: int, mpp: float) -> Tensor:
        """One tile, uint8 ``(3, px, px)``, from the nearest level that is at least as fine."""
        handle, field = open_handle(self.path), self.field(px, mpp)
        level = handle.get_best_level_for_downsample(mpp / self.mpp * (1 + 1e-3))
        side = max(1, round(field / self.downsamples[level]))
        region = on_glass(read_region(handle, self.path, (int(place[0]), int(place[1])), level, (side, side)))
        return resized(to_tensor(region), [px, px])

    @property
    def finest(self) -> float:
        """The finest resolution, in um/px, that tiles can have without being enlarged by more than a tenth."""
        return self.mpp / ENLARGED


def _density_and_lit(pixels: Tensor) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Optical density ``(H, W, 3)``, and which pixels are not black: not scanned, or as dark, ``(H, W)``."""
    return optical_density(pixels).movedim(0, 2).numpy(), (~is_black(pixels)).numpy()


class _Tiles(Dataset[np.ndarray[Any, Any] | str]):
    """Tiles, or the sentence that says why one cannot be read."""

    def __init__(self, slide: Slide, places: Tensor, px: int, mpp: float) -> None:
        self.slide, self.places, self.px, self.mpp = slide, places, px, mpp

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> np.ndarray[Any, Any] | str:
        try:
            return to_array(self.slide.read(self.places[index].tolist(), self.px, self.mpp))
        except RL2Error as error:
            return str(error)
