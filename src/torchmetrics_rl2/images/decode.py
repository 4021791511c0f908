"""One image file becomes pixels."""

from pathlib import Path

from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

from torchmetrics_rl2.errors import RL2Error

__all__ = ["read_image"]

GRAYSCALE = ("1", "L", "LA", "La", "F", "I", "I;16", "I;16B", "I;16L", "I;16N")


def read_image(path: Path) -> Tensor:
    """One image as uint8 ``(3, H, W)``, see :func:`open_image`."""
    pixels: Tensor = pil_to_tensor(open_image(path))
    return pixels


def open_image(path: Path) -> Image.Image:
    """One image, decoded, in mode RGB.

    Alpha is composed over white, the color of an empty slide; palettes are looked up; of 16 bits a channel the upper 8
    are kept; CMYK becomes RGB by Pillow's formula. Embedded color profiles and EXIF orientation are not applied.

    Args:
        path: A PNG, JPEG, WebP, TIFF or BMP file of one color image.

    Raises:
        RL2Error: If it cannot be read, is grayscale, or holds several images.

    """
    try:
        with Image.open(path) as image:
            if getattr(image, "n_frames", 1) > 1:
                raise RL2Error(f"{path} holds {image.n_frames} images; expected one. Split it into files first.")
            if image.mode in GRAYSCALE:
                raise RL2Error(
                    f"{path} is grayscale (mode {image.mode}); expected color. Convert it to RGB if you mean it."
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
