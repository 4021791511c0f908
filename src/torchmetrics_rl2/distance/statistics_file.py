"""Statistics as a file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from torchmetrics_rl2._version import __version__
from torchmetrics_rl2.distance.kinds import Kinds
from torchmetrics_rl2.distance.sums import tensors_to_sums
from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.storage import damaged, digest, read_file, write_file

__all__ = ["read_fields", "write_fields"]

FORMAT_VERSION = 1
HEADER = "torchmetrics-rl2-statistics"
TEXTS, LISTS = ("weights", "weights_id", "source"), ("groups", "unreadable", "left_out", "kinds")


def write_fields(path: Path, described: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write what is known of statistics, and their sums.

    Args:
        path: Where to, ``.safetensors``.
        described: The rest of the fields, as JSON takes them.
        tensors: See ``sums_to_tensors``.

    """
    header = {"written_by": __version__, "format_version": FORMAT_VERSION}
    header |= {key: described[key] for key in (*TEXTS, *LISTS, "settings", "duplicates")}
    header["sha256"] = digest([header], tensors)
    write_file(path, HEADER, header, tensors, read_fields)


def read_fields(path: Path) -> dict[str, Any]:
    """What :func:`write_fields` wrote, as the arguments of statistics, checked.

    Raises:
        RL2Error: If there is no such file, or it is no complete, unaltered file of a known format version.

    """
    hint = "Make them with 'rl2 stats IMAGES -o FILE'."
    header, tensors = read_file(path, HEADER, FORMAT_VERSION, "RL2 statistics", hint)
    expected = header.pop("sha256", None)
    if digest([header], tensors) != expected:
        raise RL2Error(f"{path} was altered after it was written: its checksum does not match. Get a fresh copy.")
    with damaged(path):
        names = tuple(map(str, header["kinds"]))
        kinds = _kinds(path, names, tensors)
    sums, groups, repeated = tensors_to_sums(path, tensors, len(names))
    with damaged(path):
        found: dict[str, Any] = {key: header[key] for key in TEXTS}
        if not all(isinstance(value, str) for value in found.values()):
            raise TypeError("weights, weights_id and source are texts")
        names, unreadable, left_out, _ = (tuple(map(str, header[key])) for key in LISTS)
        found |= {"group_names": names, "unreadable": unreadable, "left_out": left_out}
        found["duplicates"] = tuple((str(copy), str(first)) for copy, first in header["duplicates"])
        found["settings"] = dict(header["settings"])
        sizes = found["settings"].get("px", [])
        if not all(isinstance(side, int) for height, width in sizes for side in (height, width)):
            raise TypeError("px are pairs of numbers")
    if len(set(names)) != (0 if groups is None else len(groups.count)):
        raise RL2Error(f"{path} has a damaged header: its groups have not one name each.")
    return found | {"sums": sums, "groups": groups, "repeated": repeated, "kinds": kinds}


def _kinds(path: Path, names: tuple[str, ...], tensors: dict[str, Tensor]) -> Kinds | None:
    """The kinds of a file, whose tensors are taken out."""
    if not names:
        return None
    found = means, log_shares, leaks = tuple(tensors.pop(f"kind_{name}") for name in ("means", "log_shares", "leaks"))
    shapes = [tuple(value.shape) for value in found]
    fits = shapes == [(len(names), len(tensors["sum"])), (len(names),), (2,)]
    sound = all(value.dtype == torch.float32 and value.isfinite().all() for value in found)
    if not fits or not sound or not len(set(names)) == len(names) >= 2 or not (means != means[0]).any():
        raise RL2Error(
            f"{path} has malformed kinds: {len(names)} names, tensors of shapes {shapes}; expected at least 2, and "
            "for each a name of its own and a finite mean and share in float32, not all means the same."
        )
    return Kinds(means, log_shares, names, (float(leaks[0]), float(leaks[1])))
