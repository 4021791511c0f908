import csv

import h5py
import numpy as np
import pyarrow.parquet
import pytest
from shapely.geometry import shape

from torchmetrics_rl2.screening.outputs.geojson import COLORS, geojson
from torchmetrics_rl2.screening.outputs.tables import count_reasons, write_table
from torchmetrics_rl2.screening.outputs.coordinates import write_coordinates
from torchmetrics_rl2.images.slide import Slide


def rows_of(pattern, size=100.0):
    """Rows from lines of k (kept), p (pen), f (out of focus) and dots."""
    reasons = {"k": "", "p": "pen", "f": "out of focus; noise"}
    return [
        {
            "x": round(i * size),
            "y": round(j * size),
            "keep": c == "k",
            "reasons": reasons[c],
            "percentile": 10.0 * i,
            "rank": 1.0,
            "score": -1.0,
            "tissue": 0.5,
            "ink": 0.0,
        }
        for j, line in enumerate(pattern)
        for i, c in enumerate(line)
        if c != "."
    ]


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
    rows[1]["score"] = -np.inf
    found = geojson(rows, 100, "case", tiles=True)
    check_qupath(found)
    assert [feature["properties"]["objectType"] for feature in found["features"]] == ["detection"] * 2
    measured = [feature["properties"]["measurements"] for feature in found["features"]]
    common = {"rank": 1.0, "tissue": 0.5, "ink": 0.0}
    assert measured == [{"percentile": 0.0, "score": -1.0} | common, {"percentile": 10.0} | common]
    assert geojson(rows, 100, "case", tiles=True) == found
    assert geojson(rows, 100, "other", tiles=True) != found


def test_tables_have_the_same_rows_twice(tmp_path):
    rows = rows_of(["kpf"])
    write_table(rows, tmp_path / "patches")
    table = pyarrow.parquet.read_table(tmp_path / "patches.parquet").to_pylist()
    assert table == rows
    with (tmp_path / "patches.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    assert [row["reasons"] for row in read] == ["", "pen", "out of focus; noise"]
    assert [row["keep"] for row in read] == ["true", "false", "false"]


def test_coordinates_are_what_clam_and_trident_read(slide_file, tmp_path):
    slide = Slide.open(slide_file)
    rows = rows_of(["kp", "kk"], size=128)
    write_coordinates(rows, tmp_path, name="case-1", px=64, size=128.0, mpp=0.5, slide=slide)
    with h5py.File(tmp_path / "coords_clam.h5") as clam, h5py.File(tmp_path / "coords_trident.h5") as trident:
        for file in (clam, trident):
            np.testing.assert_array_equal(file["coords"][:], [[0, 0], [0, 128], [128, 128]])
        # CLAM reads patch_size pixels of patch_level, TRIDENT patch_size pixels at the target magnification.
        assert (clam["coords"].attrs["patch_level"], clam["coords"].attrs["patch_size"]) == (0, 128)
        attributes = dict(trident["coords"].attrs)
        assert (attributes["patch_size"], attributes["patch_size_level0"], attributes["overlap"]) == (64, 128, 0)
        assert (attributes["level0_magnification"], attributes["target_magnification"]) == (40, 20)


def test_no_kept_patch_is_an_empty_list_of_places(slide_file, tmp_path):
    write_coordinates(rows_of(["p"]), tmp_path, name="c", px=64, size=128.0, mpp=0.5, slide=Slide.open(slide_file))
    with h5py.File(tmp_path / "coords_clam.h5") as file:
        assert file["coords"].shape == (0, 2)


def test_patches_are_counted_by_their_first_reason():
    assert count_reasons(rows_of(["kfpf"])) == {"out of focus": 2, "pen": 1}


@pytest.mark.parametrize("tiles", [False, True])
def test_nothing_is_an_empty_collection(tiles):
    assert geojson([], 100, "case", tiles) == {"type": "FeatureCollection", "features": []}
