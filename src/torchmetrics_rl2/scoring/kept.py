"""The folder in which a run keeps what it has computed, so that it can go on after whatever ended it."""

import json
import os
import socket
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from torchmetrics_rl2._version import __version__
from torchmetrics_rl2.encoder.encoded import Encoded
from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.storage import damaged, digest, read_file, write_file

__all__ = ["Kept"]

RECORD, STOPPED = "run.json", "stopped"
ENTRY, FORMAT_VERSION = "rl2_encoded", 2
HINT = "It belongs to a folder of --resume."
KEY_BYTES = 16
STALE = 3600


class Kept:
    """Chunks of encoded images as files of a folder, each whole or not there.

    Args:
        folder: Of a run.
        lasting: Whether it stays when the run has ended.

    """

    def __init__(self, folder: Path, lasting: bool = True) -> None:
        self.folder, self.lasting = folder, lasting

    @classmethod
    def open(cls, folder: Path, description: Mapping[str, str]) -> "Kept":
        """The folder of a new run, or of an interrupted one of the same description.

        Args:
            folder: May be missing, or empty.
            description: What a run has to have in common with the one that it goes on with.

        Raises:
            RL2Error: If it is of another run or of none, or nothing can be written there.

        """
        record = folder / RECORD
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not record.exists():
                if any(entry.name != STOPPED and not entry.name.endswith(".part") for entry in folder.iterdir()):
                    raise RL2Error(f"{folder} holds other files, and no run to go on with. Give --resume a new folder.")
                part = folder / f"{RECORD}.{os.getpid()}.part"
                part.write_text(json.dumps(description, indent=1), encoding="utf-8")
                part.replace(record)
            before = json.loads(record.read_text(encoding="utf-8"))
            changed = [
                f"{key} (then {before.get(key, 'none')}, now {description.get(key, 'none')})"
                for key in {**before, **description}
                if before.get(key) != description.get(key)
            ]
            cls(folder)._clean()
        except OSError as error:
            raise RL2Error(
                f"The run cannot be kept in {folder}: {error.strerror}. --resume takes a folder that is writable."
            ) from error
        except (ValueError, AttributeError, TypeError) as error:
            if isinstance(error, RL2Error):
                raise
            raise RL2Error(f"{record} is damaged. Remove the folder, or give --resume a new one.") from error
        if changed:
            raise RL2Error(
                f"{folder} is of a run with other {', '.join(changed)}. Go on with the same, or give --resume a new "
                "folder."
            )
        return cls(folder)

    def check_seen(self) -> None:
        """Make sure that this process sees the folder that another has opened.

        Raises:
            RL2Error: If it does not.

        """
        if not (self.folder / RECORD).is_file():
            raise RL2Error(
                f"The folder {self.folder} is not seen on {socket.gethostname()}. Give --resume a folder that all "
                "machines of the run share."
            )

    @contextmanager
    def told(self) -> Iterator[None]:
        """Whoever fails is told that what was computed before is kept."""
        try:
            yield
        except RL2Error as error:
            if not self.lasting:
                raise
            raise RL2Error(
                f"{error} What was computed before is kept in {self.folder}; the same command goes on from there."
            ) from error

    def names(self) -> set[str]:
        """Of the chunks that are kept; without a look for each, whose outcome network file systems remember."""
        return {entry.stem for entry in self.folder.iterdir() if entry.suffix == ".safetensors"}

    def save(self, name: str, images: Encoded, paths: Sequence[Path]) -> None:
        """Keep a chunk.

        Args:
            name: Its name.
            images: Of its files.
            paths: Its files.

        Raises:
            RL2Error: If it cannot be written.

        """
        index = {path: i for i, path in enumerate(paths)}
        kinds = list(dict.fromkeys(images.formats))
        tensors = {
            "latents": images.latents,
            "appearance": images.appearance,
            "thumbnails": images.thumbnails,
            "file": torch.tensor([index[path] for path in images.paths], dtype=torch.int32),
            "format": torch.tensor([kinds.index(kind) for kind in images.formats], dtype=torch.uint8),
            "px": torch.tensor(images.px, dtype=torch.int32).reshape(-1, 2),
            "key": torch.tensor([_bytes_of(key) for key in images.keys], dtype=torch.uint8).reshape(-1, KEY_BYTES),
            "blank": torch.tensor([key is None for key in images.keys], dtype=torch.bool),
        }
        tensors |= {} if images.soft is None else {"soft": images.soft}
        listed = {"formats": kinds, "unreadable": list(images.unreadable)}
        header = {"format_version": FORMAT_VERSION, "written_by": __version__, **listed}
        header["digest"] = digest([listed], tensors)
        write_file(self._path(name), ENTRY, header, tensors, _read)

    def load(self, name: str, paths: Sequence[Path]) -> Encoded | None:
        """A chunk; ``None``, with a warning, if its file is damaged.

        Args:
            name: Its name.
            paths: Its files.

        """
        try:
            header, tensors = _read(self._path(name))
            with damaged(self._path(name)):
                keys = [bytes(row).hex() for row in tensors["key"].numpy()]
                return Encoded(
                    paths=[paths[i] for i in tensors["file"].tolist()],
                    latents=tensors["latents"],
                    keys=[None if blank else key for blank, key in zip(tensors["blank"].tolist(), keys, strict=True)],
                    formats=[header["formats"][i] for i in tensors["format"].tolist()],
                    px=[(height, width) for height, width in tensors["px"].tolist()],
                    appearance=tensors["appearance"],
                    thumbnails=tensors["thumbnails"],
                    soft=tensors.get("soft"),
                    unreadable=header["unreadable"],
                )
        except (RL2Error, IndexError) as error:
            warnings.warn(f"{error} Its {len(paths)} files are read again.", stacklevel=2)
            return None

    @property
    def stopped(self) -> bool:
        """Whether another process of this run has failed."""
        return (self.folder / STOPPED).exists()

    def stop(self) -> None:
        """Let the other processes of this run know that one has failed."""
        with suppress(OSError):  # such as a full disk; they then end with their share
            (self.folder / STOPPED).touch()

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"

    def _clean(self) -> None:
        """Remove what a killed run has left half written, but nothing that another may be writing."""
        (self.folder / STOPPED).unlink(missing_ok=True)
        for part in self.folder.glob("*.part"):
            with suppress(OSError):
                if time.time() - part.stat().st_mtime > STALE:
                    part.unlink()


def _read(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    header, tensors = read_file(path, ENTRY, FORMAT_VERSION, HINT)
    with damaged(path):
        listed = {name: header[name] for name in ("formats", "unreadable")}
        if header["digest"] != digest([listed], tensors):
            raise ValueError("the checksum is another one")
    return header, tensors


def _bytes_of(key: str | None) -> list[int]:
    return list(bytes(KEY_BYTES) if key is None else bytes.fromhex(key))
