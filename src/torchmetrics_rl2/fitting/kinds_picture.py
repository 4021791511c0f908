"""A picture of the kinds of tissue that a fit found: a row a kind, its most typical patches."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from torchmetrics_rl2.images.reader import ImageReader

__all__ = ["Patch", "draw_kinds", "kinds_picture", "patch_name"]

Patch = tuple[str, int | None]
"""The file of a patch, and its number where there are several of a file."""

PX, MARGIN, TEXT = 160, 4, 16


def patch_name(patch: Patch) -> str:
    """The name of a patch, for people."""
    file, tile = patch
    return Path(file).name if tile is None else f"{Path(file).name}, tile {tile}"


def kinds_picture(out: Path) -> Path:
    """Where the picture of a weights file is."""
    return out.with_name(f"{out.name.removesuffix('.safetensors')}.kinds.jpg")


def draw_kinds(
    kinds: Sequence[Mapping[str, Any]], typical: Sequence[Sequence[Patch]], reader: ImageReader, path: Path
) -> None:
    """Write the picture.

    Args:
        kinds: Name and share of each kind.
        typical: Its most typical patches.
        reader: How they are read.
        path: The JPEG to write.

    """
    width = max(map(len, typical)) * (PX + MARGIN) + MARGIN
    sheet = Image.new("RGB", (width, len(kinds) * (PX + MARGIN + TEXT) + MARGIN), "white")
    draw = ImageDraw.Draw(sheet)
    for row, (kind, patches) in enumerate(zip(kinds, typical, strict=True)):
        top = row * (PX + MARGIN + TEXT)
        draw.text((MARGIN, top + 2), f"{kind['name']}, {kind['share']:.0%}", fill="black")
        for column, patch in enumerate(patches):
            image = to_pil_image(_read(patch, reader))
            image.thumbnail((PX, PX))
            sheet.paste(image, (MARGIN + column * (PX + MARGIN), top + TEXT))
    sheet.save(path, quality=90)


def _read(patch: Patch, reader: ImageReader) -> Tensor:
    file, tile = patch
    batches = replace(reader, workers=0).read([Path(file)])
    return torch.cat([batch.images for batch in batches])[tile or 0]
