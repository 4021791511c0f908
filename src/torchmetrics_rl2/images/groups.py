"""Which slide, patient or source image each file belongs to."""

import csv
import os
from collections.abc import Sequence
from pathlib import Path

from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.images.find import same_name
from torchmetrics_rl2.images.packed import column_of, folder_of

__all__ = ["groups_of", "labels_of", "read_column"]

COLUMN = "column:"


def groups_of(how: str | Path, paths: Sequence[Path], base: Path) -> dict[Path, str]:
    """Slide, patient or source image of each image.

    Args:
        how: ``parent`` for the folder an image is in, ``file`` for the file itself, whose tiles stay together, both
            named as seen from the current folder; or a CSV, see :func:`read_column`. A folder inside of tar files is
            one folder, in whichever of the tar files beside each other; an image in none is in the tar file. Or
            ``column:slide``, the column ``slide`` of Parquet files and data sets.
        paths: Images that need a group.
        base: What relative paths in a CSV are relative to.

    Raises:
        RL2Error: If there is no such CSV, or it lacks a column or an image.

    """
    if (column := _column(how)) is not None:
        return column_of(column, paths)
    if how not in ("parent", "file"):
        return read_column(Path(how), "group", paths, base)
    names = {path: folder_of(path) if how == "parent" else path for path in paths}
    texts = {name: os.path.relpath(name) for name in set(names.values())}
    return {path: texts[name] for path, name in names.items()}


def labels_of(how: str | Path, paths: Sequence[Path], base: Path, column: str) -> dict[Path, str]:
    """Kind or class of each image.

    Args:
        how: ``parent`` for the name of the folder an image is in, wherever that is; a link is in the folder it
            lies in; or a CSV, see :func:`read_column`; or ``column:kind``, a column of Parquet files and data sets.
        paths: Images that need a label.
        base: What relative paths in a CSV are relative to.
        column: The column of the CSV, ``"kind"`` or ``"class"``.

    Raises:
        RL2Error: If there is no such CSV, or it lacks a column or an image.

    """
    if (of_table := _column(how)) is not None:
        return column_of(of_table, paths)
    if how == "parent":
        return {path: Path(os.path.abspath(path)).parent.name for path in paths}  # noqa: PTH100
    return read_column(Path(how), column, paths, base)


def _column(how: str | Path) -> str | None:
    """The column of a table that is asked for."""
    return how.removeprefix(COLUMN) if isinstance(how, str) and how.startswith(COLUMN) else None


def read_column(table: Path, column: str, paths: Sequence[Path], base: Path) -> dict[Path, str]:
    """A text for each image, from a CSV with the columns ``path`` and another.

    Args:
        table: The CSV.
        column: The other column.
        paths: Images that need a text.
        base: What relative paths in the table are relative to.

    Raises:
        RL2Error: If the table lacks a column or an image.

    """
    if not table.is_file():
        ways = "'parent', 'file'" if column == "group" else "'parent'"
        raise RL2Error(
            f"There is no table {table}. Expected {ways} or a CSV with the columns path and {column}; of Parquet files "
            "also 'column:NAME'."
        )
    found: dict[str, str] = {}
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = reader.fieldnames or ()
            if not {"path", column} <= set(columns):
                raise RL2Error(f"{table} has the columns {', '.join(columns)}; expected path and {column}.")
            for row in reader:
                path, text = same_name((base / (row["path"] or "")).resolve()), (row[column] or "").strip()
                if not row["path"] or not text or found.setdefault(path, text) != text:
                    raise RL2Error(
                        f"{table}, line {reader.line_num}: expected one path and its one {column}, got {row}."
                    )
    except RL2Error:
        raise
    except (OSError, UnicodeError, ValueError, csv.Error) as error:
        raise RL2Error(f"{table} cannot be read as a CSV in UTF-8: {error}.") from error
    names = {path: same_name(path.resolve()) for path in paths}
    missing = [path for path, name in names.items() if name not in found]
    if missing:
        raise RL2Error(
            f"{table} has no {column} for {len(missing)} of {len(paths)} images, {missing[0]} for one. "
            f"Its relative paths start at {base.resolve()}."
        )
    return {path: found[name] for path, name in names.items()}
