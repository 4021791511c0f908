from dataclasses import replace

import numpy as np
import pytest
from shapely.geometry import shape

from tests.screening.conftest import rows_of
from torchmetrics_rl2.quality import REASONS
from torchmetrics_rl2.screening.outputs.geojson import COLORS, KEPT, geojson


def check_qupath(collection):
    """What QuPath 0.4 and later reads, by its own documentation of GeoJSON."""
    assert collection["type"] == "FeatureCollection"
    ids = [feature["id"] for feature in collection["features"]]
    assert len(set(ids)) == len(ids)
    for feature in collection["features"]:
        assert feature["type"] == "Feature"
        assert feature["geometry"]["type"] == "Polygon"  # single-part MultiPolygons degrade in QuPath 0.6
        for ring in feature["geometry"]["coordinates"]:
            assert ring[0] == ring[-1]
            assert len(ring) >= 5
            assert all(isinstance(value, int) for point in ring for value in point)
        properties = feature["properties"]
        assert properties["objectType"] in ("annotation", "detection")
        assert set(properties["classification"]) == {"name", "color"}
        assert all(isinstance(c, int) and 0 <= c <= 255 for c in properties["classification"]["color"])
        assert all(isinstance(value, float | int) for value in properties["measurements"].values())


def test_regions_are_what_the_patches_cover_with_holes():
    rows = rows_of(["kkkk", "kppk", "kk.k", "kkkk", "..f."])
    found = geojson(rows, 100, "case")
    check_qupath(found)
    kinds = {feature["properties"]["classification"]["name"]: feature for feature in found["features"]}
    assert set(kinds) == {"kept", "pen", "out of focus"}
    kept = shape(kinds["kept"]["geometry"])
    assert kept.is_valid
    assert kept.area == 13 * 100 * 100
    assert len(kept.interiors) == 1
    assert kinds["kept"]["properties"]["measurements"]["patches"] == 13
    assert kinds["pen"]["properties"]["measurements"] == {"patches": 2, "mean percentile": 15.0}
    assert kinds["pen"]["properties"]["classification"]["color"] == list(COLORS["pen"])


def test_regions_apart_are_several_polygons():
    found = geojson(rows_of(["k.k", "...", "k.."]), 100, "case")
    check_qupath(found)
    assert [feature["properties"]["measurements"]["patches"] for feature in found["features"]] == [1, 1, 1]


def test_tiles_of_a_fractional_grid_leave_no_slivers():
    rows = rows_of(["kkkkkkk"] * 5, size=162.3188)
    found = geojson(rows, 162.3188, "case")
    moved = geojson(rows, 162.3188, "case", origin=(10, -20))
    for one, other in zip(found["features"], moved["features"], strict=True):
        corners = zip(one["geometry"]["coordinates"][0], other["geometry"]["coordinates"][0], strict=True)
        assert {(a[0] - b[0], a[1] - b[1]) for a, b in corners} == {(10, -20)}
    assert len(found["features"]) == 1
    assert found["features"][0]["properties"]["measurements"]["patches"] == 35
    assert len(found["features"][0]["geometry"]["coordinates"]) == 1


def test_tiles_on_request_carry_their_scores():
    rows = rows_of(["kp"])
    rows[1] = replace(rows[1], score=-np.inf)
    found = geojson(rows, 100, "case", tiles=True)
    check_qupath(found)
    assert [feature["properties"]["objectType"] for feature in found["features"]] == ["detection"] * 2
    measured = [feature["properties"]["measurements"] for feature in found["features"]]
    common = {"rank": 1.0, "tissue": 0.5, "ink": 0.0, "black": 0.0}
    assert measured == [{"percentile": 0.0, "score": -1.0} | common, {"percentile": 10.0} | common]
    assert geojson(rows, 100, "case", tiles=True) == found
    assert geojson(rows, 100, "other", tiles=True) != found


def test_without_a_calibration_there_are_ranks_and_no_percentiles():
    rows = rows_of(["kp"])
    found = geojson(rows, 100, "case", calibrated=False)
    measured = [feature["properties"]["measurements"] for feature in found["features"]]
    assert measured == [{"patches": 1, "mean rank": 1.0}] * 2
    found = geojson(rows, 100, "case", tiles=True, calibrated=False)
    assert all("percentile" not in feature["properties"]["measurements"] for feature in found["features"])


@pytest.mark.parametrize("tiles", [False, True])
def test_nothing_is_an_empty_collection(tiles):
    assert geojson([], 100, "case", tiles) == {"type": "FeatureCollection", "features": []}


def test_every_reason_has_a_color():
    assert set(COLORS) == {KEPT, *REASONS}
