"""Open slides, one handle a process, by OpenSlide or Pillow."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.images.decode import MAX_PX, open_image
from torchmetrics_rl2.images.formats import of_any_size

__all__ = ["is_slide", "series_of"]

TIFF, SERIES = "generic-tiff", "dicom.SeriesInstanceUID"


def _openslide() -> Any:
    try:
        import openslide
        import skimage  # noqa: F401
    except ImportError as error:
        raise RL2Error(f"Slides need {error.name}: pip install 'torchmetrics-rl2[slides]'.") from error
    return openslide


def is_slide(path: Path) -> bool:
    """Whether it is a slide by its content: of a scanner, or an image larger than a patch, such as a whole section.

    A tiled TIFF of no scanner is a patch as long as it has one level and at most 4,096 px a side.
    """
    openslide = _openslide()
    if not path.is_file():  # a pipe would be waited for
        return False
    try:
        vendor = openslide.OpenSlide.detect_format(path)
        if vendor is None:
            with of_any_size(), Image.open(path) as image:
                return bool(max(image.size) > MAX_PX)
        if vendor != TIFF:
            return True
        with openslide.OpenSlide(path) as slide:
            return bool(slide.level_count > 1 or max(slide.dimensions) > MAX_PX)
    except Exception:  # decoders raise anything on damaged files
        return False


def series_of(path: Path) -> str | None:
    """The series that a DICOM file is a part of; ``None`` for other files, and where it cannot be told."""
    openslide = _openslide()
    try:
        if openslide.OpenSlide.detect_format(path) != "dicom":
            return None
        with openslide.OpenSlide(path) as slide:
            found: str | None = slide.properties.get(SERIES)
            return found
    except Exception:  # decoders raise anything on damaged files
        return None


def mpps_of(handle: Any, path: Path) -> tuple[float, ...]:
    """Resolution of level 0 along x and y in um/px, as far as the file says it."""
    properties = handle.properties
    known = tuple(float(properties[key]) for key in ("openslide.mpp-x", "openslide.mpp-y") if key in properties)
    if known and properties.get("openslide.vendor") == TIFF:
        # OpenSlide takes that of the first page, whatever level it is.
        with of_any_size(), Image.open(path) as first:
            shrink = first.size[0] / handle.dimensions[0]
        known = tuple(mpp * shrink for mpp in known)
    return known


_handles: dict[tuple[int, Path], Any] = {}


def open_handle(path: Path) -> Any:
    """The open slide, of this process: OpenSlide does not survive a fork. A decoded image does, and is kept."""
    for process in (0, os.getpid()):
        if (process, path) in _handles:
            return _handles[process, path]
    _handles.clear()
    handle = _open(path)
    _handles[os.getpid() if len(handle.properties) else 0, path] = handle
    return handle


def _open(path: Path) -> Any:
    openslide = _openslide()
    if not os.path.isfile(path):
        raise RL2Error(f"There is no slide {path}.")
    try:
        if openslide.OpenSlide.detect_format(path) is not None:
            return openslide.OpenSlide(path)
        return openslide.ImageSlide(open_image(path))
    except Exception as error:  # OpenSlide and Pillow raise anything on damaged files
        raise RL2Error(f"{path} is no slide that OpenSlide can read, or is cut off: {error}.") from error


def read_region(handle: Any, path: Path, place: tuple[int, int], level: int, size: Sequence[int]) -> Image.Image:
    try:
        region: Image.Image = handle.read_region(place, level, (size[0], size[1]))
        return region
    except Exception as error:
        _handles.clear()  # OpenSlide answers nothing more after an error
        raise RL2Error(f"{path} cannot be read at {place[0]}, {place[1]}, level {level}: {error}.") from error


def on_glass(image: Image.Image) -> Image.Image:
    """What was not scanned is transparent; it becomes white."""
    if image.mode != "RGBA":
        return image.convert("RGB")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
