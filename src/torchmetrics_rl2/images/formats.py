"""What an image file is by its content."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

__all__ = ["EXPECTED", "FORMATS", "format_of", "kind_of", "of_any_size"]

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "JPEG2000")
"""What an image may be that its name does not tell, as Pillow names it."""

EXPECTED = "PNG, JPEG, WebP, TIFF, BMP or JPEG 2000 files"


def format_of(file: Path | io.BytesIO) -> str:
    """What an image file is by its content, as Pillow names it; empty if it is no image."""
    try:
        with of_any_size(), Image.open(file) as image:
            return kind_of(image)
    except Exception:  # decoders raise anything on damaged files
        return ""


def kind_of(image: Image.Image) -> str:
    """Its format; a JPEG with a preview is an MPO to Pillow."""
    return "JPEG" if image.format == "MPO" else str(image.format)


@contextmanager
def of_any_size() -> Iterator[None]:
    """Sections saved as one image have more pixels than Pillow thinks anybody means."""
    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before
