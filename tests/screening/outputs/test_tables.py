import csv
import os

import pyarrow.parquet

from torchmetrics_rl2.screening.outputs.tables import text_of, write_table


def test_tables_have_the_same_rows_twice(tmp_path):
    rows = [{"slide": "a", "score": None, "keep": True, "x": 1}, {"slide": "b", "score": None, "keep": False, "x": 2}]
    write_table(rows, tmp_path / "patches")
    table = pyarrow.parquet.read_table(tmp_path / "patches.parquet")
    assert table.to_pylist() == rows
    assert str(table.schema.field("score").type) == "double"
    with (tmp_path / "patches.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    assert read[1] == {"slide": "b", "score": "", "keep": "false", "x": "2"}


def test_paths_of_any_bytes_become_text():
    assert text_of(os.fsdecode(b"na\xff.svs")) == "na\ufffd.svs"
