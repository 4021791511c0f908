"""Data sets of the library ``datasets`` of Hugging Face, which are known here by name while they are read."""

import io
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, Protocol, TypeGuard
from weakref import WeakKeyDictionary, WeakValueDictionary

from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.images.tables import Rows, bytes_of

__all__ = [
    "DATASET",
    "ImageDataset",
    "ImageStream",
    "check_dataset",
    "fingerprint_of",
    "is_dataset",
    "is_stream",
    "known",
    "remember",
    "restore",
    "rows_of_dataset",
]

DATASET = "dataset"
"""What names of data sets end in, so that paths of their images are told from those of files."""


class ImageDataset(Protocol):
    """What is needed of a ``Dataset`` or an ``IterableDataset``."""

    features: Any
    info: Any
    split: Any

    def with_format(self, type: str | None = None) -> Any: ...  # noqa: D102


_known: WeakValueDictionary[str, Any] = WeakValueDictionary()
_rows: WeakKeyDictionary[Any, "_Rows"] = WeakKeyDictionary()


def is_dataset(source: object) -> TypeGuard[Any]:
    """Whether it is a ``Dataset``, an ``IterableDataset``, or one of these for each split."""
    library = sys.modules.get("datasets")
    names = ("Dataset", "IterableDataset", "DatasetDict", "IterableDatasetDict")
    return library is not None and isinstance(source, tuple(getattr(library, name) for name in names))


def is_stream(source: object) -> bool:
    """Whether it is an ``IterableDataset``."""
    return is_dataset(source) and not hasattr(source, "__len__")


def check_dataset(source: Any) -> None:
    """Refuse what has no rows of its own, or rows that are made anew each time.

    Raises:
        RL2Error: If it has splits, or a transform.

    """
    if isinstance(source, dict):
        raise RL2Error(
            f"The data set has the splits {', '.join(source)}. Give one of them, as in dataset['{next(iter(source))}']."
        )
    if getattr(source, "format", None) and source.format["type"] == "custom":
        raise RL2Error(
            "The data set has a transform, set by set_transform or with_transform, and its images would not be read "
            "through it. Apply it with map, or drop it with dataset.with_format(None)."
        )


def remember(dataset: Any) -> str:
    """The name of a data set, from now on and as long as somebody else keeps it."""
    for name, other in _known.items():
        if other is dataset:
            return name
    stem, number = _stem(dataset), 1
    name = f"{stem}.{DATASET}"
    while name in _known:
        number += 1
        name = f"{stem}-{number}.{DATASET}"
    _known[name] = dataset
    return name


def known() -> dict[str, Any]:
    """All data sets by name, for a process that is started anew."""
    return dict(_known)


def restore(datasets: Mapping[str, Any]) -> None:
    """Names as another process has them."""
    _known.update(datasets)


def rows_of_dataset(name: str) -> Rows:
    """Rows of a data set.

    Raises:
        RL2Error: If it is gone.

    """
    if name not in _known:
        raise RL2Error(f"The data set {name} is gone. Keep it while its images are read.")
    dataset = _known[name]
    if dataset not in _rows:
        _rows[dataset] = _Rows(dataset)
    return _rows[dataset]


def fingerprint_of(name: str) -> str:
    """What the library tells the contents of a data set by."""
    return str(getattr(_known.get(name), "_fingerprint", ""))


class _Rows:
    """Rows of a ``Dataset``, as they are stored: images undecoded."""

    def __init__(self, dataset: Any) -> None:
        self._columns = {name: dataset.select_columns([name]).with_format("arrow") for name in dataset.column_names}
        self.types = {field.name: field.type for field in dataset.features.arrow_schema}
        self.count = len(dataset)

    def value(self, column: str, row: int) -> Any:
        """Of a cell, as Python has it."""
        return self._columns[column][row].column(0)[0].as_py()

    def texts(self, column: str) -> list[str | None]:
        """None: to look at them is to read all images."""
        return []

    def values(self, column: str) -> list[Any]:
        """All of a column."""
        found: list[Any] = self._columns[column][:].column(0).to_pylist()
        return found


class ImageStream(Sequence[Path]):
    """Images of an ``IterableDataset``, in its order, once; as a list of paths it is empty.

    Args:
        dataset: The data set.

    Raises:
        RL2Error: If it is known to have no column of images, or several.

    """

    def __init__(self, dataset: Any) -> None:
        self.name = f"{_stem(dataset)}.{DATASET}"
        features = getattr(dataset, "features", None) or {}
        images = [column for column, kind in features.items() if type(kind).__name__ == "Image"]
        self._column = "image" if "image" in images else images[0] if len(images) == 1 else ""
        if len(images) > 1 and not self._column:
            raise RL2Error(
                f"The streaming data set has {len(images)} columns of images, {', '.join(images)}. Keep one, as in "
                f"dataset.select_columns('{images[0]}')."
            )
        if images:
            kind = type(features[self._column])
            dataset = dataset.cast_column(self._column, kind(decode=False))
        self._dataset = dataset

    def __len__(self) -> int:
        return 0

    def __getitem__(self, _: Any) -> NoReturn:
        raise IndexError("A stream has no list of its images.")

    def images(self) -> Iterator[tuple[Path, Any]]:
        """Name and cell of each image.

        Raises:
            RL2Error: If there is no column of images, or the stream breaks off.

        """
        count, column = -1, self._column
        try:
            for count, row in enumerate(self._dataset):
                column = column or _column_of(row)
                yield Path(self.name, f"{count:06}"), _cell(row[column])
            if count < 0:
                raise RL2Error(f"The data set {self.name} is empty.")
        except (RL2Error, GeneratorExit):
            raise
        except Exception as error:  # whatever the network, the disk or a function given to map raises
            raise RL2Error(
                f"The data set {self.name} breaks off behind {count + 1} images: {type(error).__name__}: {error}."
            ) from error


def _cell(value: Any) -> Any:
    """What holds the image of a cell; where there is none, what is no image."""
    if hasattr(value, "convert"):
        return value
    found = bytes_of(value)
    return found if isinstance(found, Path) else io.BytesIO(found or b"")


def _column_of(row: Mapping[str, Any]) -> str:
    """The column of images of a row of which no types are known."""
    found = [
        name
        for name, value in row.items()
        if isinstance(value, bytes) or hasattr(value, "convert") or (isinstance(value, dict) and "bytes" in value)
    ]
    if len(found) == 1 or "image" in found:
        return "image" if "image" in found else found[0]
    columns = ", ".join(f"{name} ({type(value).__name__})" for name, value in row.items())
    raise RL2Error(
        "Expected one column of images in the streaming data set, or one that is called image, as images of Pillow or "
        f"bytes of image files; its columns are {columns}."
    )


def _stem(dataset: Any) -> str:
    info = dataset.info
    parts = [getattr(info, "dataset_name", None) or getattr(info, "builder_name", None) or "data", dataset.split]
    return "-".join(str(part).replace(os.sep, "-") for part in parts if part)
