"""Images of folders, globs, lists, and files that hold many."""

import difflib
import glob
import json
import os
import re
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from typing import Any

from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.images.formats import EXPECTED, FORMATS, format_of
from torchmetrics_rl2.images.hub_datasets import check_dataset, is_dataset, is_stream, remember
from torchmetrics_rl2.images.lists import read_list
from torchmetrics_rl2.images.packed import (
    check_not_compressed,
    contents,
    in_packed,
    is_packed,
    look_into,
    real_paths,
)

__all__ = ["FoundImages", "base_of", "find", "find_images", "left_out_sentence", "same_name", "text_of"]

EXTENSIONS = (".png", ".jpg", ".jpeg", ".jfif", ".webp", ".tif", ".tiff", ".bmp", ".jp2")
SLIDES = (".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".vms", ".vmu", ".svslide", ".czi", ".qptiff")
NAMED = 3
BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")
MOST = 100_000
MOST_COMPARED = 1000


@dataclass(frozen=True)
class FoundImages:
    """Images of a source.

    Args:
        paths: Their files, sorted, none twice; of a file that holds many, in its order.
        left_out: Other files of the folder, or that the pattern matches.

    """

    paths: Sequence[Path]
    left_out: Sequence[Path] = field(default_factory=list)


def find_images(source: str | Path) -> list[Path]:
    """Image files of a folder (and its subfolders), a glob, a text file of paths, or one file; sorted, none twice.

    What is an image is told by the content of a file, if not by its name. Images in tar, Parquet and Arrow files have
    paths below these.

    Args:
        source: Any of these, or such a file. Paths in a text file, one a line, are relative to the text file.

    Raises:
        RL2Error: If nothing is there, or a listed file does not exist.

    """
    return list(find(source).paths)


def find(source: Any) -> FoundImages:
    """The same, with what was left out of a folder or of what a pattern matches; or of a ``datasets.Dataset``.

    Raises:
        RL2Error: If nothing is there, or a listed file does not exist.

    """
    if is_dataset(source):
        check_dataset(source)
        if is_stream(source):
            raise RL2Error(
                "A streaming data set is read once, from its beginning, and this needs a list of its images. Load it "
                "with streaming=False, or its first images with datasets.Dataset.from_list(list(dataset.take(1000)))."
            )
        return FoundImages(_unpacked(Path(remember(source)))[0])
    text, others = os.fspath(source), list[Path]()
    if text == "":
        raise RL2Error("The source of images is empty. Expected a folder, a glob, a list or an image.")
    if os.path.isdir(text):
        found, others = _images_among(sorted(files_below(text)))
        nothing = f"The folder {text} {_no_images(others)}"
    elif is_packed(text):
        found, others = _unpacked(Path(text))
        nothing = f"{text} {_no_images(others)}"
    elif os.path.isfile(text) and Path(text).suffix.lower() in SLIDES and not is_image(Path(text)):
        found, others = [], [Path(text)]
        nothing = f"{text} is a whole slide."
    elif os.path.isfile(text):
        check_not_compressed(text)
        found = [Path(text)] if is_image(Path(text)) else _listed(Path(text))
        nothing = f"The list {text} is empty."
    else:
        found, others = _matching(text)
        nothing = f"There is no folder, list or image {text}, and no image matches it as a pattern.{_near(text)}"
    if not found:
        to_screen = " rl2 screen reads whole slides." if any(p.suffix.lower() in SLIDES for p in others) else ""
        raise RL2Error(f"{nothing} Expected {EXPECTED}, or tar, Parquet or Arrow files of these.{to_screen}")
    unique: dict[str, Path] = {}
    for real, path in zip(real_paths(found), found, strict=True):
        unique.setdefault(real, path)
    return FoundImages(list(unique.values()), others)


def base_of(source: Any) -> Path:
    """What relative paths in a table of groups are relative to: a folder or a file that holds images, or else here."""
    is_path = isinstance(source, str | os.PathLike)
    return Path(source) if is_path and (os.path.isdir(source) or is_packed(source)) else Path()


def text_of(source: Any) -> str:
    """What a source is called."""
    return remember(source) if is_dataset(source) else os.fspath(source)


def left_out_sentence(source: Any, left_out: Sequence[Path]) -> str:
    """What a run says of files that it left out."""
    names = ", ".join(path.name for path in left_out[:NAMED])
    more = f" and {len(left_out) - NAMED} more" if len(left_out) > NAMED else ""
    packed = (
        ""
        if not any(map(is_packed, left_out))
        else (" Tar, Parquet and Arrow files beside images are not looked into; give them as a source of their own.")
    )
    return f"{len(left_out)} file(s) of {text_of(source)} are no images, and were left out: {names}{more}.{packed}"


def is_image(path: Path) -> bool:
    """Whether a file is an image of patches, by its name, or else by its content; slides are not."""
    ending = path.suffix.lower()
    if in_packed(path) is None and not path.is_file():  # a pipe would be waited for
        return False
    if ending in EXTENSIONS:
        return True
    # Slides are TIFF files, mostly.
    return format_of(contents(path)) in (FORMATS if ending not in SLIDES else ("PNG", "JPEG", "WEBP", "BMP"))


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


def _near(text: str) -> str:
    """What of the same folder a path that does not exist may have meant; of few files, as a comparison is slow."""
    path, names = Path(text), list[str]()
    if glob.has_magic(text):
        return ""
    with suppress(OSError, ValueError):
        names = sorted(one.name for one in islice(path.parent.iterdir(), MOST_COMPARED + 1))
    if len(names) > MOST_COMPARED:
        return ""
    near = difflib.get_close_matches(path.name, names, n=1)
    return "".join(f" Did you mean {path.with_name(name)}?" for name in near)


def same_name(path: str | Path) -> str:
    """A path in one Unicode normalization: macOS and others write the same letters as other characters."""
    return unicodedata.normalize("NFC", os.fspath(path))


def _no_images(others: Sequence[Path]) -> str:
    beside = f", but {len(others)} other file{'s' if len(others) > 1 else ''}" if others else ""
    return f"holds no images{beside}."


def _images_among(files: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Images and other files; of files that hold images, where there are no images beside them, these."""
    images, others = list[Path](), list[Path]()
    for path in files:
        (images if is_image(path) else others).append(path)
    packed = [] if images else [path for path in others if is_packed(path)]
    if not images and not packed:
        for path in others:
            check_not_compressed(path)
    shards = [path for path in packed if path.suffix.lower() == ".tar"]
    packed = shards or packed  # tables beside shards tell of their images
    if any(path.suffix == ".arrow" for path in packed):
        packed, others = _saved_to_disk(packed, others)
    others = [path for path in others if path not in packed]
    for path in packed:
        inside, rest = _unpacked(path)
        images += inside
        others += rest
    return images, others


def _saved_to_disk(packed: Sequence[Path], others: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Without what the library datasets keeps beside the files of a data set: a description, and caches."""
    unwanted = {path for path in others if path.name in ("state.json", "dataset_info.json", "dataset_dict.json")}
    for state in (path for path in others if path.name == "state.json"):
        with suppress(OSError, ValueError, KeyError, TypeError):
            own = {one["filename"] for one in json.loads(state.read_text(encoding="utf-8"))["_data_files"]}
            unwanted |= {path for path in packed if path.parent == state.parent and path.name not in own}
    return [path for path in packed if path not in unwanted], [path for path in others if path not in unwanted]


def _unpacked(packed: Path) -> tuple[list[Path], list[Path]]:
    """Images in a file, those that cannot be read among them, and what else it holds.

    Files that WebDataset takes for parts of a sample, such as ``a.json`` beside ``a.jpg``, are nothing else.
    """
    names, surely, others = look_into(os.fspath(packed))
    shown = [name for name in names if not any(part.startswith(".") for part in name.split("/"))]
    images = {name for name in shown if surely(name) or name.lower().endswith(EXTENSIONS)}
    samples = {_sample(name) for name in images}
    loose = [name for name in shown if name not in images and _sample(name) not in samples]
    images |= {name for name in loose if is_image(packed / name)}
    others = [*others, *(name for name in loose if name not in images)]
    return [packed / name for name in shown if name in images], [packed / name for name in others]


def _sample(name: str) -> str:
    """What WebDataset takes for the key of a sample: the name up to the first dot of its last part."""
    folder, _, file = name.rpartition("/")
    return f"{folder}/{file.partition('.')[0]}"


def _listed(path: Path) -> list[Path]:
    """Images that a list names, and those in files that it names."""
    found = list[Path]()
    for one in read_list(path):
        check_not_compressed(one)
        found += _unpacked(one)[0] if is_packed(one) else [one]
    return found


def _matching(pattern: str) -> tuple[list[Path], list[Path]]:
    """Images that a pattern matches, or that it matches in files that hold images, and other files."""
    files = _files_matching(pattern)
    inner = None if files else in_packed(pattern)
    if inner is None:
        return _images_among(files)
    images, others = _images_among(_files_matching(inner[0]))
    names = [(in_packed(path) or ("", ""))[1] for path in images]
    matched = [name == inner[1] or fnmatchcase(name, inner[1]) for name in names]
    return [path for path, is_wanted in zip(images, matched, strict=True) if is_wanted], others


def _files_matching(pattern: str) -> list[Path]:
    """Files that a glob matches, which may have number ranges in braces and the column of a table behind it.

    Raises:
        RL2Error: If nothing matches one of the numbers.

    """
    pattern, column, name = pattern.partition("::")
    several, found, missing = _braced(pattern), list[str](), list[str]()
    for one in several:
        matches = [match for match in sorted(glob.glob(one, recursive=True)) if os.path.isfile(match)]  # noqa: PTH207
        found += matches
        missing += [] if matches else [one]
    if len(several) > 1 and missing:
        raise RL2Error(
            f"{len(missing)} of the {len(several)} files of {pattern} are missing, {missing[0]} for one. Correct the "
            "numbers in braces, or copy what is missing."
        )
    return [Path(f"{match}{column}{name}") for match in found]


def _braced(pattern: str) -> list[str]:
    """Patterns that ranges of numbers in braces stand for, as in a shell."""
    found = BRACES.search(pattern)
    if found is None:
        return [pattern]
    first, last = found.groups()
    width = max(len(first), len(last)) if first.startswith("0") or last.startswith("0") else 0
    if not 0 <= int(last) - int(first) < MOST:
        raise RL2Error(f"{found[0]} in {pattern} is no range of at most {MOST:,} numbers, from the least to the most.")
    numbers = range(int(first), int(last) + 1)
    return [
        f"{pattern[: found.start()]}{number:0{width}}{rest}"
        for number in numbers
        for rest in _braced(pattern[found.end() :])
    ]
