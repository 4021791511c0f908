"""Tar files of images, such as the shards of WebDataset: listed by one pass over their headers, read at any place."""

import os
import tarfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import get_ident
from typing import BinaryIO

from torchmetrics_rl2.errors import RL2Error

__all__ = ["Signature", "TarShard", "check_unchanged", "inside", "signature_of"]

BLOCK, CHUNK = 512, 2**20
OPEN = 8
COMPRESSED_TAR = (
    "{} is a compressed tar file, which can be read from its beginning only. Decompress it first; images are "
    "compressed already, so it grows by little."
)

Signature = tuple[int, int, int]


@dataclass(frozen=True)
class TarShard:
    """Where the files of a tar file are.

    Args:
        path: The tar file.
        signature: Of the file when it was listed.
        members: First byte and size of each file, in their order.
        links: Members without bytes of their own.
        damage: Why a member cannot be read: all that lies behind it either.

    """

    path: str
    signature: Signature
    members: Mapping[str, tuple[int, int]]
    links: tuple[str, ...]
    damage: Mapping[str, str]

    @classmethod
    def scan(cls, path: str) -> "TarShard":
        """List a tar file.

        Raises:
            RL2Error: If it is none, is compressed, or has two files of one name.

        """
        members: dict[str, tuple[int, int]] = {}
        links: list[str] = []
        signature, end = signature_of(path), ""
        try:
            with Path(path).open("rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
                try:
                    while (info := tar.next()) is not None:
                        tar.members.clear()  # type: ignore[attr-defined]  # which would keep 1 kB of each
                        name = inside(info.name)
                        if info.isdir() or not name:
                            continue
                        if not info.isreg() or info.sparse is not None:
                            links.append(name)
                        elif name in members:
                            raise RL2Error(
                                f"{path} holds two files {name}, and unpacked one would replace the other. Write it "
                                "anew, with one file of a name."
                            )
                        else:
                            members[name] = (info.offset_data, info.size)
                except tarfile.ReadError as error:
                    end = str(error)
                damage = _damage(path, file, tar.offset, members, end)
        except (OSError, tarfile.TarError) as error:
            if _is_compressed(path):
                raise RL2Error(COMPRESSED_TAR.format(path)) from error
            reason = getattr(error, "strerror", None) or error
            raise RL2Error(f"{path} cannot be read as a tar file: {reason}.") from error
        return cls(path, signature, members | dict.fromkeys(damage, (0, 0)), tuple(links), damage)

    def read(self, name: str) -> bytes:
        """Bytes of a file.

        Raises:
            RL2Error: If they are not there, or the tar file is not what was listed.

        """
        if name in self.damage:
            raise RL2Error(self.damage[name])
        if name not in self.members:
            raise RL2Error(f"There is no file {name} in {self.path}.")
        start, size = self.members[name]
        check_unchanged(self.path, self.signature)
        try:
            file = _opened(self.path, self.signature, os.getpid(), get_ident()).file
            file.seek(start)
            return file.read(size)
        except OSError as error:
            raise RL2Error(f"{self.path}/{name} cannot be read: {error.strerror}.") from error


def _is_compressed(path: str) -> bool:
    """Whether it begins as gzip, bzip2, xz and zstd do."""
    with suppress(OSError), Path(path).open("rb") as file:
        return file.read(4).startswith((b"\x1f\x8b", b"BZh", b"\xfd7zX", b"\x28\xb5\x2f\xfd"))
    return False


def inside(name: str) -> str:
    """A name as a path below the file that holds it."""
    return "/".join(part for part in name.replace("\\", "/").split("/") if part not in ("", ".", ".."))


def signature_of(path: str) -> Signature:
    """What changes when a file does.

    Raises:
        RL2Error: If it is not there.

    """
    try:
        found = Path(path).stat()
    except OSError as error:
        raise RL2Error(f"{path} cannot be read: {error.strerror}.") from error
    return found.st_size, found.st_mtime_ns, found.st_ino


def check_unchanged(path: str, signature: Signature) -> None:
    """Refuse a file that is not what it was when it was listed.

    Raises:
        RL2Error: If it has changed, or is gone.

    """
    if signature_of(path) != signature:
        raise RL2Error(f"{path} has changed since it was listed. Start again when it is complete.")


class _Handle:
    """A file that is open until nobody needs it."""

    def __init__(self, path: str) -> None:
        self.file = Path(path).open("rb")  # noqa: SIM115

    def __del__(self) -> None:
        if hasattr(self, "file"):
            self.file.close()


@lru_cache(OPEN)
def _opened(path: str, _signature: Signature, _process: int, _thread: int) -> _Handle:
    """Forked processes would share the place where a file is read."""
    return _Handle(path)


def _damage(path: str, file: BinaryIO, offset: int, members: dict[str, tuple[int, int]], end: str) -> dict[str, str]:
    """The member where a tar file breaks off, or what follows the last one, with a sentence."""
    total = os.fstat(file.fileno()).st_size
    last, (start, size) = next(reversed(members.items())) if members else ("", (0, 0))
    if start + size > total:
        return {
            last: f"{path} is cut off within {last}, which ends at byte {start + size:,} of a file of {total:,}; all "
            "that follows is missing. Copy or write the file again."
        }
    file.seek(min(offset, total))
    rest = file.read(BLOCK)
    while rest and not rest.strip(b"\0"):
        offset, rest = offset + len(rest), file.read(CHUNK)
    if not rest and not end:
        return {}
    behind = f"behind {last}" if last else "from its beginning on"
    return {
        f"from byte {offset} on": f"{path} is damaged {behind}, at byte {offset:,} of {total:,}, or is several tar "
        "files in one: what follows cannot be read. Copy or write the file again."
    }
