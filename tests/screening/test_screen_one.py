import pytest

from tests.fixtures.images import tissue
from tests.screening.conftest import find, write_patches
from torchmetrics_rl2 import RL2Error
from torchmetrics_rl2.images import ImageReader
from torchmetrics_rl2.screening.screen_one import screen_one


def test_a_patch_of_another_size_ends_in_a_sentence_with_its_file(screener, tmp_path):
    write_patches(tmp_path, [*tissue(2), *tissue(1, px=80)])
    (source,) = find(tmp_path)
    with pytest.raises(RL2Error, match="02.png: The good patches have 64 x 64 px, and these 80 x 80"):
        screen_one(source.open(), screener)


def test_rows_follow_the_files_and_ranks_the_scores(screener, tmp_path):
    write_patches(tmp_path, tissue(7, seed=3))
    (tmp_path / "04.png").write_text("no image")
    (source,) = find(tmp_path, reader=ImageReader(batch_size=2, skip_unreadable=True))
    kept = []
    screened = screen_one(source.open(), screener, export=lambda place, image: kept.append((place, image.shape)))
    rows = screened.rows
    assert [row.place.path for row in rows] == [str(tmp_path / f"{i:02}.png") for i in (0, 1, 2, 3, 5, 6)]
    ordered = sorted(rows, key=lambda row: row.score)
    assert [row.rank for row in ordered] == [round(100 * i / 6, 2) for i in range(6)]
    assert kept == [(row.place, (3, 64, 64)) for row in rows if row.keep]
    assert screened.summary.unreadable == 1
    assert screened.summary.kept == len(kept)
    assert screened.threshold == screener.threshold.score
    assert screen_one(source.open(), screener.ranking()).threshold is None
