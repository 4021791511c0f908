"""Which slide, patient or source image each file belongs to."""

import csv
import os
from collections.abc import Sequence
from pathlib import Path

from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.images.find import same_name

__all__ = ["groups_of", "read_groups"]


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
    groups: dict[str, str] = {}
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = reader.fieldnames or ()
            if not {"path", "group"} <= set(columns):
                raise RL2Error(f"{table} has the columns {', '.join(columns)}; expected path and group.")
            for row in reader:
                path, group = same_name((base / (row["path"] or "")).resolve()), row["group"]
                if not row["path"] or not group or groups.setdefault(path, group) != group:
                    raise RL2Error(f"{table}, line {reader.line_num}: expected one path and its one group, got {row}.")
    except RL2Error:
        raise
    except (OSError, UnicodeError, ValueError, csv.Error) as error:
        raise RL2Error(f"{table} cannot be read as a CSV in UTF-8: {error}.") from error
    names = {path: same_name(path.resolve()) for path in paths}
    missing = [path for path, name in names.items() if name not in groups]
    if missing:
        raise RL2Error(
            f"{table} has no group for {len(missing)} of {len(paths)} images, {missing[0]} for one. "
            f"Its relative paths start at {base.resolve()}."
        )
    return {path: groups[name] for path, name in names.items()}
