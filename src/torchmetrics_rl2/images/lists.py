"""Text files of paths, as any editor writes them."""

import json
import os
import unicodedata
from contextlib import suppress
from pathlib import Path

from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.images.formats import EXPECTED
from torchmetrics_rl2.images.packed import is_there

__all__ = ["line_of", "read_list"]


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


def read_list(path: Path) -> list[Path]:
    """Files that a text file names, one a line, relative to it.

    Raises:
        RL2Error: If one does not exist, or it is no such list.

    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RL2Error(f"The list {path} cannot be read: {error.strerror}.") from error
    listed, missing = list[Path](), list[Path]()
    for encoding in _encodings(data):
        lines = _decoded(data, encoding).splitlines()
        names = [_path_of(line, path.parent) for line in lines if line.strip()]
        absent = [name for name in names if not is_there(name)]
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
            if is_there(folder / form):
                return folder / form
    return folder / names[-1]
