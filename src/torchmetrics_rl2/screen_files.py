"""What a screen leaves behind: tables, GeoJSON for QuPath, coordinates for CLAM and TRIDENT."""

import math
import os
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torchmetrics_rl2.errors import RL2Error

__all__ = [
    "COLOURS",
    "KEPT",
    "check_libraries",
    "count_reasons",
    "geojson",
    "text_of",
    "write_coordinates",
    "write_table",
]

KEPT = "kept"
MEASURED = ("percentile", "rank", "score", "tissue", "ink")
COLOURS = {
    KEPT: (76, 175, 80),
    "background": (158, 158, 158),
    "pen": (33, 150, 243),
    "out of focus": (255, 193, 7),
    "near-blank": (207, 216, 220),
    "over-exposed": (255, 255, 141),
    "under-exposed": (93, 64, 55),
    "dark spots": (33, 33, 33),
    "saturation": (224, 64, 251),
    "colour of a part": (126, 87, 194),
    "noise": (255, 112, 67),
    "compression": (0, 150, 136),
    "unusual": (229, 57, 53),
}
NAMESPACE = uuid.UUID("6c0a4a3e-2f0b-5a39-9a8e-3a4f1f6f2d11")


def check_libraries() -> None:
    """Refuse early what cannot be written.

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
    # A column of nothing has no type; all that may be missing are numbers.
    types = [pyarrow.float64() if pyarrow.types.is_null(column) else column for column in table.schema.types]
    table = table.cast(pyarrow.schema(zip(table.column_names, types, strict=True)))
    parquet.write_table(table, stem.with_suffix(".parquet"))
    csv.write_csv(table, stem.with_suffix(".csv"))


def geojson(
    rows: Sequence[Mapping[str, Any]],
    size: float,
    name: str,
    tiles: bool = False,
    origin: tuple[int, int] = (0, 0),
) -> dict[str, Any]:
    """Patches of a slide as QuPath's GeoJSON: closed polygons in pixels of level 0, with class, colour, measurements.

    Args:
        rows: Patches with ``x``, ``y``, ``keep``, ``reasons``, and :data:`MEASURED`.
        size: Side of a patch on level 0.
        name: Of the slide, of which the ids of the objects are made.
        tiles: A detection for each patch instead of an annotation for each region of one class.
        origin: Where on level 0 what was scanned begins, which QuPath counts from.

    """
    from shapely import box, union_all
    from shapely.geometry import mapping
    from shapely.geometry.polygon import orient

    by_class: dict[str, list[Mapping[str, Any]]] = {}
    for row in ({**row, "x": row["x"] - origin[0], "y": row["y"] - origin[1]} for row in rows):
        by_class.setdefault(_class(row), []).append(row)
    features = []
    for kind, members in sorted(by_class.items()):
        squares = [box(row["x"], row["y"], round(row["x"] + size), round(row["y"] + size)) for row in members]
        if tiles:
            measured = [{name: float(row[name]) for name in MEASURED if math.isfinite(row[name])} for row in members]
            shapes = list(zip(squares, measured, strict=True))
        else:
            # Neighbours of a grid of fractional size may be a pixel apart, so they meet first.
            merged = union_all([square.buffer(1, join_style="mitre") for square in squares])
            merged = merged.buffer(-1, join_style="mitre")
            parts = list(getattr(merged, "geoms", [merged]))
            shapes = [(part, _region_measurements(part, members)) for part in parts]
        for shape, measurements in shapes:
            features.append(
                {
                    "type": "Feature",
                    "id": str(uuid.uuid5(NAMESPACE, f"{name} {kind} {shape.bounds}")),
                    "geometry": _closed(mapping(orient(shape))),
                    "properties": {
                        "objectType": "detection" if tiles else "annotation",
                        "classification": {"name": kind, "color": list(COLOURS[kind])},
                        "measurements": measurements,
                    },
                }
            )
    return {"type": "FeatureCollection", "features": features}


def _class(row: Mapping[str, Any]) -> str:
    return KEPT if row["keep"] else str(row["reasons"]).partition(";")[0]


def _region_measurements(region: Any, rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    low_x, low_y, high_x, high_y = region.bounds
    inside = [row for row in rows if low_x <= row["x"] < high_x and low_y <= row["y"] < high_y]
    inside = [row for row in inside if region.covers(_point(row["x"] + 1, row["y"] + 1))]
    if not inside:
        return {}
    percentiles = [float(row["percentile"]) for row in inside]
    return {"patches": len(inside), "mean percentile": sum(percentiles) / len(inside)}


def _point(x: float, y: float) -> Any:
    from shapely import Point

    return Point(x, y)


def _closed(geometry: Mapping[str, Any]) -> dict[str, Any]:
    rings = [[[round(x), round(y)] for x, y in ring] for ring in geometry["coordinates"]]
    return {"type": "Polygon", "coordinates": rings}


def write_coordinates(
    rows: Sequence[Mapping[str, Any]], folder: Path, *, name: str, px: int, size: float, mpp: float, slide: Any
) -> None:
    """Write the places of kept patches, ``coords_clam.h5`` and ``coords_trident.h5``, as each reads them.

    Args:
        rows: Patches with ``x``, ``y`` and ``keep``.
        folder: Where to.
        name: Of the slide.
        px: Side of a patch.
        size: Side of a patch on level 0.
        mpp: Resolution of a patch.
        slide: The :class:`~torchmetrics_rl2.slides.Slide`.

    """
    import h5py
    import numpy as np

    kept = np.array([(row["x"], row["y"]) for row in rows if row["keep"]], dtype=np.int64).reshape(-1, 2)
    level_0 = {"downsample": (1.0, 1.0), "downsampled_level_dim": slide.size, "level_dim": slide.size}
    # Both call it patch_size: CLAM means pixels of patch_level, TRIDENT pixels at the target magnification.
    clam = {"patch_size": round(size), "patch_level": 0, **level_0, "name": name, "save_path": ""}
    trident = {
        "patch_size": px,
        "patch_size_level0": round(size),
        "level0_magnification": round(10 / slide.mpp),
        "target_magnification": round(10 / mpp),
        "overlap": 0,
        "name": name,
        "savetodir": "",
        "level0_width": slide.size[0],
        "level0_height": slide.size[1],
    }
    for kind, attributes in (("clam", clam), ("trident", trident)):
        with h5py.File(folder / f"coords_{kind}.h5", "w", track_order=True) as file:
            file.create_dataset("coords", data=kept).attrs.update(attributes)


def count_reasons(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """How many patches were cut for each reason, their first."""
    return dict(Counter(str(row["reasons"]).partition("; ")[0] for row in rows if row["reasons"]).most_common())


def text_of(path: str | Path) -> str:
    """A path as text that can be written, whatever bytes are in it."""
    return os.fsencode(path).decode(errors="replace")
