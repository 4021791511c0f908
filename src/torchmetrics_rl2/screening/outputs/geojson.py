"""Patches of a slide as GeoJSON for QuPath."""

import math
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["COLORS", "KEPT", "geojson"]

KEPT = "kept"
MEASURED = ("percentile", "rank", "score", "tissue", "ink")
COLORS = {
    KEPT: (76, 175, 80),
    "background": (158, 158, 158),
    "pen": (33, 150, 243),
    "out of focus": (255, 193, 7),
    "near-blank": (207, 216, 220),
    "over-exposed": (255, 255, 141),
    "under-exposed": (93, 64, 55),
    "dark spots": (33, 33, 33),
    "saturation": (224, 64, 251),
    "color of a part": (126, 87, 194),
    "noise": (255, 112, 67),
    "compression": (0, 150, 136),
    "unusual": (229, 57, 53),
}

NAMESPACE = uuid.UUID("6c0a4a3e-2f0b-5a39-9a8e-3a4f1f6f2d11")


def geojson(
    rows: Sequence[Mapping[str, Any]],
    size: float,
    name: str,
    tiles: bool = False,
    origin: tuple[int, int] = (0, 0),
) -> dict[str, Any]:
    """Patches of a slide as QuPath's GeoJSON: closed polygons in pixels of level 0, with class, color, measurements.

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
            # Neighbors of a grid of fractional size may be a pixel apart, so they meet first.
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
                        "classification": {"name": kind, "color": list(COLORS[kind])},
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
