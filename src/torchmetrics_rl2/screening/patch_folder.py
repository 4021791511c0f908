"""Folders, globs and lists of patches, as sources of a screen."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.images.lists import line_of
from torchmetrics_rl2.images.packed import holder_of, real_paths
from torchmetrics_rl2.images.reader import ImageReader, Reading
from torchmetrics_rl2.images.sampling import EvenSample, evenly
from torchmetrics_rl2.pixels.stain import Stain, sampled, stain_of
from torchmetrics_rl2.pixels.tissue import NOT_BRIGHT_FIELD, is_bright_field
from torchmetrics_rl2.screening.options import Outputs
from torchmetrics_rl2.screening.rows import FilePlace, PatchRow
from torchmetrics_rl2.screening.sources import SAMPLE, Batch, Grid, sha256_of_text

__all__ = ["OpenedFolder", "PatchFolder"]


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
        files = [holder_of(path) for path in self.paths]
        stats = {file: file.stat() for file in set(files)}
        listed = [
            (real, stats[file].st_size, stats[file].st_mtime_ns)
            for real, file in zip(real_paths(self.paths), files, strict=True)
        ]
        size = sum(stat.st_size for stat in stats.values())
        return {"files": len(listed), "bytes": size, "listing": sha256_of_text(str(listed))}

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
        if not is_bright_field(torch.cat([sampled(images) for images in batches], 1) / 255):
            raise RL2Error(f"{self.path} {NOT_BRIGHT_FIELD}")
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
            kept = [line_of(Path(row.place.path).absolute()) for row in rows if row.keep]
            (folder / "kept.txt").write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
