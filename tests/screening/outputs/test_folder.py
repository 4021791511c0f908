import pyarrow.parquet

from tests.fixtures.images import tissue
from tests.screening.conftest import find, write_patches
from torchmetrics_rl2.images import ImageReader
from torchmetrics_rl2.screening import Outputs
from torchmetrics_rl2.screening.outputs.folder import exporter, write_folder
from torchmetrics_rl2.screening.screen_one import screen_one


def test_rows_become_text_only_in_the_table(screener, tmp_path):
    images = tissue(3, seed=4)
    images[1] = 240
    (source,) = find(write_patches(tmp_path / "in", images))
    opened = source.open()
    screened = screen_one(opened, screener.ranking())
    write_folder(opened, screened, tmp_path, "case", Outputs())
    rows = pyarrow.parquet.read_table(tmp_path / "patches.parquet").to_pylist()
    columns = ["slide", "path", "tile", "percentile", "score", "log_likelihood", "tissue", "ink"]
    assert list(rows[0]) == [*columns, "black", "keep", "reasons", "rank"]
    assert [row["reasons"] for row in rows] == ["", "background", ""]
    assert [row["score"] is None for row in rows] == [False, True, False]
    kept = (tmp_path / "kept.txt").read_text().splitlines()
    assert kept == [str(tmp_path / "in" / name) for name in ("00.png", "02.png")]


def test_files_that_were_cut_have_no_list_of_kept_ones(screener, tmp_path):
    (source,) = find(write_patches(tmp_path / "in", tissue(1, px=128)), reader=ImageReader(tile=64))
    opened = source.open()
    write_folder(opened, screen_one(opened, screener.ranking()), tmp_path, "case", Outputs())
    assert len(pyarrow.parquet.read_table(tmp_path / "patches.parquet")) == 4
    assert not (tmp_path / "kept.txt").exists()


def test_tiles_of_a_slide_are_exported_by_their_place(small_slide, tmp_path):
    opened = find(small_slide)[0].open()
    export = exporter(opened, tmp_path / "patches")
    (batch,) = opened.batches()
    export(batch.places[0], batch.images[0])
    place = batch.places[0]
    assert [path.name for path in (tmp_path / "patches").iterdir()] == [f"case-2_{place.x}_{place.y}.png"]
