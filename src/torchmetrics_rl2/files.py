"""Files: whether they can be written, their checksums, and locks."""

import errno
import hashlib
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock

from torchmetrics_rl2.errors import RL2Error

__all__ = [
    "CHUNK",
    "MAX_BYTES",
    "check_folder",
    "check_writable",
    "is_web_page",
    "locked",
    "new_file_beside",
    "sha256_of",
]

CHUNK = 2**18
MAX_BYTES = 2**31
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL)


def check_writable(path: Path) -> None:
    """Find out before long work whether its result can be written.

    Raises:
        RL2Error: If it cannot, or there is such a file already.

    """
    if path.suffix != ".safetensors":
        raise RL2Error(f"The output is a .safetensors file, but got {path}.")
    if os.path.lexists(path):
        raise RL2Error(f"{path} exists. Choose another name, or remove it first.")
    new_file_beside(path).unlink()


def check_folder(path: Path) -> None:
    """Find out before long work whether the folder of a file to write takes it.

    Raises:
        RL2Error: If it does not.

    """
    folder = path.absolute().parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise RL2Error(f"{path} cannot be written: the folder {folder} does not exist or is not writable.")


def new_file_beside(path: Path) -> Path:
    """An empty file of a new name in the same folder.

    Raises:
        RL2Error: If the folder takes none.

    """
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


def is_web_page(start: bytes) -> bool:
    """Whether a file that begins so is HTML or XML, as the errors of servers are."""
    return start.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml"))


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
