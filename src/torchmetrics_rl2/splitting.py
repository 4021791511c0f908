"""Split images into those that fit a flow, stop its training, and become its reference; groups stay on one side."""

import csv
import os
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torchmetrics_rl2.errors import RL2Error

__all__ = ["Split", "groups_of", "read_groups", "split_images"]

SHARES = {"fit": 0.7, "reference": 0.2, "stop": 0.1}
LEAST = {"fit": 8, "reference": 2, "stop": 2}


@dataclass(frozen=True)
class Split:
    """Which image does what.

    Args:
        fit: Fit the flow.
        stop: Say when to stop.
        reference: Measure distances from these.

    """

    fit: Sequence[Path]
    stop: Sequence[Path]
    reference: Sequence[Path]


def groups_of(how: str | Path, paths: Sequence[Path], base: Path) -> dict[Path, str]:
    """Slide, patient or source image of each image.

    Args:
        how: ``parent`` for the folder an image is in, ``file`` for the file itself, whose tiles stay together, both
            named as seen from the current folder; or a CSV, see :func:`read_groups`.
        paths: Images that need a group.
        base: What relative paths in a CSV are relative to.

    Raises:
        RL2Error: If there is no such CSV, or it lacks a column or an image.

    """
    if how not in ("parent", "file"):
        return read_groups(Path(how), paths, base)
    names = {path: path.parent if how == "parent" else path for path in paths}
    return {path: os.path.relpath(name) for path, name in names.items()}


def read_groups(table: Path, paths: Sequence[Path], base: Path) -> dict[Path, str]:
    """Groups from a CSV with the columns ``path`` and ``group``.

    Args:
        table: The CSV.
        paths: Images that need a group.
        base: What relative paths in the table are relative to.

    Raises:
        RL2Error: If the table lacks a column or an image.

    """
    if not table.is_file():
        raise RL2Error(
            f"There is no table {table}. Expected 'parent', 'file' or a CSV with the columns path and group."
        )
    groups: dict[Path, str] = {}
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = reader.fieldnames or ()
            if not {"path", "group"} <= set(columns):
                raise RL2Error(f"{table} has the columns {', '.join(columns)}; expected path and group.")
            for row in reader:
                path, group = (base / (row["path"] or "")).resolve(), row["group"]
                if not row["path"] or not group or groups.setdefault(path, group) != group:
                    raise RL2Error(f"{table}, line {reader.line_num}: expected one path and its one group, got {row}.")
    except RL2Error:
        raise
    except (OSError, UnicodeError, ValueError, csv.Error) as error:
        raise RL2Error(f"{table} cannot be read as a CSV in UTF-8: {error}.") from error
    missing = [path for path in paths if path.resolve() not in groups]
    if missing:
        raise RL2Error(
            f"{table} has no group for {len(missing)} of {len(paths)} images, {missing[0]} for one. "
            f"Its relative paths start at {base.resolve()}."
        )
    return {path: groups[path.resolve()] for path in paths}


def split_images(paths: Sequence[Path], groups: Mapping[Path, str] | None = None, seed: int = 0) -> Split:
    """Split by group, about 70 % to fit, 10 % to stop, 20 % as reference.

    Args:
        paths: All images.
        groups: Slide, patient or source image of each; ``None`` makes every image its own group.
        seed: Seed of the shuffle.

    Raises:
        RL2Error: If there are too few images or groups.

    """
    members: dict[str, list[Path]] = defaultdict(list)
    for path in paths:
        members[groups[path] if groups else str(path)].append(path)
    if len(members) < len(SHARES):
        raise RL2Error(
            f"Fitting, stopping and reference need images of different groups, but there are {len(members)} group(s); "
            "expected at least 3. By parent, every folder that holds patches is a group."
        )
    names = sorted(members)
    random.Random(seed).shuffle(names)
    names.sort(key=lambda name: -len(members[name]))
    sides: dict[str, list[Path]] = {side: [] for side in SHARES}
    for i, name in enumerate(names):
        empty = [side for side in SHARES if not sides[side]]
        open_sides = empty if len(names) - i <= len(empty) else list(SHARES)
        side = max(open_sides, key=lambda side: SHARES[side] * len(paths) - len(sides[side]))
        sides[side] += members[name]
    for side, least in LEAST.items():
        if len(sides[side]) < least:
            raise RL2Error(
                f"{len(paths)} images in {len(members)} groups leave {len(sides[side])} to {side}; expected at least "
                f"{least}. Give more images, or more groups."
            )
    return Split(**{side: sorted(chosen) for side, chosen in sides.items()})
