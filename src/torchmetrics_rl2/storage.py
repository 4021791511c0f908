"""Safetensors files that appear whole or not at all, with JSON in their header."""

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from torchmetrics_rl2._version import __version__
from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.files import MAX_BYTES, is_web_page, new_file_beside

__all__ = ["check_sealed", "damaged", "digest", "read_file", "sealed", "write_file"]

OURS = {
    "torchmetrics-rl2": "RL2 weights",
    "torchmetrics-rl2-statistics": "RL2 statistics",
    "torchmetrics-rl2-calibration": "a calibration of good patches",
    "rl2_encoded": "a chunk of encoded images",
}
"""Our files, by the key of their JSON."""
TAKEN = {
    "torchmetrics-rl2": "Give it to --weights.",
    "torchmetrics-rl2-statistics": "Give it in place of images, to --real for one.",
}
"""What to do with one of these that was given for another."""


def read_file(path: Path, entry: str, format_version: int, hint: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Header and tensors of a file.

    Args:
        path: The file.
        entry: Key of its JSON in the metadata of safetensors, which says what it should be, see :data:`OURS`.
        format_version: What its header has to say.
        hint: What to do if it is something else.

    Raises:
        RL2Error: If it is no such file.

    """
    _refuse_non_files(path, OURS[entry], hint)
    try:
        with torch.device("cpu"), safe_open(path, "pt") as file:
            # Before anything is read that only a file of ours should make us read.
            header = _header(path, file.metadata() or {}, entry, format_version, hint)
            return header, {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise RL2Error(
            f"{path} cannot be read as {OURS[entry]}: it is not a readable safetensors file ({error}), or was cut off. "
            f"{hint}"
        ) from error


def _header(path: Path, metadata: dict[str, str], entry: str, format_version: int, hint: str) -> dict[str, Any]:
    if entry not in metadata:
        what = OURS[entry]
        if other := next((key for key in OURS if key in metadata), None):
            raise RL2Error(f"{path} is {OURS[other]}, not {what}. {TAKEN.get(other, hint)}")
        raise RL2Error(f"{path} is a safetensors file, but not {what}: its header has no '{entry}' entry. {hint}")
    with damaged(path):
        header = json.loads(metadata[entry], parse_constant=_refuse_constant, parse_float=_finite)
        if not isinstance(header, dict):
            raise ValueError("the header is no object")
        version = header["format_version"]
    if type(version) is not int or version != format_version:
        writer = str(header.get("written_by", "a later version"))[:20]
        raise RL2Error(
            f"{path} has format version {str(version)[:20]}, but torchmetrics-rl2 {__version__} reads "
            f"{format_version}. It was written by {writer}: if that is later, upgrade with "
            f"'pip install -U torchmetrics-rl2', else it has to be made again. {hint}"
        )
    return header


@contextmanager
def damaged(path: Path) -> Iterator[None]:
    """Whatever a damaged file does to the code that parses it becomes one sentence."""
    try:
        yield
    except RL2Error:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError) as error:
        raise RL2Error(f"{path} has a damaged header ({error!r}). Copy or download it again.") from error


def write_file(
    path: Path, entry: str, header: Mapping[str, Any], tensors: Mapping[str, Tensor], read: Callable[[Path], object]
) -> None:
    """Write a file under another name, read it back, and only then give it its name, or that of what it links to."""
    target = Path(os.path.realpath(path))
    temporary = new_file_beside(target)
    try:
        contiguous = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
        save_file(contiguous, temporary, {entry: json.dumps(header, sort_keys=True)})
        read(temporary)
        temporary.chmod(target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask())
        temporary.replace(target)
    except (OSError, SafetensorError) as error:
        raise RL2Error(f"{path} cannot be written: {error}.") from error
    except RL2Error as error:
        raise RL2Error(str(error).replace(str(temporary), str(path))) from error
    finally:
        temporary.unlink(missing_ok=True)


def digest(settings: list[Any], tensors: Mapping[str, Tensor]) -> str:
    """sha256 over settings and tensors: names, dtypes, shapes, bytes."""
    found = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for key in sorted(tensors):
        value = tensors[key].detach().cpu().contiguous()
        found.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
        found.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def sealed(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """A header with the checksum of all of it and of the tensors."""
    return {**header, "sha256": digest([dict(header)], tensors)}


def check_sealed(path: Path, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Find out whether a file is as it was sealed.

    Raises:
        RL2Error: If header or tensors are others.

    """
    bare = {key: value for key, value in header.items() if key != "sha256"}
    if sealed(bare, tensors)["sha256"] != header.get("sha256"):
        raise RL2Error(f"{path} was altered after it was written: its checksum does not match. Get a fresh copy.")


def _refuse_non_files(path: Path, what: str, hint: str) -> None:
    if os.path.isdir(path):
        raise RL2Error(f"{path} is a folder; expected {what}. {hint}")
    if not os.path.isfile(path):
        raise RL2Error(f"There is no file {path}; expected {what}. Check the path. {hint}")
    try:
        with path.open("rb") as file:
            start = file.read(64)
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise RL2Error(f"{path} cannot be read: {error.strerror}.") from error
    if size > MAX_BYTES:
        raise RL2Error(f"{path} has {size:,} bytes; {what} never have more than {MAX_BYTES:,}. {hint}")
    if is_web_page(start):
        raise RL2Error(f"{path} is a web page, perhaps the error of a server, and not {what}. Download it again.")
    if start.startswith(b"version https://git-lfs"):
        raise RL2Error(f"{path} is a pointer of Git LFS to {what}, and not the file itself: run 'git lfs pull'.")
    # A safetensors file starts with the length of its JSON, and 640 is b"\x80\x02".
    if start.startswith((b"\x80\x02", b"PK\x03\x04")) and start[8:9] != b"{":
        raise RL2Error(f"{path} is a pickle, which can run code when it is read. Expected {what}. {hint}")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text[:20]} is no finite number")
    return value


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
