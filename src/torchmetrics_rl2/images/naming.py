"""What single images are called: their file, or a tile of it."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

__all__ = ["ImageNames"]


class ImageNames:
    """Names of images in the order in which they are read.

    Args:
        tiled: Whether files are cut, so that a file is no name for an image; tiles count from 0, row by row.

    """

    def __init__(self, tiled: bool = False) -> None:
        self._tiles: Counter[Path] | None = Counter() if tiled else None

    def of(self, paths: Sequence[Path]) -> list[str]:
        """Names of the next images, of these files."""
        names = []
        for path in paths:
            names.append(str(path) if self._tiles is None else f"{path}, tile {self._tiles[path]}")
            if self._tiles is not None:
                self._tiles[path] += 1
        return names
