"""One image file becomes pixels."""

import io
import re
from pathlib import Path

from PIL import Image, UnidentifiedImageError
from torch import Tensor

from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.images.formats import kind_of, of_any_size
from torchmetrics_rl2.images.packed import contents
from torchmetrics_rl2.images.tensors import to_tensor

__all__ = ["MAX_PX", "open_image", "read_image"]

MAX_PX = 4096
"""The longest side of a patch; what is larger is a section."""

GRAYSCALE = ("1", "L", "LA", "La", "F", "I", "I;16", "I;16B", "I;16L", "I;16N")
SUBFILE, REDUCED_OR_MASK, BITS = 254, 0b101, 258
DEEP = re.compile(";16[BLN]")  # not the 16 bits a pixel of a BMP
SAME_SHAPE = 0.02
TOO_DARK = 32
"""Darker than this, of 255, is what uses 13 of 16 bits at most."""


def read_image(path: Path) -> Tensor:
    """One image as uint8 ``(3, H, W)``, see :func:`open_image`."""
    return to_tensor(open_image(path))


def open_image(path: Path, given: Image.Image | io.BytesIO | Path | None = None) -> Image.Image:
    """One image, decoded, in mode RGB, with the ``format`` of its file.

    Alpha is composed over white, the color of an empty slide; palettes are looked up; of 16 bits a channel the upper 8
    are kept; CMYK becomes RGB by Pillow's formula. Embedded color profiles and EXIF orientation are not applied. Of a
    JPEG with a preview, and of a TIFF with smaller copies of its image, the image is read.

    Args:
        path: A file of one color image, whatever its name ends in: PNG, JPEG, WebP, TIFF, BMP or JPEG 2000. Or the
            path of one in a tar, Parquet or Arrow file.
        given: The image itself, or what holds it, where the path is but a name.

    Raises:
        RL2Error: If it cannot be read, is grayscale, holds several images, or has 16 bits a channel that are hardly
            used, or that Pillow cannot read.

    """
    try:
        file = contents(path) if given is None else given
        with of_any_size(), file if isinstance(file, Image.Image) else Image.open(file) as image:
            kind = kind_of(image)
            _seek_image(image, path)
            if image.mode in GRAYSCALE:
                raise RL2Error(
                    f"{path} is grayscale (mode {image.mode}); expected color. Convert it to RGB if you mean it."
                )
            _refuse_dark_or_scrambled(image, path)
            if image.has_transparency_data:
                rgba = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
            rgb: Image.Image = image.convert("RGB")
            rgb.format = kind
            return rgb
    except RL2Error:
        raise
    except Exception as error:  # decoders raise anything on damaged files, a TypeError for one
        reason = "it is of no known format" if isinstance(error, UnidentifiedImageError) else error
        raise RL2Error(f"{path} cannot be read as an image: {reason}.") from error


def _refuse_dark_or_scrambled(image: Image.Image, path: Path) -> None:
    """Refuse 16 bits a channel of which 13 at most are used, and those that Pillow reads as if they were 8."""
    layouts = [str(tile[3]) for tile in getattr(image, "tile", ())]  # none of an image in memory
    is_deep = any(DEEP.search(layout) for layout in layouts)
    if layouts and not is_deep and max(getattr(image, "tag_v2", {}).get(BITS, (8,))) > 8:
        raise RL2Error(
            f"{path} is a TIFF of more than 8 bits a channel with its channels one after the other, which Pillow "
            "cannot read. Save it with interleaved channels (planarconfig='contig' in tifffile), or with 8 bits."
        )
    # Without alpha, whose unused bits would make everything transparent.
    rgb = image.convert("RGB") if is_deep else None
    if rgb and rgb.getbbox() and not rgb.point(lambda value: value // TOO_DARK).getbbox():
        raise RL2Error(
            f"{path} has 16 bits a channel, and uses 13 of them at most, as cameras of 12 bits do: it would "
            "be almost black. Scale its values up to 65,535, or save it with 8 bits."
        )


def _seek_image(image: Image.Image, path: Path) -> None:
    """Go to the only image of a file that has previews or smaller copies of it beside it."""
    count = getattr(image, "n_frames", 1)
    if count == 1 or image.format == "MPO":
        return
    sizes, copies = [], []
    for i in range(count):
        image.seek(i)
        sizes.append(image.size)
        copies.append(bool(getattr(image, "tag_v2", {}).get(SUBFILE, 0) & REDUCED_OR_MASK))
    largest = max(range(count), key=lambda i: (not copies[i], sizes[i]))
    others = [i for i in range(count) if i != largest and not copies[i]]
    if image.format != "TIFF" or not all(_is_smaller(sizes[i], sizes[largest]) for i in others):
        raise RL2Error(f"{path} holds {count} images; expected one. Split it into files first.")
    image.seek(largest)


def _is_smaller(size: tuple[int, int], whole: tuple[int, int]) -> bool:
    """Whether it is the size of a smaller copy of an image."""
    shrink = [of / one for of, one in zip(whole, size, strict=True)]
    return min(shrink) > 1 and abs(shrink[0] / shrink[1] - 1) < SAME_SHAPE
