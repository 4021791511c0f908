"""Folders, globs and lists of patches to batches of uint8 tensors."""

import glob
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.v2.functional import pil_to_tensor, resize

from torchmetrics_rl2.encoder import LEAST_PX
from torchmetrics_rl2.errors import RL2Error

__all__ = ["EvenSample", "ImageBatch", "ImageReader", "Progress", "find_images", "read_image"]

Progress = Callable[[str, int, int, int], None]
"""Told what is being done, how much of it is done, how much there is, and images read since the last call."""

T = TypeVar("T")

EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")
GREATEST_SCALE = 16
SIZES_WAITING = 8
GREYSCALE = ("1", "L", "LA", "La", "F", "I", "I;16", "I;16B", "I;16L", "I;16N")


def find_images(source: str | Path) -> list[Path]:
    """Image files of a folder (and its subfolders), a glob, a text file of paths, or one file; sorted, none twice.

    Args:
        source: Any of these. Paths in a text file, one a line, are relative to the text file.

    Raises:
        RL2Error: If nothing is there, or a listed file does not exist.

    """
    text = os.fspath(source)
    if text == "":
        raise RL2Error("The source of images is empty. Expected a folder, a glob, a list or an image.")
    if os.path.isdir(text):
        found, others = _in_folder(text)
        nothing = f"The folder {text} holds no images" + (f", but {others} other files" if others else "") + "."
    elif os.path.isfile(text):
        found = [Path(text)] if _is_image(text) else _listed(Path(text))
        nothing = f"The list {text} is empty."
    else:
        found = sorted(Path(match) for match in glob.glob(text, recursive=True) if _is_image(match))  # noqa: PTH207
        nothing = f"There is no folder, list or image {text}, and as a pattern it matches no image."
    if not found:
        raise RL2Error(f"{nothing} Expected files ending in {', '.join(EXTENSIONS)}.")
    unique: dict[str, Path] = {}
    for path in found:
        unique.setdefault(os.path.realpath(path), path)
    return list(unique.values())


def _is_image(path: str) -> bool:
    return path.lower().endswith(EXTENSIONS) and os.path.isfile(path)


def files_below(folder: str | Path) -> Iterator[Path]:
    """Files below a folder, linked folders included and hidden ones not."""

    def refuse(error: OSError) -> None:
        raise RL2Error(f"The folder {error.filename} cannot be read: {error.strerror}.") from error

    visited = set()
    for parent, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        visited.add(os.path.realpath(parent))
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".") and os.path.realpath(os.path.join(parent, name)) not in visited
        ]
        yield from (Path(parent, name) for name in files)


def _in_folder(folder: str) -> tuple[list[Path], int]:
    """Images below a folder, hidden ones not, and the number of other files."""
    files = list(files_below(folder))
    found = sorted(path for path in files if not path.name.startswith(".") and _is_image(os.fspath(path)))
    return found, len(files) - len(found)


def _listed(path: Path) -> list[Path]:
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").split("\n")]
    except OSError as error:
        raise RL2Error(f"The list {path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise RL2Error(
            f"{path} is neither an image ({', '.join(EXTENSIONS)}) nor a text file with a path a line."
        ) from error
    listed = [path.parent / line for line in lines if line]
    missing = [p for p in listed if not os.path.isfile(p)]
    if missing:
        raise RL2Error(
            f"{len(missing)} of {len(listed)} lines of {path} are no files, {str(missing[0])[:200]} for one. "
            "A list has one path a line, relative to the list."
        )
    return listed


def read_image(path: Path) -> Tensor:
    """One image as uint8 ``(3, H, W)``, see :func:`open_image`."""
    pixels: Tensor = pil_to_tensor(open_image(path))
    return pixels


def open_image(path: Path) -> Image.Image:
    """One image, decoded, in mode RGB.

    Alpha is composed over white, the colour of an empty slide; palettes are looked up; of 16 bits a channel the upper 8
    are kept; CMYK becomes RGB by Pillow's formula. Embedded colour profiles and EXIF orientation are not applied.

    Args:
        path: A PNG, JPEG, WebP, TIFF or BMP file of one colour image.

    Raises:
        RL2Error: If it cannot be read, is greyscale, or holds several images.

    """
    try:
        with Image.open(path) as image:
            if getattr(image, "n_frames", 1) > 1:
                raise RL2Error(f"{path} holds {image.n_frames} images; expected one. Split it into files first.")
            if image.mode in GREYSCALE:
                raise RL2Error(
                    f"{path} is greyscale (mode {image.mode}); expected colour. Convert it to RGB if you mean it."
                )
            if image.has_transparency_data:
                rgba = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
            rgb: Image.Image = image.convert("RGB")
            return rgb
    except RL2Error:
        raise
    except Exception as error:  # decoders raise anything on damaged files, a TypeError for one
        raise RL2Error(f"{path} cannot be read as an image: {error}.") from error


@dataclass(frozen=True)
class ImageBatch:
    """Images of one size.

    Args:
        images: uint8 ``(N, 3, H, W)``.
        paths: The file each came from.

    """

    images: Tensor
    paths: Sequence[Path]


class EvenSample(Generic[T]):
    """At most so many items of a stream, evenly spread: all, then every second, every fourth, as it goes on."""

    def __init__(self, most: int) -> None:
        self.items: list[T] = []
        self._most, self._stride, self._seen = most, 1, 0

    def add(self, item: T) -> None:
        """Offer the next item."""
        if self._seen % self._stride == 0:
            self.items.append(item)
        self._seen += 1
        if len(self.items) > self._most:
            self.items, self._stride = self.items[::2], 2 * self._stride


@dataclass
class ImageReader:
    """Reads files and yields batches, one size a batch, in the order of the files.

    Args:
        tile: Cut into tiles of this side in pixels, row by row from the top left; what is left over is dropped.
        scale: Resize by this factor first, antialiased.
        batch_size: Images a batch, at most.
        workers: Processes that read ahead.
        skip_unreadable: Leave out files that cannot be read, and list them in ``unreadable``, instead of stopping.

    """

    tile: int | None = None
    scale: float | None = None
    batch_size: int = 64
    workers: int = 0
    skip_unreadable: bool = False
    unreadable: list[str] = field(default_factory=list, init=False)
    files_read: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.tile is not None and self.tile < LEAST_PX:
            raise RL2Error(f"Tiles need at least {LEAST_PX} px, but got tile={self.tile}.")
        if self.scale is not None and not 0 < self.scale <= GREATEST_SCALE:
            raise RL2Error(f"The scale is a factor above 0 and at most {GREATEST_SCALE}, but got scale={self.scale}.")
        if self.batch_size < 1 or self.workers < 0:
            raise RL2Error(f"Expected batch_size >= 1 and workers >= 0, got {self.batch_size} and {self.workers}.")

    def read(self, paths: Sequence[Path]) -> Iterator[ImageBatch]:
        """Batches of all images."""
        self.files_read = 0
        waiting: dict[tuple[int, ...], list[tuple[Tensor, Path]]] = defaultdict(list)
        loader = DataLoader(_Files(paths, self.tile, self.scale), batch_size=None, num_workers=self.workers)
        for path, read in zip(paths, loader, strict=True):
            self.files_read += 1
            if isinstance(read, str):
                if not self.skip_unreadable:
                    raise RL2Error(f"{read} With --skip-unreadable such files are left out and counted.")
                self.unreadable.append(read)
                continue
            queue = waiting[tuple(read.shape[1:])]
            # A copy: what a worker sends keeps a file open for as long as it is used.
            queue += [(image.clone(), path) for image in read]
            while len(queue) >= self.batch_size:
                yield _batch(queue[: self.batch_size])
                del queue[: self.batch_size]
            if sum(map(len, waiting.values())) >= SIZES_WAITING * self.batch_size:
                yield _batch(waiting.pop(max(waiting, key=lambda size: len(waiting[size]))))
        for queue in waiting.values():
            if queue:
                yield _batch(queue)


def _batch(queue: list[tuple[Tensor, Path]]) -> ImageBatch:
    images, paths = zip(*queue, strict=True)
    return ImageBatch(torch.stack(images), paths)


class _Files(Dataset[Tensor | str]):
    """Tiles ``(T, 3, H, W)`` of each file, or the sentence that says why it cannot be used."""

    def __init__(self, paths: Sequence[Path], tile: int | None, scale: float | None) -> None:
        self.paths, self.tile, self.scale = paths, tile, scale

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor | str:
        path = self.paths[index]
        try:
            image: Tensor = read_image(path)
        except RL2Error as error:
            return str(error)
        if self.scale is not None:
            size = [max(1, round(side * self.scale)) for side in image.shape[1:]]
            image = resize(image, size, antialias=True)
        height, width = image.shape[1:]
        least = self.tile or LEAST_PX
        if min(height, width) < least:
            return f"{path} is {width} x {height} px; expected at least {least} x {least}."
        if self.tile is None:
            return image[None]
        rows, columns = height // least, width // least
        grid = image[:, : rows * least, : columns * least].reshape(3, rows, least, columns, least)
        return grid.permute(1, 3, 0, 2, 4).flatten(0, 1)
