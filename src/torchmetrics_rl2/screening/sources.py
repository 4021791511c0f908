"""What a screen goes through: slides, or folders of patches; each gives its patches twice, a few and then all."""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.images.find import EXTENSIONS, files_below, find_images
from torchmetrics_rl2.images.reader import ImageReader
from torchmetrics_rl2.images.sampling import SAMPLE, EvenSample, _spread
from torchmetrics_rl2.images.slide import Slide
from torchmetrics_rl2.images.slide_handle import is_slide
from torchmetrics_rl2.pixels.stain import Stain, stain_of
from torchmetrics_rl2.storage import sha256_of

__all__ = ["PatchFolder", "RECORD", "ScreenSource", "SlideSource", "find_screen_sources"]

SLIDES = (".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".vms", ".vmu", ".svslide", ".czi")
RECORD = "screen.json"
"""What is in the folder of a finished screen."""

Row = dict[str, Any]
"""Which patch it is: ``x`` and ``y`` on level 0, or ``path`` and ``tile``."""


@dataclass
class PatchFolder:
    """Patches of one folder, glob or list.

    Args:
        path: What was given.
        paths: Its files.
        reader: How they are read.

    """

    path: Path
    paths: Sequence[Path]
    reader: ImageReader
    mpp: float | None = None

    def limit(self, most: int) -> None:
        """Keep at most so many files, evenly spread."""
        self.paths = _spread(self.paths, most)

    @property
    def identity(self) -> Row:
        """What decides whether a finished screen is of the same patches."""
        stats = [(os.path.realpath(path), path.stat().st_size, path.stat().st_mtime_ns) for path in self.paths]
        return {"files": len(stats), "bytes": sum(size for _, size, _ in stats), "listing": _sha256_of_text(str(stats))}

    def prepare(self) -> int:
        """Number of files."""
        return len(self.paths)

    def sample(self) -> tuple[Stain, Iterator[Tensor]]:
        """Stain of up to 200 patches, spread evenly, and these patches."""
        kept = EvenSample[Tensor](SAMPLE)
        for images, _ in self._read(_spread(self.paths)):
            for image in images:
                kept.add(image.clone())
        self.reader.unreadable.clear()
        if not kept.items:
            raise RL2Error(f"None of {len(_spread(self.paths))} files of {self.path} could be read.")
        by_size: dict[tuple[int, ...], list[Tensor]] = {}
        for image in kept.items:
            by_size.setdefault(tuple(image.shape), []).append(image)
        batches = [
            part for images in by_size.values() for part in torch.split(torch.stack(images), self.reader.batch_size)
        ]
        return stain_of(batches), iter(batches)

    def batches(self) -> Iterator[tuple[Tensor, list[Row]]]:
        """All patches, and which each is."""
        counted: dict[Path, int] = {}
        for images, paths in self._read(self.paths):
            rows = []
            for path in paths:
                counted[path] = counted.get(path, -1) + 1
                rows.append({"path": os.fspath(path), "tile": counted[path]})
            yield images, rows

    @property
    def done(self) -> int:
        """Files read so far."""
        return self.reader.files_read

    def patch(self, row: Mapping[str, Any]) -> Tensor:
        """One patch again, uint8 ``(3, H, W)``."""
        one = ImageReader(self.reader.tile, self.reader.scale)
        tiles = torch.cat([batch.images for batch in one.read([Path(row["path"])])])
        return tiles[row["tile"]]

    def _read(self, paths: Sequence[Path]) -> Iterator[tuple[Tensor, Sequence[Path]]]:
        for batch in self.reader.read(paths):
            yield batch.images, batch.paths


@dataclass
class SlideSource:
    """Tiles of a slide at one resolution.

    Args:
        path: The file.
        px: Side of the tiles.
        target_mpp: Resolution to read at.
        mpp: Resolution of the slide, in place of what it says.
        min_tissue: Share of a tile that has to be tissue.
        batch_size: Tiles a batch.
        workers: Processes that read.

    """

    path: Path
    px: int
    target_mpp: float
    mpp: float | None
    min_tissue: float
    batch_size: int
    workers: int
    slide: Slide = field(init=False)
    places: Tensor = field(init=False)
    done: int = field(default=0, init=False)
    most: int | None = field(default=None, init=False)

    def limit(self, most: int) -> None:
        """Keep at most so many tiles, evenly spread."""
        self.most = most

    @property
    def identity(self) -> Row:
        """What decides whether a finished screen is of the same slide."""
        stat = self.path.stat()
        found: Row = {"bytes": stat.st_size, "sha256": sha256_of(self.path)}
        if self.path.suffix.lower() == ".mrxs":  # an index; the pixels are in the folder of the same name
            parts = sorted(self.path.with_suffix("").glob("*"))
            found["listing"] = _sha256_of_text(str([(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in parts]))
        return found

    def prepare(self) -> int:
        """Open the slide and find its tissue; number of tiles."""
        self.slide = Slide.open(self.path, self.mpp)
        if self.target_mpp < self.slide.finest:
            raise RL2Error(
                f"{self.path} has {self.slide.mpp:g} um/px, coarser than the {self.target_mpp:g} of the tiles, which "
                "would have to be enlarged, and would be blurred. Choose a coarser --target-mpp."
            )
        self.places = self.slide.tiles(self.px, self.target_mpp, self.min_tissue)
        if len(self.places) == 0:
            raise RL2Error(
                f"{self.path} has no tissue on which a tile of {self.px} px at {self.target_mpp:g} um/px fits: all "
                "background, or smaller than a tile."
            )
        if self.most is not None:
            self.places = _spread(self.places, self.most)
        return len(self.places)

    def sample(self) -> tuple[Stain, Iterator[Tensor]]:
        """Stain of up to 200 tiles, spread evenly over the tissue, and these tiles."""
        images = [images for images, _ in self._read(_spread(self.places))]
        return stain_of(images, self.slide.white), iter(images)

    def batches(self) -> Iterator[tuple[Tensor, list[Row]]]:
        """All tiles, and where each is on level 0."""
        for images, places in self._read(self.places):
            self.done += len(images)
            yield images, [{"x": x, "y": y} for x, y in places.tolist()]

    def patch(self, row: Mapping[str, Any]) -> Tensor:
        """One tile again, uint8 ``(3, px, px)``."""
        return self.slide.read((row["x"], row["y"]), self.px, self.target_mpp)

    def _read(self, places: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        for images, where in self.slide.batches(places, self.px, self.target_mpp, self.batch_size, self.workers):
            yield images.clone(), where.clone()  # what a worker sends keeps a file open for as long as it is used


ScreenSource = PatchFolder | SlideSource


def find_screen_sources(
    sources: Sequence[str | Path],
    *,
    px: int,
    target_mpp: float,
    mpp: float | None,
    mpps: Mapping[str, float],
    min_tissue: float,
    reader: ImageReader,
    workers: int,
    out: Path,
) -> list[ScreenSource]:
    """Slides and folders of patches among what was given.

    Args:
        sources: Slides, folders of slides, and folders, globs or lists of patches.
        px: Side of tiles of slides.
        target_mpp: Resolution to read slides at.
        mpp: Resolution of slides, in place of what they say.
        mpps: The same by name, stem or path of the slide.
        min_tissue: Share of a tile that has to be tissue.
        reader: How patches are read.
        workers: Processes that read slides.
        out: Where the screen is written to, which is no source.

    Raises:
        RL2Error: If something is not there, or a folder mixes slides and patches.

    """
    found: dict[str, ScreenSource] = {}

    def add_slide(path: Path) -> None:
        own = next((mpps[key] for key in _keys(path) if key in mpps), mpp)
        slide = SlideSource(path, px, target_mpp, own, min_tissue, reader.batch_size, workers)
        found.setdefault(os.path.realpath(path), slide)

    for source in sources:
        path = Path(source)
        if path.suffix.lower() in SLIDES and not path.exists():
            raise RL2Error(f"There is no slide {path}.")
        if path.is_dir() and path.resolve().is_relative_to(out.resolve()):
            raise RL2Error(f"{path} is in {out}, where the screen is written to. Choose another --out.")
        if path.is_file() and (path.suffix.lower() in SLIDES or is_slide(path)):
            add_slide(path)
            continue
        slides = [slide for slide in _slides_in(path) if not _within(slide, out)] if path.is_dir() else []
        images = [] if slides and not _has_images(path, out) else find_images(source)
        finished = {folder for folder in {image.parent for image in images} if (folder / RECORD).is_file()}
        images = [image for image in images if not _within(image, out) and image.parent not in finished]
        flat = {image for image in images if is_slide(image)}
        patches = [image for image in images if image not in flat]
        slides = sorted({*slides, *flat})
        if slides and patches:
            raise RL2Error(
                f"{path} mixes {len(slides)} slide(s), {slides[0].name} for one, with {len(patches)} patches, "
                f"{patches[0].name} for one. Give slides and patches from different folders."
            )
        if not slides and not patches:
            raise RL2Error(f"{path} holds nothing but pictures of an earlier screen. Expected slides or patches.")
        for slide in slides:
            add_slide(slide)
        if patches:
            own = ImageReader(
                reader.tile, reader.scale, reader.batch_size, reader.workers, skip_unreadable=reader.skip_unreadable
            )
            found.setdefault(os.path.realpath(path), PatchFolder(path, patches, own, mpp))
    known = [one for one in found.values() if isinstance(one, SlideSource)]
    if mpps and known and not any(key in mpps for one in known for key in _keys(one.path)):
        raise RL2Error(
            f"The table of resolutions has {', '.join(list(mpps)[:3])}, and none of the slides, {known[0].path.name} "
            "for one. Expected their names, stems or paths."
        )
    return list(found.values())


def _keys(path: Path) -> tuple[str, ...]:
    return str(path), path.name, path.stem


def _slides_in(folder: Path) -> list[Path]:
    return [path for path in _files_in(folder) if path.suffix.lower() in SLIDES]


def _files_in(folder: Path) -> list[Path]:
    return sorted(path for path in files_below(folder) if not path.name.startswith("."))


def _has_images(folder: Path, out: Path) -> bool:
    return any(path.suffix.lower() in EXTENSIONS and not _within(path, out) for path in _files_in(folder))


def _within(path: Path, out: Path) -> bool:
    """Whether it is of an earlier screen, written below what is screened."""
    return path.absolute().is_relative_to(out.resolve()) or path.resolve().is_relative_to(out.resolve())


def _sha256_of_text(text: str) -> str:
    return hashlib.sha256(os.fsencode(text)).hexdigest()
