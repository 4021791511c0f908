"""Which weights exist, by name."""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.files import MAX_BYTES
from torchmetrics_rl2.rank_zero import rank_zero_warn
from torchmetrics_rl2.weights.download import SHA256, Place, hub_parts

__all__ = ["CatalogEntry", "find_entry", "list_weights", "register_weights"]

BUNDLED = Path(__file__).with_name("bundled")
GROUP = "torchmetrics_rl2.weights"
NAME = re.compile(r"(?P<bare>[A-Za-z0-9][A-Za-z0-9_-]*(/[A-Za-z0-9][A-Za-z0-9_-]*)?)(@(?P<version>[1-9][0-9]{0,5}))?")


@dataclass(frozen=True)
class CatalogEntry:
    """Weights that can be asked for by name.

    Args:
        name: Name with version, such as ``histology@2`` or ``acme/breast-40x@3``.
        where: A path, an ``https://`` URL, or ``hf://org/repo@revision/file.safetensors``.
        sha256: Checksum of the whole file, 64 hexadecimal digits.
        bytes: Its exact size, which a download is held to.
        summary: One line.
        license: Terms of use.
        tissue: What the patches show.
        px: Side of the patches it was made for, in pixels; ``None`` if any.
        mpp: Their resolution in um/px; ``None`` if unknown.

    Raises:
        RL2Error: If one of them is not what it should be.

    """

    name: str
    where: str
    sha256: str
    bytes: int
    summary: str
    license: str
    tissue: str = ""
    px: int | None = None
    mpp: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "where", os.fspath(self.where) if isinstance(self.where, str | Path) else "")
        name = NAME.fullmatch(str(self.name))
        if name is None or name["version"] is None:
            raise RL2Error(
                f"{self.name!r} is not a valid name of weights; expected letters, digits, - and _, at most one /, and "
                "a version, such as acme/breast-40x@1."
            )
        if not SHA256.fullmatch(str(self.sha256)):
            raise RL2Error(f"{self.name} has the sha256 {self.sha256!r}; expected 64 lower-case hexadecimal digits.")
        if type(self.bytes) is not int or not 0 < self.bytes <= MAX_BYTES:
            raise RL2Error(f"{self.name} has {self.bytes!r} bytes; expected 1 to {MAX_BYTES:,}.")
        if not self.where:
            raise RL2Error(
                f"{self.name} has no location; expected a path, an https:// URL or hf://org/repo@revision/file."
            )
        if self.where.startswith("hf://"):
            hub_parts(self.where)
        if not all(isinstance(text, str) for text in (self.summary, self.license, self.tissue)):
            raise RL2Error(f"{self.name} has a summary, license or tissue that is no text.")
        if not (self.px is None or type(self.px) is int) or not (
            self.mpp is None or (isinstance(self.mpp, int | float) and 0 < self.mpp < 100)
        ):
            raise RL2Error(f"{self.name} has {self.px!r} px at {self.mpp!r} um/px; expected numbers above 0, or None.")

    @property
    def place(self) -> Place:
        """Where the file is, and what it has to be."""
        return Place(self.where, self.sha256, self.bytes, self.name)


_registered: dict[str, CatalogEntry] = {}

_packages: list[dict[str, CatalogEntry]] = []


def list_weights() -> list[CatalogEntry]:
    """Weights that can be asked for by name: those that ship, those of other packages, those registered.

    Example:
        >>> from torchmetrics_rl2 import list_weights
        >>> [entry.name for entry in list_weights()]
        ['histology@2', 'lung-colon@4', 'lung@3', 'colon@3']

    """
    return [*_bundled().values(), *_installed().values(), *_registered.values()]


def register_weights(*entries: CatalogEntry) -> None:
    """Make weights known by name for as long as the process runs.

    A package makes its weights known for good by an entry point of the group ``torchmetrics_rl2.weights``: a function
    without arguments that returns entries.

    Args:
        entries: The weights.

    Raises:
        RL2Error: If a name is taken, or another source has versions of it.

    Example:
        >>> from torchmetrics_rl2 import CatalogEntry, list_weights, register_weights
        >>> register_weights(
        ...     CatalogEntry("acme/breast@1", "https://acme.org/b1.safetensors", "0" * 64, 10**7, "H&E", "CC0-1.0")
        ... )
        >>> list_weights()[-1].name
        'acme/breast@1'

    """
    _check_new(entries, {**_bundled(), **_installed()}, _registered)
    _registered.update({entry.name: entry for entry in entries})


def find_entry(name_or_path: str | Path) -> CatalogEntry | None:
    """Entry of a known name, which never means a file; ``None`` for anything else."""
    if not isinstance(name_or_path, str) or not NAME.fullmatch(name_or_path):
        return None
    # Other packages are loaded only for names that do not ship.
    return _newest(name_or_path, _bundled()) or _newest(name_or_path, {**_installed(), **_registered})


def _newest(name: str, catalog: Mapping[str, CatalogEntry]) -> CatalogEntry | None:
    versions = [entry for key, entry in catalog.items() if name in (key, bare_name(key))]
    return max(versions, key=lambda entry: int(entry.name.rpartition("@")[2]), default=None)


@cache
def _bundled() -> dict[str, CatalogEntry]:
    rows = json.loads((BUNDLED / "catalog.json").read_text(encoding="utf-8"))
    return {row["name"]: CatalogEntry(**{**row, "where": str(BUNDLED / row["where"])}) for row in rows}


def _installed() -> dict[str, CatalogEntry]:
    """Entries of other packages, loaded once; a package that fails is warned of and left out."""
    if _packages:
        return _packages[0]
    found: dict[str, CatalogEntry] = {}
    _packages.append(found)  # a package may ask for names itself
    try:
        points = sorted(entry_points(group=GROUP), key=lambda point: (point.name, point.value))
    except Exception as error:  # of a package with damaged metadata, whichever it is
        rank_zero_warn(f"The entry points of installed packages cannot be read: {type(error).__name__}")
        return found
    for point in points:
        try:
            entries = tuple(point.load()())
            wrong = [entry for entry in entries if not isinstance(entry, CatalogEntry)]
            if wrong:
                raise RL2Error(f"it lists a {type(wrong[0]).__name__}; expected CatalogEntry")
            _check_new(entries, {**_bundled(), **_registered, **found}, {})
        except (Exception, SystemExit) as error:  # whatever another package does, the rest goes on
            package = (point.dist and point.dist.metadata["Name"]) or point.value
            said = error if isinstance(error, RL2Error | ImportError) else ""
            rank_zero_warn(f"The weights of the package {package} are left out: {type(error).__name__} {said}")
            continue
        found |= {entry.name: entry for entry in entries}
    return found


def _check_new(
    entries: tuple[CatalogEntry, ...], others: dict[str, CatalogEntry], same: dict[str, CatalogEntry]
) -> None:
    """Names are given once, and all versions of one name by one source, or a bare name would change its owner."""
    names = [entry.name for entry in entries]
    taken = [name for name in names if name in same or names.count(name) > 1]
    owned = set(map(bare_name, others))
    taken += [name for name in names if bare_name(name) in owned]
    if taken:
        raise RL2Error(
            f"The name {taken[0]} is taken; choose another, such as yourlab/{bare_name(taken[0]).split('/')[-1]}@1."
        )


def bare_name(name: str) -> str:
    return name.rpartition("@")[0]
