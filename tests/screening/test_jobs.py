import json
import os
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow.parquet
import pytest
import torch
import torch.distributed as dist

from tests.fixtures.images import tissue
from tests.fixtures.processes import CONTEXT, two_ranks
from tests.fixtures.slides import write_slide
from tests.screening.conftest import TABLES, run, small_pixels, write_patches
from torchmetrics_rl2 import PatchScreener, RL2Error
from torchmetrics_rl2.images import find_images
from torchmetrics_rl2.pixels import stain_of
from torchmetrics_rl2.ranks import Ranks
from torchmetrics_rl2.screening import Outputs
from torchmetrics_rl2.screening.jobs import _Job, screen_all
from torchmetrics_rl2.screening.rows import SlidePlace
from torchmetrics_rl2.screening.sources import Batch, Grid


def contents(folder, names=TABLES):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.name in names}


def table_of(out):
    return {row["slide"]: row for row in pyarrow.parquet.read_table(out / "slides.parquet").to_pylist()}


def by_name(rows):
    return {row.slide: row for row in rows}


@pytest.fixture
def out(screened, tmp_path):
    """A copy of the finished screen, to be changed."""
    return Path(shutil.copytree(screened[0], tmp_path / "out"))


def test_failing_slides_say_why_and_the_others_go_on(screened):
    out, rows = screened
    assert {row.slide: row.status for row in rows} == {
        "broken": "failed",
        "case-1": "finished",
        "case-2": "finished",
        "glass": "failed",
    }
    assert [row.new for row in rows] == [False, True, True, False]
    assert "no slide that OpenSlide can read" in by_name(rows)["broken"].error
    assert "has no tissue" in (out / "glass.error.txt").read_text()
    assert not (out / "broken").exists()
    table = table_of(out)
    assert list(table) == ["broken", "case-1", "case-2", "glass"]
    assert table["case-1"]["kept"] == by_name(rows)["case-1"].summary.kept
    assert table["case-1"]["calibration"] == table["case-2"]["calibration"]
    assert not [path for path in out.iterdir() if path.name.startswith(".")]


def test_blur_and_ink_are_found_where_they_are(screened):
    rows = pyarrow.parquet.read_table(screened[0] / "case-1" / "patches.parquet").to_pylist()
    ink = [row for row in rows if row["reasons"] == "pen"]
    assert [(row["x"], row["y"]) for row in ink] == [(768, 128)]
    sharp = [row for row in rows if row["y"] < 512 and row["x"] < 640]
    soft = [row for row in rows if row["y"] >= 512 and row["x"] < 640]
    assert sum(row["keep"] for row in soft) == 0
    assert sum("out of focus" in row["reasons"] for row in soft) > 0.8 * len(soft)
    assert max(row["score"] for row in soft) < sorted(row["score"] for row in sharp)[len(sharp) // 2]


def test_what_is_finished_is_left_and_what_changed_is_done_again(slides, screener, screened, out):
    again = run(slides, out, screener)
    assert not any(row.new for row in again)
    assert [row.summary for row in again] == [row.summary for row in screened[1]]
    (out / "case-2" / "patches.csv").write_text("cut off")
    refused = by_name(run(slides, out, screener))
    sentence = "patches.csv. It was left as it is. Choose another --out, or replace it with --overwrite"
    assert sentence in refused["case-2"].error
    assert (out / "case-2" / "patches.csv").read_text() == "cut off"
    assert [row.slide for row in run(slides, out, screener, overwrite=True) if row.new] == ["case-2"]
    assert contents(out) == contents(screened[0])


def test_the_table_keeps_slides_of_earlier_calls_those_that_failed_too(small_slide, screener, screened, out):
    before = table_of(out)
    assert [row.slide for row in run(small_slide, out, screener)] == ["case-2"]
    after = table_of(out)
    assert {name: row["status"] for name, row in after.items()} == {name: row["status"] for name, row in before.items()}
    assert after["broken"]["error"] == before["broken"]["error"]


def test_the_table_has_slides_that_another_process_finished_meanwhile(small_slide, screener, screened, tmp_path):
    def other(*_):
        shutil.copytree(screened[0] / "case-1", tmp_path / "case-1", dirs_exist_ok=True)

    run(small_slide, tmp_path, screener, progress=other)
    assert list(table_of(tmp_path)) == ["case-2", "case-1"]


def test_a_folder_named_like_an_error_is_no_failure(small_slide, screener, out):
    (out / "mine.error.txt").mkdir()
    run(small_slide, out, screener)
    assert "mine" not in table_of(out)


@pytest.mark.usefixtures("real_pictures")
def test_the_same_command_twice_writes_the_same_bytes(small_slide, screener, screened, tmp_path):
    assert run(small_slide, tmp_path, screener)[0].new
    files = {path.name for path in (tmp_path / "case-2").iterdir()} - {"screen.json"}
    assert files == {*TABLES, "heatmap.png", "contact_sheet.png", "coords_clam.h5", "coords_trident.h5"}
    assert contents(tmp_path / "case-2", files) == contents(screened[0] / "case-2", files)


def test_other_settings_replace_nothing_unless_asked_to(slides, small_slide, screener, out):
    (out / "case-2" / "notes.txt").write_text("mine")
    before = contents(out)
    rows = by_name(run(slides, out, screener, settings={"px": 64, "max_false_rejection": 0.01}))
    assert "has changed since: max_false_rejection." in rows["case-1"].error
    assert rows["case-1"].status == "left"
    assert contents(out) == before
    asked = Outputs(tiles=True, export_patches=True)
    kept = by_name(run(small_slide, out, screener, asked, overwrite=True))
    assert "has files that are not of a screen, such as notes.txt" in kept["case-2"].error
    assert (out / "case-2" / "notes.txt").read_text() == "mine"
    (out / "case-2" / "notes.txt").unlink()
    rows = run(small_slide, out, screener, asked, overwrite=True)
    assert [row.slide for row in rows if row.new] == ["case-2"]
    exported = list((out / "case-2" / "patches").glob("case-2_*.png"))
    assert len(exported) == by_name(rows)["case-2"].summary.kept > 0
    exported[0].unlink()
    assert exported[0].name in by_name(run(small_slide, out, screener, asked))["case-2"].error


def test_another_calibration_is_refused_beside_slides_of_this_one(slides, screener, calibration, out):
    other = PatchScreener(screener.encoder, calibration=replace(calibration, mpp=0.25), max_false_rejection=0.05)
    with pytest.raises(RL2Error, match="has a screen with another calibration"):
        run(slides, out, other)
    with pytest.raises(RL2Error, match="another calibration.* or move case-1 out of it"):
        run(slides / "case-2.svs", out, other, overwrite=True)


def test_tables_and_records_of_others_are_left(slides, small_slide, screener, tmp_path):
    (tmp_path / "slides.csv").write_text("slide,mpp\ncase-1,0.25\n")
    for overwrite in (False, True):
        with pytest.raises(RL2Error, match="slides.csv exists already, and is not of a screen"):
            run(slides, tmp_path, screener, overwrite=overwrite)
    assert (tmp_path / "slides.csv").read_text() == "slide,mpp\ncase-1,0.25\n"
    (tmp_path / "out" / "other").mkdir(parents=True)
    (tmp_path / "out" / "other" / "screen.json").write_text("[]")
    run(small_slide, tmp_path / "out", screener)
    assert list(table_of(tmp_path / "out")) == ["case-2"]


def test_kept_patches_of_one_name_are_all_exported(screener, tmp_path):
    for folder, image in zip(("a/x", "b/x", "c/x"), tissue(3, seed=9), strict=True):
        write_patches(tmp_path / "in" / folder, [image])
    rows = run(tmp_path / "in", tmp_path / "out", screener.ranking(), Outputs(export_patches=True))
    assert rows[0].summary.kept == len(list((tmp_path / "out" / "in" / "patches").iterdir())) == 3


def test_folders_that_are_not_ours_are_never_touched(screener, tmp_path):
    patches = write_patches(tmp_path / "patches", tissue(4))
    for overwrite in (False, True):
        (row,) = screen_all([_Memory(patches)], tmp_path, screener, settings={}, overwrite=overwrite)
        assert "exists already, and is not of a screen" in row.error
        assert len(list(patches.iterdir())) == 4


def test_a_screen_beside_its_sources_is_no_source(screener, tmp_path):
    write_patches(tmp_path, tissue(5))
    for _ in range(2):
        (row,) = run(tmp_path, tmp_path / "rl2-screen", screener)
        assert (row.slide, row.summary.patches + row.summary.background) == (tmp_path.name, 5)
    with pytest.raises(RL2Error, match="where the screen is written to"):
        run(tmp_path / "rl2-screen", tmp_path / "rl2-screen", screener)


def test_a_slide_of_next_month_leaves_those_of_this_one(screener, out, tmp_path):
    (tmp_path / "next").mkdir()
    for name, seed in (("case-9", 9), ("case-1", 8)):
        write_slide(tmp_path / "next" / f"{name}.svs", small_pixels(seed))
    rows = {row.slide: row.status for row in run(tmp_path / "next", out, screener)}
    assert rows == {"case-1": "left", "case-9": "finished"}  # another slide of that name is there
    table = table_of(out)
    assert {name for name, row in table.items() if row["status"] == "finished"} == {"case-2", "case-9"}
    assert (out / "case-1" / "screen.json").exists()
    assert (table["case-1"]["status"], table["case-1"]["kept"] > 0) == ("left", True)


def test_names_that_no_table_can_hold_are_mended(small_slide, screener, tmp_path):
    for name in (b"na\xff me.svs", b"x" * 245 + b".svs"):
        copy = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
        copy.write_bytes(small_slide.read_bytes())
    assert [row.status for row in run(tmp_path, tmp_path / "out", screener)] == ["finished", "finished"]
    assert (tmp_path / "out" / "slides.csv").read_text()


def shared_main(rank, slides, out, screener):
    dist.init_process_group("gloo", init_method=f"file://{out.parent}/init", rank=rank, world_size=2)
    screened = []
    original = _Job.screen
    _Job.screen = lambda self, source, name: screened.append(name) or original(self, source, name)
    rows = run(slides, out, screener, ranks=Ranks(distributed=True))
    told = [(row.slide, row.status, row.new) for row in rows]
    (out.parent / f"rows-{rank}").write_text(json.dumps([told, screened]))
    dist.destroy_process_group()


@pytest.mark.slow
def test_processes_share_the_slides_out_the_largest_first(slides, screener, screened, tmp_path):
    out = tmp_path / "out"
    two_ranks(shared_main, slides, out, screener)
    (told, first), (also, second) = (json.loads((tmp_path / f"rows-{rank}").read_text()) for rank in (0, 1))
    assert told == also == [[row.slide, row.status, row.new] for row in screened[1]]
    assert sorted(first + second) == ["broken", "case-1", "case-2", "glass"]
    assert "case-1" in (first[:1] + second[:1])
    assert contents(out) == contents(screened[0])


def test_no_folder_to_write_to_is_said_at_once(slides, screener, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RL2Error, match="is a file; expected a folder"):
        run(slides, tmp_path / "file", screener)


@dataclass
class _Memory:
    """A source of another kind, whose patches are in memory; opened, it is itself."""

    path: Path
    seed: int = 0
    mpp: None = None
    has_target_mpp: bool = False
    total: int = 6
    unreadable: int = 2
    grid = Grid(None, None)

    @property
    def name(self):
        return self.path.name

    @property
    def identity(self):
        return {"seed": self.seed}

    @property
    def images(self):
        return tissue(6, seed=self.seed)

    def open(self, most=None):
        return self

    def sample(self):
        return stain_of([self.images]), [self.images]

    def batches(self):
        yield Batch(self.images, [SlidePlace(i % 3, i // 3) for i in reversed(range(6))], 6)

    def patch(self, place):
        return self.images[5 - (place.x + 3 * place.y)]

    def write(self, rows, folder, name, outputs, calibrated):
        (folder / "own.txt").write_text(f"{name} {outputs.tiles} {calibrated} {len(rows)}")


def test_sources_of_any_kind_are_screened_by_what_they_say(screener, tmp_path):
    told = []
    sources = [_Memory(Path(name), seed) for seed, name in enumerate(("a", "b"))]
    ranking = screener.ranking()
    rows = screen_all(sources, tmp_path, ranking, settings={}, progress=lambda *news: told.append(news))
    assert [(row.slide, row.status, row.summary.unreadable) for row in rows] == [
        ("a", "finished", 2),
        ("b", "finished", 2),
    ]
    assert (tmp_path / "a" / "own.txt").read_text() == "a False True 6"
    found = pyarrow.parquet.read_table(tmp_path / "a" / "patches.parquet").to_pylist()
    assert [(row["y"], row["x"]) for row in found] == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    judged = ranking(sources[0].images.flip(0), stain_of([sources[0].images]))
    assert [row["score"] for row in found] == pytest.approx(judged.score.tolist(), abs=1e-2)
    assert torch.tensor([row["rank"] for row in found]).argsort().tolist() == judged.score.argsort().tolist()
    assert ("patches, a", 6, 6, 6) in told
    assert told[-1] == ("slides", 2, 2, 0)


def run_slowly(slides, out, screener):
    run(slides, out, screener, progress=lambda *_: time.sleep(0.5))


@pytest.mark.slow
@pytest.mark.usefixtures("real_pictures")
def test_a_killed_run_goes_on_to_the_same_end(small_slide, screener, screened, tmp_path):
    out = tmp_path / "out"
    process = CONTEXT.Process(target=run_slowly, args=(small_slide, out, screener))
    process.start()
    deadline = time.monotonic() + 120
    while not (out / ".case-2.part").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.2)
    process.kill()
    process.join()
    assert not (out / "case-2").exists()
    assert (out / ".case-2.part").exists()
    (row,) = run(small_slide, out, screener)
    assert row.status == "finished"
    names = (*TABLES, "heatmap.png", "contact_sheet.png")
    assert contents(out / "case-2", names) == contents(screened[0] / "case-2", names)
    assert not [path for path in out.iterdir() if path.name.startswith(".")]
    record = json.loads((out / "case-2" / "screen.json").read_text())
    assert record["manifest"]["calibration"] == screener.calibration.id


def test_names_that_are_no_text_come_back_from_the_list_of_kept_ones(screener, tmp_path):
    folder = write_patches(tmp_path / "new", tissue(3, seed=4))
    names = ["line\nbreak.png", os.fsdecode(b"bytes\xff.png")]
    for i, name in enumerate(names):
        (folder / f"{i:02}.png").rename(folder / name)
    (row,) = run(folder, tmp_path / "out", screener.ranking())
    assert (row.status, row.summary.kept) == ("finished", 3)
    kept = find_images(tmp_path / "out" / "new" / "kept.txt")
    assert sorted(path.name for path in kept) == sorted([*names, "02.png"])
