"""Files that hold many images, each of which has a path below its file: ``shard.tar/patient/a.jpg``."""

import io
import os
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.images.hub_datasets import DATASET, fingerprint_of, rows_of_dataset
from torchmetrics_rl2.images.tables import Table, rows_of_file
from torchmetrics_rl2.images.tar import COMPRESSED_TAR, TarShard, signature_of

__all__ = [
    "check_not_compressed",
    "column_of",
    "contents",
    "folder_of",
    "holder_of",
    "in_packed",
    "is_packed",
    "is_there",
    "look_into",
    "real_paths",
    "stamp_of",
]

ENDING = rf"\.(tar|parquet|arrow|{DATASET})(::[^/\\]+)?"
PACKED = re.compile(ENDING + r"(?=[/\\]|$)", re.IGNORECASE)
COMPRESSED = re.compile(r"\.(tar\.\w{1,4}|tgz|tbz2?|txz)$", re.IGNORECASE)

_listed: dict[str, tuple[tuple[int, int, int] | None, TarShard | Table]] = {}


def file_of(packed: str) -> str:
    """The file that holds images, without the column behind it."""
    return packed.partition("::")[0]


def in_packed(path: str | Path) -> tuple[str, str] | None:
    """The file that holds an image, and the name of the image in it; ``None`` for an image with a file of its own."""
    text = os.fspath(path)
    for match in PACKED.finditer(text):
        if match.end() < len(text) and not os.path.isdir(text[: match.end()]):
            return text[: match.end()], text[match.end() + 1 :]
    return None


def is_packed(path: str | Path) -> bool:
    """Whether it is a file that holds images, by its name.

    Raises:
        RL2Error: If it is a compressed tar file.

    """
    text = os.fspath(path)
    return os.path.isfile(file_of(text)) and re.search(ENDING + "$", text, re.IGNORECASE) is not None


def check_not_compressed(path: str | Path) -> None:
    """Refuse compressed tar files, of which no image can be read without all before it.

    Raises:
        RL2Error: If it is one.

    """
    if COMPRESSED.search(os.fspath(path)):
        raise RL2Error(COMPRESSED_TAR.format(path))


def look_into(packed: str) -> tuple[list[str], Callable[[str], bool], Sequence[str]]:
    """Names of files in a file, in its order, which of them count as images whatever they are called, and links.

    Raises:
        RL2Error: If it cannot be read, or has no column of images.

    """
    found = _index(packed, anew=True)
    if isinstance(found, Table):
        return list(found.places), lambda _: True, ()
    return list(found.members), found.damage.__contains__, found.links


def is_there(path: Path) -> bool:
    """Whether there is such a file, or such an image in a file."""
    split = in_packed(path)
    if split is None or not os.path.isfile(file_of(split[0])):
        return os.path.isfile(path)
    found = _index(split[0])
    return split[1].replace("\\", "/") in (found.members if isinstance(found, TarShard) else found.places)


def contents(path: Path) -> Path | io.BytesIO:
    """What an image is to be read from.

    Raises:
        RL2Error: If the file that holds it is gone, has changed or is damaged.

    """
    split = in_packed(path)
    if split is None:
        return path
    found = _index(split[0]).read(split[1].replace("\\", "/"))
    return io.BytesIO(found) if isinstance(found, bytes) else found


def folder_of(path: Path) -> Path:
    """The folder that an image is in: one inside of tar files lies beside them, as they share it; else the tar file."""
    split = in_packed(path)
    if split is None:
        return path.parent
    inner = Path(split[1]).parent
    return Path(split[0]) if inner == Path() else Path(split[0]).parent / inner


def holder_of(path: Path) -> Path:
    """The file that an image is in, or is."""
    split = in_packed(path)
    return path if split is None else Path(file_of(split[0]))


def stamp_of(path: Path) -> str:
    """What changes when an image does: its size, that of the table it is in, or the fingerprint of its data set."""
    split = in_packed(path)
    try:
        if split is None:
            return str(path.stat().st_size)
        if split[0].endswith(f".{DATASET}"):
            return fingerprint_of(split[0])
        found = _index(split[0])
        if isinstance(found, TarShard):
            return str(found.members[split[1].replace("\\", "/")][1])
        return str(holder_of(path).stat().st_size)
    except (OSError, KeyError, RL2Error):  # reading says what is wrong
        return ""


def column_of(column: str, paths: Sequence[Path]) -> dict[Path, str]:
    """What a column of the tables that images are in has for each.

    Raises:
        RL2Error: If an image is in no table, or its table has no such column.

    """
    texts: dict[str, dict[str, str]] = {}
    found = {}
    for path in paths:
        packed, name = in_packed(path) or ("", "")
        if packed not in texts:
            table = _index(packed) if packed else None
            if not isinstance(table, Table):
                raise RL2Error(f"{path} is in no table, and so has no column {column}. Give a CSV of paths instead.")
            texts[packed] = table.texts(column)
        found[path] = texts[packed][name.replace("\\", "/")]
    return found


def real_paths(paths: Sequence[Path]) -> list[str]:
    """Paths without links, by which a file is the same under two names."""
    known: dict[str, str] = {}
    found = []
    for path in paths:
        split = in_packed(path)
        if split is None:
            found.append(os.path.realpath(path))
            continue
        if split[0] not in known:
            known[split[0]] = os.path.realpath(split[0])
        found.append(os.path.join(known[split[0]], split[1]))
    return found


def _index(packed: str, anew: bool = False) -> TarShard | Table:
    """What is known of a file, looked at again where it may have changed."""
    where = os.path.abspath(packed)  # noqa: PTH100
    signature, found = _listed.get(where, (None, None))
    if found is not None and not anew:
        return found
    if packed.endswith(f".{DATASET}"):
        found = Table(packed, partial(rows_of_dataset, packed))
    else:
        path, _, column = packed.partition("::")
        now = signature_of(path)
        if found is None or signature != now:
            is_tar = path.lower().endswith(".tar")
            found = TarShard.scan(path) if is_tar else Table(packed, partial(rows_of_file, path, now), column)
            signature = now
    _listed[where] = (signature, found)
    return found
