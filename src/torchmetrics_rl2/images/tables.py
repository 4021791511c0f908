"""Tables with a column of images: Parquet and Arrow files, and data sets of Hugging Face."""

import bisect
import io
import os
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property, lru_cache
from itertools import accumulate
from pathlib import Path
from threading import get_ident
from typing import Any, Protocol

from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.images.formats import FORMATS, format_of
from torchmetrics_rl2.images.tar import Signature, check_unchanged, inside

__all__ = ["Rows", "Table", "bytes_of", "rows_of_file"]

BATCH, SNIFFED, OPEN = 64, 16, 4
BUFFER = 2**20


class Rows(Protocol):
    """Rows of a table."""

    types: dict[str, Any]
    count: int

    def value(self, column: str, row: int) -> Any:
        """Of a cell, as Python has it."""

    def texts(self, column: str) -> list[str | None]:
        """The ``path`` of each image of a column; none if it is not known."""

    def values(self, column: str) -> list[Any]:
        """All of a column."""


class Table:
    """Which images a table has.

    Args:
        name: What it is called.
        rows: Gives its rows, open in this process.
        column: That of the images; by default the only one, or that called ``image``.

    Raises:
        RL2Error: If there is no such column, or there are several.

    """

    def __init__(self, name: str, rows: Callable[[], Rows], column: str = "") -> None:
        self.name, self.rows = name, rows
        self.column = _chosen(name, rows(), column)

    @cached_property
    def places(self) -> Mapping[str, int]:
        """The row of each image, by its path, or by its number where paths are missing or not different."""
        rows = self.rows()
        texts = rows.texts(self.column)
        names = [inside(text or "") for text in texts]
        if not names or not all(names) or len(set(names)) < len(names):
            width = max(6, len(str(rows.count - 1)))
            names = [f"{row:0{width}}" for row in range(rows.count)]
        return {name: row for row, name in enumerate(names)}

    def read(self, name: str) -> bytes | Path:
        """Bytes of an image, or its file.

        Raises:
            RL2Error: If it has none.

        """
        if name not in self.places:
            raise RL2Error(f"There is no image {name} in {self.name}.")
        row = self.places[name]
        found = bytes_of(self.rows().value(self.column, row))
        if found is None:
            raise RL2Error(f"Row {row} of {self.name} has no image in the column {self.column}.")
        return found

    def texts(self, column: str) -> dict[str, str]:
        """What another column has for each image.

        Raises:
            RL2Error: If there is no such column, or it has nothing for an image.

        """
        rows = self.rows()
        if column not in rows.types or column == self.column:
            others = ", ".join(name for name in rows.types if name != self.column) or "none"
            raise RL2Error(f"{self.name} has no column {column} beside its images. Its other columns are {others}.")
        values = rows.values(column)
        if None in values:
            raise RL2Error(f"Row {values.index(None)} of {self.name} has nothing in the column {column}.")
        return {name: str(values[row]) for name, row in self.places.items()}


def bytes_of(value: Any) -> bytes | Path | None:
    """An image of a cell: its bytes, or its file where there are none."""
    if isinstance(value, Mapping):
        if value.get("bytes") is None and value.get("path"):
            return Path(str(value["path"]))
        value = value.get("bytes")
    return bytes(value) if isinstance(value, bytes | bytearray | memoryview) else None


def rows_of_file(path: str, signature: Signature) -> Rows:
    """Rows of a Parquet or an Arrow file, opened for this process and thread.

    Args:
        path: The file.
        signature: Of the file when it was listed.

    Raises:
        RL2Error: If pyarrow is missing, it cannot be read, or is not what was listed.

    """
    check_unchanged(path, signature)
    try:
        return _opened(path, signature, os.getpid(), get_ident())
    except ImportError as error:
        raise RL2Error(f"{path} needs {error.name}: pip install 'torchmetrics-rl2[parquet]'.") from error
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error


def unreadable(path: str, error: Exception) -> RL2Error:
    """What is said of a file that pyarrow cannot read."""
    what = "Parquet" if path.lower().endswith(".parquet") else "Arrow"
    reason = (getattr(error, "strerror", None) or str(error)).partition("\n")[0].rstrip(".")
    return RL2Error(f"{path} cannot be read as {what}: {reason}. Copy or write it again if it is cut off.")


@lru_cache(OPEN)
def _opened(path: str, _signature: Signature, _process: int, _thread: int) -> Rows:
    return _Parquet(path) if path.lower().endswith(".parquet") else _Arrow(path)


class _Parquet:
    """Rows of a Parquet file; a few are kept, so that reading on is quick, and reading back reads the row group."""

    def __init__(self, path: str) -> None:
        import pyarrow.parquet as pq

        self._path = path
        self._file = pq.ParquetFile(path, buffer_size=BUFFER, pre_buffer=False)
        self.types = {field.name: field.type for field in self._file.schema_arrow}
        sizes = [self._file.metadata.row_group(i).num_rows for i in range(self._file.num_row_groups)]
        self._starts = [0, *accumulate(sizes)]
        self.count = self._starts[-1]
        self._reading: tuple[str, int] | None = None
        self._batches: Iterator[Any] = iter(())
        self._batch: Any = []
        self._first = 0

    def value(self, column: str, row: int) -> Any:
        group = bisect.bisect_right(self._starts, row) - 1
        try:
            if self._reading != (column, group) or row < self._first:
                self._reading, self._first, self._batch = (column, group), self._starts[group], []
                self._batches = self._file.iter_batches(BATCH, [group], [column], use_threads=False)
            while row >= self._first + len(self._batch):
                self._first += len(self._batch)
                self._batch = next(self._batches).column(0)
            return self._batch[row - self._first].as_py()
        except (OSError, ValueError, StopIteration) as error:
            self._reading = None
            raise unreadable(self._path, error) from error

    def texts(self, column: str) -> list[str | None]:
        if not _has_field(self.types[column], "path"):
            return []
        found = self._file.read([f"{column}.path"], use_threads=False).column(0)
        return _field(found, "path")

    def values(self, column: str) -> list[Any]:
        found: list[Any] = self._file.read([column], use_threads=False).column(0).to_pylist()
        return found


class _Arrow:
    """Rows of an Arrow file, a stream as Hugging Face writes it, or one of Feather, mapped into memory."""

    def __init__(self, path: str) -> None:
        import pyarrow as pa

        source = pa.memory_map(path)
        whole = bytes(source.read(6)) == b"ARROW1"
        source.seek(0)
        self._table = (pa.ipc.open_file if whole else pa.ipc.open_stream)(source).read_all()
        self.types = {field.name: field.type for field in self._table.schema}
        self.count = self._table.num_rows

    def value(self, column: str, row: int) -> Any:
        return self._table.column(column)[row].as_py()

    def texts(self, column: str) -> list[str | None]:
        return _field(self._table.column(column), "path") if _has_field(self.types[column], "path") else []

    def values(self, column: str) -> list[Any]:
        found: list[Any] = self._table.column(column).to_pylist()
        return found


def _field(column: Any, name: str) -> list[str | None]:
    import pyarrow.compute as pc

    found: list[str | None] = pc.struct_field(column, [column.type.get_field_index(name)]).to_pylist()
    return found


def _has_field(kind: Any, name: str) -> bool:
    return hasattr(kind, "get_field_index") and kind.get_field_index(name) >= 0


def _may_hold_bytes(kind: Any) -> bool:
    kind = kind.field("bytes").type if _has_field(kind, "bytes") else kind
    return "binary" in str(kind) and "list" not in str(kind)


def _chosen(name: str, rows: Rows, column: str) -> str:
    """The column of images.

    Raises:
        RL2Error: If there is none, or there are several.

    """
    types = rows.types
    listed = ", ".join(f"{one} ({str(kind)[:60]})" for one, kind in types.items()) or "none"
    if column:
        if column not in types:
            raise RL2Error(f"{name} has no column {column}. Its columns are {listed}.")
        return column
    images = [one for one, kind in types.items() if _may_hold_bytes(kind) and _has_images(rows, one)]
    if len(images) == 1 or "image" in images:
        return "image" if "image" in images else images[0]
    if images:
        raise RL2Error(
            f"{name} has {len(images)} columns of images, {', '.join(images)}. Choose one by a name behind the "
            f"file, as in '{name}::{images[0]}'."
        )
    raise RL2Error(
        f"{name} has no column of images. Expected bytes of image files, or structs with the fields bytes and "
        f"path, as Hugging Face writes; its columns are {listed}, of {rows.count} rows."
    )


def _has_images(rows: Rows, column: str) -> bool:
    """Whether one of the first rows is an image, or a file that is not here, of which reading will say so."""
    for row in range(min(SNIFFED, rows.count)):
        found = bytes_of(rows.value(column, row))
        if isinstance(found, Path) and not found.exists():
            return True
        if found is not None and format_of(io.BytesIO(found) if isinstance(found, bytes) else found) in FORMATS:
            return True
    return False
