"""Tables as Parquet and as CSV."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torchmetrics_rl2.errors import RL2Error

__all__ = ["check_libraries", "text_of", "write_table"]

SURROGATES = re.compile("[\ud800-\udfff]")
"""How Python keeps bytes of names that are no text."""


def check_libraries() -> None:
    """Find out before long work whether its results can be written.

    Raises:
        RL2Error: If a library of the extra is missing.

    """
    try:
        import h5py  # noqa: F401
        import matplotlib  # noqa: F401
        import pyarrow  # noqa: F401
        import shapely  # noqa: F401
        import skimage  # noqa: F401
    except ImportError as error:
        raise RL2Error(f"rl2 screen needs {error.name}: pip install 'torchmetrics-rl2[slides]'.") from error


def write_table(rows: Sequence[Mapping[str, Any]], stem: Path) -> None:
    """Write rows as Parquet and as CSV.

    Args:
        rows: All with the same columns.
        stem: Where to, without an ending.

    """
    import pyarrow
    from pyarrow import csv, parquet

    table = pyarrow.Table.from_pylist([dict(row) for row in rows])
    # An empty column has no type; all that may be missing are numbers.
    types = [pyarrow.float64() if pyarrow.types.is_null(column) else column for column in table.schema.types]
    table = table.cast(pyarrow.schema(zip(table.column_names, types, strict=True)))
    parquet.write_table(table, stem.with_suffix(".parquet"))
    csv.write_csv(table, stem.with_suffix(".csv"))


def text_of(path: str | Path) -> str:
    """A path as text that can be written, whatever bytes are in it."""
    return SURROGATES.sub("\ufffd", os.fspath(path))
