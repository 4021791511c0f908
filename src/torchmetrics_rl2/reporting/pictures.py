"""Small copies of images, inside of a page."""

import base64
import io
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from torchmetrics_rl2.explaining.images import SeenImages
from torchmetrics_rl2.images.naming import ImageNames
from torchmetrics_rl2.images.reader import ImageReader

__all__ = ["Picture", "pictures_of"]

LARGE, SMALL = 224, 64
QUALITY = 80


@dataclass(frozen=True)
class Picture:
    """An image of a page.

    Args:
        small: At most 64 px a side, as a data URI.
        large: At most 224 px; empty where nobody looks at it closely.

    """

    small: str
    large: str = ""


def pictures_of(names: Collection[str], large: Collection[str], seen: SeenImages, reader: ImageReader) -> dict[str, Picture]:
    """Pictures of these images, which are read again; without those that have gone.

    Args:
        names: Of images, as ``seen`` has them.
        large: Those of them to be looked at closely.
        seen: All images of the side.
        reader: How they were read.

    """
    files = {Path(name.rpartition(", tile ")[0] if seen.tiled else name): None for name in names}
    naming, found = ImageNames(seen.tiled), dict[str, Picture]()
    for batch in replace(reader, skip_unreadable=True).read(list(files)):
        for name, pixels in zip(naming.of(batch.paths), batch.images, strict=True):
            if name in names:
                found[name] = Picture(_uri(pixels, SMALL), _uri(pixels, LARGE) if name in large else "")
    return found


def _uri(pixels: Tensor, most: int) -> str:
    image = to_pil_image(pixels)
    image.thumbnail((most, most), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
