"""Small copies of images, inside of a page."""

import base64
import io
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from torchmetrics_rl2.explaining.images import SeenImages
from torchmetrics_rl2.images.naming import ImageNames
from torchmetrics_rl2.images.reader import ImageReader

__all__ = ["Picture", "images_of", "picture_uri", "pictures_of"]

LARGE, SMALL = (224, 24_000), (64, 3_000)
"""Side in pixels and bytes of a picture, at most."""
QUALITIES = (80, 60, 40)


@dataclass(frozen=True)
class Picture:
    """An image of a page.

    Args:
        small: At most 64 px a side, as a data URI.
        large: At most 224 px; empty where nobody looks at it closely.

    """

    small: str
    large: str = ""


def pictures_of(
    names: Collection[str], large: Collection[str], seen: SeenImages, reader: ImageReader
) -> dict[str, Picture]:
    """Pictures of these images, which are read again; without those that have gone.

    Args:
        names: Of images, as ``seen`` has them.
        large: Those of them to be looked at closely.
        seen: All images of the side.
        reader: How they were read.

    """
    return {
        name: Picture(picture_uri(pixels, SMALL), picture_uri(pixels) if name in large else "")
        for name, pixels in images_of(names, seen, reader)
    }


def images_of(names: Collection[str], seen: SeenImages, reader: ImageReader) -> Iterator[tuple[str, Tensor]]:
    """Names and pixels of these images, which are read again; without those that have gone.

    Args:
        names: Of images, as ``seen`` has them.
        seen: All images of the side.
        reader: How they were read.

    """
    files = {Path(name.rpartition(", tile ")[0] if seen.tiled else name): None for name in names}
    naming = ImageNames(seen.tiled)
    for batch in replace(reader, skip_unreadable=True).read(list(files)):
        for name, pixels in zip(naming.of(batch.paths), batch.images, strict=True):
            if name in names:
                yield name, pixels


def picture_uri(pixels: Tensor, most: tuple[int, int] = LARGE) -> str:
    """An image as a data URI.

    Args:
        pixels: uint8, ``(3, H, W)``.
        most: Side in pixels and bytes, at most.

    """
    side, size = most
    image: Image.Image = to_pil_image(pixels)
    while True:
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
        for quality in QUALITIES:
            buffer = io.BytesIO()
            image.save(buffer, "JPEG", quality=quality)
            if buffer.tell() <= size:
                return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
        side = side * 3 // 4  # noise, for one
