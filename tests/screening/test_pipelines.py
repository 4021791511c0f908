"""The recipes of docs/screening.md for other people's pipelines, as they stand there."""

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

DOCS = Path(__file__).parents[2] / "docs" / "screening.md"


def recipe(name):
    """The class of this name, from the page."""
    blocks = re.findall(r"```py\n(.*?)```", DOCS.read_text(), re.DOTALL)
    block = next(block for block in blocks if f"class {name}" in block)
    # What follows the class needs a slide of the reader's.
    definition, use = re.fullmatch(r"(.*?\n)((?:zs|wsi)\..*)", block, re.DOTALL).groups()
    namespace = {}
    exec(definition, namespace)
    return namespace[name], use


def test_slideflow_removes_what_was_not_kept(screened):
    out, rows = screened
    qc, _ = recipe("RL2Screen")
    # slideflow gives a slide with these; it cannot be installed everywhere.
    removed = qc(out)(SimpleNamespace(name="case-1", dimensions=(1024, 1024)))
    assert removed.shape == (17, 17)
    kept = next(row.summary.kept for row in rows if row.slide == "case-1")
    assert (~removed).sum() >= 4 * kept > 0  # 128 px are two cells, and one of the margin
    assert removed[9:].all()  # the blurred half
    assert removed[:, 11:].all()  # glass and ink


def test_lazyslide_has_the_verdicts_beside_its_tiles(slide_file, weights_file, calibration, tmp_path):
    zs = pytest.importorskip("lazyslide")
    import wsidata

    model, use = recipe("RL2Tiles")
    wsi = wsidata.open_wsi(slide_file, store=str(tmp_path / "store.zarr"))
    zs.pp.find_tissues(wsi)
    use = use.replace("tile_px=224", "tile_px=64").replace('calibration="calibration.safetensors"', "**settings")
    settings = {"weights": weights_file, "calibration": calibration, "max_false_rejection": 0.05, "device": "cpu"}
    exec(use, {"zs": zs, "wsi": wsi, "RL2Tiles": model, "settings": settings})
    tiles = wsi["tiles"]
    assert {"rl2_score", "rl2_percentile", "rl2_keep"} <= set(tiles.columns)
    blurred = np.array([shape.bounds[1] >= 512 and shape.bounds[2] <= 640 for shape in tiles.geometry])
    assert not tiles["rl2_keep"].to_numpy()[blurred].any()
    scores = tiles["rl2_score"].to_numpy()
    assert scores[blurred].max() < np.median(scores[~blurred])
