"""Open slides, one handle a process, by OpenSlide or Pillow."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.images.decode import open_image

__all__ = ["is_slide"]

FLAT_PX = 4096


def _openslide() -> Any:
    try:
        import openslide
        import skimage  # noqa: F401
    except ImportError as error:
        raise RL2Error(f"Slides need {error.name}: pip install 'torchmetrics-rl2[slides]'.") from error
    return openslide


def is_slide(path: Path) -> bool:
    """Whether OpenSlide knows the format, or it is an image of more than 4,096 px a side, such as a whole section."""
    try:
        if _openslide().OpenSlide.detect_format(path) is not None:
            return True
        with _of_any_size(), Image.open(path) as image:
            return bool(max(image.size) > FLAT_PX)
    except RL2Error:
        raise
    except Exception:  # decoders raise anything on damaged files
        return False


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
        with _of_any_size():
            return openslide.ImageSlide(open_image(path))
    except Exception as error:  # OpenSlide and Pillow raise anything on damaged files
        raise RL2Error(f"{path} is no slide that OpenSlide can read, or is cut off: {error}.") from error


@contextmanager
def _of_any_size() -> Iterator[None]:
    """Sections saved as one image have more pixels than Pillow thinks anybody means."""
    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


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
