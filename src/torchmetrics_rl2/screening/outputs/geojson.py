"""Patches of a slide as GeoJSON for QuPath."""

import math
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torchmetrics_rl2.screening.rows import PatchRow, SlidePlace

__all__ = ["COLORS", "KEPT", "class_of", "geojson"]

KEPT = "kept"
MEASURED = ("percentile", "rank", "score", "tissue", "ink", "black")
COLORS = {
    KEPT: (76, 175, 80),
    "background": (158, 158, 158),
    "black": (0, 0, 0),
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

Row = PatchRow[SlidePlace]
NAMESPACE = uuid.UUID("6c0a4a3e-2f0b-5a39-9a8e-3a4f1f6f2d11")


def geojson(
    rows: Sequence[Row],
    size: float,
    name: str,
    tiles: bool = False,
    origin: tuple[int, int] = (0, 0),
    calibrated: bool = True,
) -> dict[str, Any]:
    """Patches of a slide as QuPath's GeoJSON: closed polygons in pixels of level 0, with class, color, measurements.

    Args:
        rows: Patches.
        size: Side of a patch on level 0.
        name: Of the slide; the ids of the objects are made of it.
        tiles: A detection for each patch instead of an annotation for each region of one class.
        origin: Where on level 0 the scanned area begins, which QuPath counts from.
        calibrated: Whether percentiles mean something; else measurements have the rank within the slide alone.

    """
    from shapely import box
    from shapely.geometry import mapping
    from shapely.geometry.polygon import orient

    by_class: dict[str, list[tuple[Row, Any]]] = {}
    for row in rows:
        x, y = row.place.x - origin[0], row.place.y - origin[1]
        by_class.setdefault(class_of(row), []).append((row, box(x, y, round(x + size), round(y + size))))
    measured = MEASURED if calibrated else MEASURED[1:]
    features = []
    for kind, members in sorted(by_class.items()):
        for shape, measurements in _patches(members, measured) if tiles else _regions(members, measured[0]):
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


def class_of(row: PatchRow[Any]) -> str:
    """Kept, or the strongest reason why not."""
    return KEPT if row.keep else row.reasons[0]


def _patches(members: Sequence[tuple[Row, Any]], names: Sequence[str]) -> Iterator[tuple[Any, dict[str, float]]]:
    """The square of each patch, with its measurements."""
    for row, square in members:
        measured = {name: float(getattr(row, name)) for name in names}
        yield square, {name: value for name, value in measured.items() if math.isfinite(value)}


def _regions(members: Sequence[tuple[Row, Any]], name: str) -> Iterator[tuple[Any, dict[str, float]]]:
    """Regions of patches that touch, with the number of patches and the mean of a measure."""
    from shapely import Point, union_all

    # Neighbors of a grid of fractional size may be a pixel apart, so they meet first.
    merged = union_all([square.buffer(1, join_style="mitre") for _, square in members])
    merged = merged.buffer(-1, join_style="mitre")
    corners = [(row, *square.bounds[:2]) for row, square in members]
    for region in getattr(merged, "geoms", [merged]):
        low_x, low_y, high_x, high_y = region.bounds
        nearby = [(row, x, y) for row, x, y in corners if low_x <= x < high_x and low_y <= y < high_y]
        inside = [float(getattr(row, name)) for row, x, y in nearby if region.covers(Point(x + 1, y + 1))]
        yield region, {"patches": len(inside), f"mean {name}": sum(inside) / len(inside)} if inside else {}


def _closed(geometry: Mapping[str, Any]) -> dict[str, Any]:
    rings = [[[round(x), round(y)] for x, y in ring] for ring in geometry["coordinates"]]
    return {"type": "Polygon", "coordinates": rings}
