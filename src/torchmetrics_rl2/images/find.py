"""Image files of folders, globs and lists."""

import glob
import json
import os
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.images.decode import FORMATS, format_of

__all__ = ["FoundImages", "find", "find_images", "left_out_sentence", "line_of", "same_name"]

EXTENSIONS = (".png", ".jpg", ".jpeg", ".jfif", ".webp", ".tif", ".tiff", ".bmp", ".jp2")
SLIDES = (".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".vms", ".vmu", ".svslide", ".czi", ".qptiff")
EXPECTED = "PNG, JPEG, WebP, TIFF, BMP or JPEG 2000 files"
NAMED = 3


@dataclass(frozen=True)
class FoundImages:
    """Images of a source.

    Args:
        paths: Their files, sorted, none twice.
        left_out: Other files of the folder, or that the pattern matches.

    """

    paths: Sequence[Path]
    left_out: Sequence[Path] = field(default_factory=list)


def find_images(source: str | Path) -> list[Path]:
    """Image files of a folder (and its subfolders), a glob, a text file of paths, or one file; sorted, none twice.

    What is an image is told by the content of a file, if not by its name.

    Args:
        source: Any of these. Paths in a text file, one a line, are relative to the text file.

    Raises:
        RL2Error: If nothing is there, or a listed file does not exist.

    """
    return list(find(source).paths)


def find(source: str | Path) -> FoundImages:
    """The same, with what was left out of a folder or of what a pattern matches.

    Raises:
        RL2Error: If nothing is there, or a listed file does not exist.

    """
    text, others = os.fspath(source), list[Path]()
    if text == "":
        raise RL2Error("The source of images is empty. Expected a folder, a glob, a list or an image.")
    if os.path.isdir(text):
        found, others = _images_among(sorted(files_below(text)))
        nothing = f"The folder {text} holds no images" + (f", but {len(others)} other files" if others else "") + "."
    elif os.path.isfile(text):
        found = [Path(text)] if is_image(Path(text)) else _listed(Path(text))
        nothing = f"The list {text} is empty."
    else:
        matches = sorted(Path(match) for match in glob.glob(text, recursive=True))  # noqa: PTH207
        found, others = _images_among([path for path in matches if path.is_file()])
        nothing = f"There is no folder, list or image {text}, and no image matches it as a pattern."
    if not found:
        raise RL2Error(f"{nothing} Expected {EXPECTED}.")
    unique: dict[str, Path] = {}
    for path in found:
        unique.setdefault(os.path.realpath(path), path)
    return FoundImages(list(unique.values()), others)


def left_out_sentence(source: str | Path, left_out: Sequence[Path]) -> str:
    """What a run says of files that it left out."""
    names = ", ".join(path.name for path in left_out[:NAMED])
    more = f" and {len(left_out) - NAMED} more" if len(left_out) > NAMED else ""
    return f"{len(left_out)} file(s) of {os.fspath(source)} are no images, and were left out: {names}{more}."


def is_image(path: Path) -> bool:
    """Whether a file is an image of patches, by its name, or else by its content; slides are not."""
    ending = path.suffix.lower()
    if not path.is_file():  # a pipe would be waited for
        return False
    if ending in EXTENSIONS:
        return True
    # Slides are TIFF files, mostly.
    return format_of(path) in (FORMATS if ending not in SLIDES else ("PNG", "JPEG", "WEBP", "BMP"))


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
        yield from (Path(parent, name) for name in files if not name.startswith("."))


def same_name(path: str | Path) -> str:
    """A path in one Unicode normalization: macOS and others write the same letters as other characters."""
    return unicodedata.normalize("NFC", os.fspath(path))


def line_of(path: Path) -> str:
    """A path as a line of a list that :func:`find_images` reads: as it is, or as a JSON string where it has to be.

    That is where it has a line break, a quotation mark or a space at an end, or bytes that are no UTF-8.
    """
    text = os.fspath(path)
    try:
        text.encode()
        plain = text == text.strip() and not text.startswith('"') and len(text.splitlines()) == 1
    except UnicodeEncodeError:
        plain = False
    return text if plain else json.dumps(text)


def _images_among(files: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    images: list[Path] = []
    others: list[Path] = []
    for path in files:
        (images if is_image(path) else others).append(path)
    return images, others


def _listed(path: Path) -> list[Path]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RL2Error(f"The list {path} cannot be read: {error.strerror}.") from error
    listed, missing = list[Path](), list[Path]()
    for encoding in _encodings(data):
        lines = _decoded(data, encoding).splitlines()
        names = [_path_of(line, path.parent) for line in lines if line.strip()]
        absent = [name for name in names if not os.path.isfile(name)]
        if not listed or len(absent) < len(missing):
            listed, missing = names, absent
        if not missing:
            break
    if len(missing) == len(listed) and _is_binary(data):
        raise RL2Error(f"{path} is neither an image ({EXPECTED}) nor a text file with a path a line.")
    if missing:
        raise RL2Error(
            f"{len(missing)} of {len(listed)} lines of {path} are no files, {str(missing[0])[:200]} for one. "
            "A list has one path a line, relative to the list."
        )
    return listed


def _encodings(data: bytes) -> tuple[str, ...]:
    """What a list may be written in: UTF-8 with the bytes of any name, what Windows has, or UTF-16."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return ("utf-16",)
    return ("utf-16-le",) if data[1:2] == b"\0" else ("utf-8-sig", "cp1252")


def _decoded(data: bytes, encoding: str) -> str:
    return data.decode(encoding, errors="surrogateescape" if encoding == "utf-8-sig" else "ignore").replace("\0", "")


def _is_binary(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return True
    return False


def _path_of(line: str, folder: Path) -> Path:
    """The file that a line of a list names."""
    names = [line, line.strip()]
    if line.startswith('"') and line.rstrip().endswith('"'):
        with suppress(ValueError):
            names.insert(0, str(json.loads(line)))
        names.insert(1, line.strip()[1:-1])
    for name in names:
        for form in (name, *(unicodedata.normalize(form, name) for form in ("NFC", "NFD"))):
            if os.path.isfile(folder / form):
                return folder / form
    return folder / names[-1]
