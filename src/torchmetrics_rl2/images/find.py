"""Image files of folders, globs and lists."""

import glob
import os
from collections.abc import Iterator
from pathlib import Path

from torchmetrics_rl2.errors import RL2Error

__all__ = ["find_images"]

EXTENSIONS = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")


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
        nothing = f"There is no folder, list or image {text}, and no image matches it as a pattern."
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
