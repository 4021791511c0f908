"""Statistics as a file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torchmetrics_rl2._version import __version__
from torchmetrics_rl2.distance.kinds import Kinds
from torchmetrics_rl2.distance.sums import sums_to_tensors, tensors_to_sums
from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.functional import LatentSums
from torchmetrics_rl2.storage import check_sealed, damaged, read_file, sealed, write_file

if TYPE_CHECKING:
    from torchmetrics_rl2.distance.statistics import Statistics

__all__ = ["read_fields", "write_statistics"]

FORMAT_VERSION = 2
HEADER = "torchmetrics-rl2-statistics"
TEXTS, LISTS = ("weights", "weights_id", "source"), ("unreadable", "left_out")
SIZES = ("count", "square_sum")


def write_statistics(path: Path, statistics: "Statistics") -> None:
    """Write statistics, and those of their classes.

    Args:
        path: Where to, ``.safetensors``.
        statistics: With a ``weights_id``.

    Raises:
        RL2Error: If they have no images, or NaN among them.

    """
    tensors = sums_to_tensors(statistics.sums, statistics.groups, statistics.repeated)
    if statistics.kinds is not None:
        tensors |= statistics.kinds.to_tensors()
    for number, one in enumerate(statistics.classes.values()):
        own = sums_to_tensors(one.sums, one.groups, one.repeated)
        tensors |= {f"{_prefix(number)}{key}": value for key, value in own.items()}
    if not len(statistics) or not all(value.isfinite().all() for value in tensors.values()):
        raise RL2Error(
            f"The statistics of {statistics.source} cannot be saved: they have no images, or NaN among them."
        )
    header = {"written_by": __version__, "format_version": FORMAT_VERSION} | _named(statistics)
    header |= {key: getattr(statistics, key) for key in TEXTS}
    header |= {key: list(getattr(statistics, key)) for key in LISTS} | {"settings": dict(statistics.settings)}
    header["kinds"] = [] if statistics.kinds is None else list(statistics.kinds.names)
    if statistics.classes:
        header["classes"] = [{"name": name} | _named(one) for name, one in statistics.classes.items()]
    write_file(path, HEADER, sealed(header, tensors), tensors, read_fields)


def read_fields(path: Path) -> dict[str, Any]:
    """What :func:`write_statistics` wrote, as the arguments of statistics, those of each class too, checked.

    Raises:
        RL2Error: If there is no such file, or it is no complete, unaltered file of a known format version.

    """
    hint = "Make them with 'rl2 stats IMAGES -o FILE'."
    header, tensors = read_file(path, HEADER, FORMAT_VERSION, hint)
    check_sealed(path, header, tensors)
    with damaged(path):
        found: dict[str, Any] = {key: header[key] for key in TEXTS}
        if not all(isinstance(value, str) for value in found.values()):
            raise TypeError("weights, weights_id and source are texts")
        found |= {key: tuple(map(str, header[key])) for key in LISTS} | {"settings": dict(header["settings"])}
        sizes = found["settings"].get("px", [])
        if not all(isinstance(side, int) for height, width in sizes for side in (height, width)):
            raise TypeError("px are pairs of numbers")
        kinds = _kinds(path, tuple(map(str, header["kinds"])), tensors)
        common = {"weights": found["weights"], "weights_id": found["weights_id"], "kinds": kinds}
        classes = _classes(path, header.get("classes", []), tensors, common)
        found |= common | _sums(path, header, tensors, kinds)
    if not _adds_up([one["sums"] for one in classes.values()], found["sums"]):
        raise RL2Error(f"{path} has malformed sums of latents: its classes do not add up to the whole.")
    return found | {"classes": classes}


def _prefix(number: int) -> str:
    """What the names of the tensors of a class begin with."""
    return f"class_{number}_"


def _named(statistics: "Statistics") -> dict[str, Any]:
    """What a file has beside the sums of the whole, and of each class."""
    return {"groups": list(statistics.group_names), "duplicates": [list(pair) for pair in statistics.duplicates]}


def _sums(path: Path, header: Mapping[str, Any], tensors: Mapping[str, Tensor], kinds: Kinds | None) -> dict[str, Any]:
    """Sums of the whole, or of a class, with what they are named by."""
    sums, groups, repeated = tensors_to_sums(path, tensors, len(kinds or ()))
    names = tuple(map(str, header["groups"]))
    if not len(names) == len(set(names)) == (0 if groups is None else len(groups.count)):
        raise RL2Error(f"{path} has a damaged header: its groups have not one name each.")
    duplicates = tuple((str(copy), str(first)) for copy, first in header["duplicates"])
    return {"sums": sums, "groups": groups, "group_names": names, "repeated": repeated, "duplicates": duplicates}


def _classes(
    path: Path, listed: Sequence[Mapping[str, Any]], tensors: dict[str, Tensor], common: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Fields of each class of a file, whose tensors are taken out."""
    found = {}
    for number, header in enumerate(listed):
        keys = [key for key in tensors if key.startswith(_prefix(number))]
        own = {key.removeprefix(_prefix(number)): tensors.pop(key) for key in keys}
        name = str(header["name"])
        found[name] = {"source": name} | dict(common) | _sums(path, header, own, common["kinds"])
    if len(found) < len(listed):
        raise RL2Error(f"{path} has a damaged header: its classes have not one name each.")
    return found


def _adds_up(classes: Sequence[LatentSums], whole: LatentSums) -> bool:
    """Whether classes, if there are any, are those of a whole; by what is not negative, so that nothing cancels."""
    if not classes:
        return True
    fits = all(one.sum.shape == whole.sum.shape for one in classes)
    pairs = ((torch.stack([getattr(one, name) for one in classes]).sum(), getattr(whole, name)) for name in SIZES)
    return fits and all(torch.allclose(added, total) for added, total in pairs)


def _kinds(path: Path, names: tuple[str, ...], tensors: dict[str, Tensor]) -> Kinds | None:
    """The kinds of a file, whose tensors are taken out."""
    if not names:
        return None
    found = tuple(tensors.pop(f"kind_{name}") for name in ("means", "log_shares", "leaks", "carried"))
    means, log_shares, leaks, carried = found
    shapes = [tuple(value.shape) for value in found]
    of_means = len(names), len(tensors["sum"])
    fits = shapes == [of_means, (len(names),), (2,), of_means]
    sound = all(value.dtype == torch.float32 and value.isfinite().all() for value in found)
    if not fits or not sound or not len(set(names)) == len(names) >= 2 or not (means != means[0]).any():
        raise RL2Error(
            f"{path} has malformed kinds: {len(names)} names, tensors of shapes {shapes}; expected at least 2, and "
            "for each a name of its own and a finite mean and share in float32, not all means the same."
        )
    return Kinds(means, log_shares, names, (float(leaks[0]), float(leaks[1])), carried)
