"""Statistics of several parts, added up."""

from collections.abc import Sequence
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any

from torchmetrics_rl2.distance.sums import add_rows, rows_of, stack
from torchmetrics_rl2.distance.text import identity_text
from torchmetrics_rl2.errors import RL2Error

if TYPE_CHECKING:
    from torchmetrics_rl2.distance.statistics import Statistics

__all__ = ["UNNAMED", "check_same_weights", "merged_fields"]

UNNAMED = "unnamed"


def merged_fields(parts: "Sequence[Statistics]") -> dict[str, Any]:
    """Fields of the statistics of all parts but their classes; groups of one name become one group.

    Raises:
        RL2Error: If there are no parts, they are of different weights, or some have groups or classes and some not.

    """
    if not parts:
        raise RL2Error("There are no statistics to merge.")
    first = parts[0]
    for part in parts[1:]:
        check_same_weights(first, part)
        _check_same_names("groups", first.groups is not None, part.groups is not None, first, part)
        _check_same_names("classes", bool(first.classes), bool(part.classes), first, part)
    groups, names = None, tuple(name for part in parts for name in part.group_names)
    if first.groups is not None:
        names, rows = rows_of(names)
        groups = add_rows(stack([part.groups for part in parts if part.groups is not None]), rows, len(names))
    sources = dict.fromkeys(source for part in parts for source in part.source.split(", "))
    agreed = {key: value for key, value in first.settings.items() if all(p.settings.get(key) == value for p in parts)}
    sizes = {tuple(px) for part in parts for px in part.settings.get("px", ())}
    agreed |= {"px": [list(px) for px in sorted(sizes)]} if sizes else {}
    copies = [part.repeated for part in parts if part.repeated is not None]
    return {
        "sums": reduce(add, (part.sums for part in parts)),
        "groups": groups,
        "group_names": names,
        "weights": first.weights,
        "weights_id": first.weights_id,
        "source": ", ".join(sources),
        "settings": agreed,
        "unreadable": tuple(reason for part in parts for reason in part.unreadable),
        "repeated": stack(copies) if copies else None,
        "duplicates": tuple(pair for part in parts for pair in part.duplicates),
        "left_out": tuple(name for part in parts for name in part.left_out),
        "kinds": first.kinds,
    }


def check_same_weights(one: "Statistics", other: "Statistics") -> None:
    """Refuse to mix latents of different weights: their coordinates mean different things."""
    # A network without an identity is known by its class alone, if by that.
    networks = {side.weights_id or side.weights for side in (one, other)}
    is_other = len(networks) > 1 and not (one.weights_id == other.weights_id and UNNAMED in networks)
    if is_other or one.sums.sum.shape != other.sums.sum.shape:
        sides = (
            f"{side.weights} ({identity_text(side.weights_id)}, {len(side.sums.sum)} numbers)" for side in (one, other)
        )
        raise RL2Error(
            f"The statistics of {one.source} and of {other.source} are latents of different weights, "
            f"{' and '.join(sides)}. Make both with the same weights; on the command line, with --weights. A network "
            "of your own is known by its weights_id, or else by the name of its class."
        )
    if len(one.kinds or ()) != len(other.kinds or ()):
        sides = (f"{len(side.kinds or ()) or 'no'} kinds of tissue in {side.source}" for side in (one, other))
        raise RL2Error(f"One encoder, but {' and '.join(sides)}. Make the statistics of both sides again.")


def _check_same_names(name: str, one_has: bool, other_has: bool, one: "Statistics", other: "Statistics") -> None:
    if one_has != other_has:
        raise RL2Error(
            f"Of the statistics of {one.source} and {other.source} one has {name} and the other has none. "
            f"Make both with {name}, or both without."
        )
