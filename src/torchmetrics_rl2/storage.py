"""Safetensors files that appear whole or not at all, with JSON in their header; checksums."""

import errno
import hashlib
import json
import math
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from torchmetrics_rl2._version import __version__
from torchmetrics_rl2.errors import RL2Error

__all__ = [
    "MAX_BYTES",
    "check_folder",
    "check_writable",
    "damaged",
    "digest",
    "is_web_page",
    "locked",
    "read_file",
    "sha256_of",
    "write_file",
]

MAX_BYTES = 2**31
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL)


def read_file(
    path: Path, entry: str, format_version: int, what: str, hint: str
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Header and tensors of a file.

    Args:
        path: The file.
        entry: Key of its JSON in the metadata of safetensors.
        format_version: What its header has to say.
        what: What it should be, for the error.
        hint: What to do if it is something else.

    Raises:
        RL2Error: If it is no such file.

    """
    _refuse_non_files(path, what, hint)
    try:
        with torch.device("cpu"), safe_open(path, "pt") as file:
            # Before anything is read that only a file of ours should make us read.
            header = _header(path, file.metadata() or {}, entry, format_version, what, hint)
            return header, {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise RL2Error(
            f"{path} is not a readable safetensors file ({error}). It may be cut off: copy or download it again."
        ) from error


def _header(
    path: Path, metadata: dict[str, str], entry: str, format_version: int, what: str, hint: str
) -> dict[str, Any]:
    if entry not in metadata:
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
            "'pip install -U torchmetrics-rl2'; files from before 0.1.0 have to be made again."
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
    temporary = _new_file_beside(target)
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


def check_writable(path: Path) -> None:
    """Find out before long work whether its result can be written.

    Raises:
        RL2Error: If it cannot, or there is such a file already.

    """
    if path.suffix != ".safetensors":
        raise RL2Error(f"The output is a .safetensors file, but got {path}.")
    if os.path.lexists(path):
        raise RL2Error(f"{path} exists. Choose another name, or remove it first.")
    _new_file_beside(path).unlink()


def check_folder(path: Path) -> None:
    """Find out before long work whether the folder of a file to write takes it.

    Raises:
        RL2Error: If it does not.

    """
    folder = path.absolute().parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise RL2Error(f"{path} cannot be written: the folder {folder} does not exist or is not writable.")


def _new_file_beside(path: Path) -> Path:
    try:
        handle, name = tempfile.mkstemp(dir=path.absolute().parent, prefix=path.name[:40], suffix=".part")
    except FileNotFoundError as error:
        raise RL2Error(
            f"{path} cannot be written: {error.strerror}, the folder {path.absolute().parent} does not exist."
        ) from error
    except OSError as error:
        raise RL2Error(f"{path} cannot be written: {error.strerror}.") from error
    os.close(handle)
    return Path(name)


def digest(settings: list[Any], tensors: Mapping[str, Tensor]) -> str:
    """sha256 over settings and tensors: names, dtypes, shapes, bytes."""
    found = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for key in sorted(tensors):
        value = tensors[key].detach().cpu().contiguous()
        found.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
        found.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


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


def is_web_page(start: bytes) -> bool:
    """Whether a file that begins so is HTML or XML, as the errors of servers are."""
    return start.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml"))


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


@contextmanager
def locked(path: Path, timeout: float = -1) -> Iterator[None]:
    """Hold a lock file; on a file system without locks, go on without one, and say so.

    Args:
        path: The lock file, which is removed afterwards.
        timeout: Seconds to wait for whoever holds it; below 0 for as long as it takes.

    Raises:
        Timeout: Of filelock, if somebody else holds it for longer.
        OSError: If nothing can be written there.

    """
    if not _has_locks(path):
        warnings.warn(
            f"{path.parent} is on a file system without locks. Take care that no two processes write there at once.",
            stacklevel=3,
        )
        yield
        return
    with FileLock(path, timeout=timeout):
        try:
            yield
        finally:
            with suppress(PermissionError):  # of Windows, which removes no file that is open, and then it stays
                path.unlink(missing_ok=True)


def _has_locks(path: Path) -> bool:
    try:
        import fcntl
    except ImportError:  # Windows, where every file system has some
        return True
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".lock-") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return error.errno not in NO_LOCKS
    return True


CHUNK = 2**18


def sha256_of(path: Path) -> str:
    """Checksum of a file."""
    found = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                found.update(chunk)
    except OSError as error:
        raise RL2Error(f"{path} cannot be read: {error.strerror}.") from error
    return found.hexdigest()
