"""Which weights exist, and how a name becomes a verified file."""

import difflib
import hashlib
import json
import os
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.weights.file import Weights, read_weights

__all__ = ["CatalogEntry", "list_weights", "load_weights"]

BUNDLED = Path(__file__).with_name("bundled")


@dataclass(frozen=True)
class CatalogEntry:
    """Weights that can be asked for by name.

    Args:
        name: Name with version, such as ``lung-colon@1``.
        file: File name.
        sha256: Checksum of the whole file.
        bytes: Its size.
        summary: One line.
        licence: Terms of use.

    """

    name: str
    file: str
    sha256: str
    bytes: int
    summary: str
    licence: str


@cache
def _catalog() -> dict[str, CatalogEntry]:
    rows = json.loads((BUNDLED / "catalog.json").read_text())
    return {row["name"]: CatalogEntry(**row) for row in rows}


def list_weights() -> list[CatalogEntry]:
    """Weights that can be asked for by name, newest version last.

    Example:
        >>> from torchmetrics_rl2 import list_weights
        >>> [entry.name for entry in list_weights()]
        ['lung-colon@1', 'lung-colon@2']

    """
    return list(_catalog().values())


def load_weights(name_or_path: str | Path) -> Weights:
    """Weights by name or from a file, checked before use.

    Args:
        name_or_path: ``name@version``, a bare name, which stands for its newest version, or the path of a file.

    Raises:
        RL2Error: If nothing has that name, or the file is not what it should be.

    """
    text = os.fspath(name_or_path)
    entry = find_entry(name_or_path)
    if entry is not None:
        path = BUNDLED / entry.file
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != entry.sha256:
            raise RL2Error(f"The file of {entry.name}, {path}, is missing or altered: install torchmetrics-rl2 again.")
        return replace(read_weights(path), name=entry.name)
    looks_like_a_path = isinstance(name_or_path, Path) or text.endswith(".safetensors") or os.sep in text
    if looks_like_a_path or os.path.isfile(text):
        return read_weights(text)
    catalog = _catalog()
    near = difflib.get_close_matches(text, [*catalog, *dict.fromkeys(map(_bare, catalog))])
    hint = f"Did you mean {' or '.join(near)}?" if near else f"Known are {', '.join(catalog)}."
    raise RL2Error(f"There are no weights named {text!r}, and no file of that name. {hint}")


def find_entry(name_or_path: str | Path) -> CatalogEntry | None:
    """Entry of a known name, which never means a file; ``None`` for anything else."""
    versions = [entry for key, entry in _catalog().items() if name_or_path in (key, _bare(key))]
    return max(versions, key=lambda entry: int(entry.name.rpartition("@")[2]), default=None)


def _bare(name: str) -> str:
    return name.rpartition("@")[0]
