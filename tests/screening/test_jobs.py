import json
import os
import pickle
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet
import pytest
from torchvision.transforms.v2.functional import to_pil_image

from tests.conftest import slide_pixels, tissue, write_slide
from torchmetrics_rl2 import PatchScreener, RL2Error
from torchmetrics_rl2.screening.jobs import Outputs, screen_cohort
from torchmetrics_rl2.images.reader import ImageReader
from torchmetrics_rl2.screening.sources import find_screen_sources

HOW = {"px": 64, "target_mpp": 0.5, "mpp": None, "mpps": {}, "min_tissue": 0.2, "workers": 0}
HOW |= {"reader": ImageReader(), "out": Path("nowhere")}
SAME = ("patches.csv", "patches.parquet", "patches.geojson", "heatmap.png", "contact_sheet.png")


@pytest.fixture(scope="module")
def slides(tmp_path_factory):
    """Two slides, one that is no slide, and one of glass."""
    folder = tmp_path_factory.mktemp("cohort")
    for i in (1, 2):
        write_slide(folder / f"case-{i}.svs", slide_pixels(seed=i))
    (folder / "broken.svs").write_text("no slide")
    write_slide(folder / "glass.svs", slide_pixels() * 0 + 240)
    return folder


def run(slides, out, screener, **changes):
    settings = {"settings": {"px": 64}, **changes}
    return screen_cohort(find_screen_sources([slides], **HOW), out, screener, **settings)


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.name in SAME}


@pytest.fixture
def other_calibration(screener, calibration):
    fewer = replace(calibration, mpp=0.25)
    return PatchScreener(screener.encoder, calibration=fewer, max_false_rejection=0.05)


@pytest.fixture(scope="module")
def screened(slides, screener, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    return out, run(slides, out, screener)


def test_failing_slides_say_why_and_the_others_go_on(screened):
    out, rows = screened
    by_name = {row["slide"]: row for row in rows}
    assert {name: row["status"] for name, row in by_name.items()} == {
        "broken": "failed",
        "case-1": "finished",
        "case-2": "finished",
        "glass": "failed",
    }
    assert "no slide that OpenSlide can read" in by_name["broken"]["error"]
    assert "has no tissue" in (out / "glass.error.txt").read_text()
    assert not (out / "broken").exists()
    table = pyarrow.parquet.read_table(out / "slides.parquet").to_pylist()
    assert [row["slide"] for row in table] == ["broken", "case-1", "case-2", "glass"]
    assert table[1]["kept"] == by_name["case-1"]["kept"]
    assert table[1]["calibration"] == table[2]["calibration"]
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


def test_what_is_finished_is_left_and_what_changed_is_done_again(slides, screener, screened, tmp_path):
    out = tmp_path / "out"
    first = run(slides, out, screener)
    assert [row["new"] for row in first] == [False, True, True, False]
    again = run(slides, out, screener)
    assert not any(row["new"] for row in again)
    assert [row.get("kept") for row in again] == [row.get("kept") for row in first]
    assert contents(out) == contents(screened[0])  # the same command twice
    (out / "case-2" / "patches.csv").write_text("cut off")
    refused = {row["slide"]: row for row in run(slides, out, screener)}
    assert (
        "patches.csv. It was left as it is. Choose another --out, or replace it with --overwrite"
        in (refused["case-2"]["error"])
    )
    assert (out / "case-2" / "patches.csv").read_text() == "cut off"
    assert [row["slide"] for row in run(slides, out, screener, overwrite=True) if row["new"]] == ["case-2"]
    assert contents(out) == contents(screened[0])


def test_other_settings_replace_nothing_unless_asked_to(slides, screener, other_calibration, tmp_path):
    out = tmp_path / "out"
    run(slides, out, screener)
    (out / "case-1" / "notes.txt").write_text("mine")
    before = contents(out)
    other = {"settings": {"px": 64, "max_false_rejection": 0.01}}
    rows = {row["slide"]: row for row in run(slides, out, screener, **other)}
    assert "not the same: max_false_rejection." in rows["case-1"]["error"]
    assert contents(out) == before
    assert (out / "case-1" / "notes.txt").exists()
    outputs = Outputs(tiles=True, export_patches=True)
    kept = {row["slide"]: row for row in run(slides, out, screener, outputs=outputs, overwrite=True, share=(1, 4))}
    assert "holds what is not of a screen, notes.txt for one" in kept["case-1"]["error"]
    assert (out / "case-1" / "notes.txt").read_text() == "mine"
    (out / "case-1" / "notes.txt").unlink()
    half = run(slides, out, screener, outputs=outputs, share=(1, 4), overwrite=True)
    assert [row["slide"] for row in half if row["new"]] == ["case-1"]
    exported = list((out / "case-1" / "patches").glob("case-1_*.png"))
    assert len(exported) == next(row["kept"] for row in half if row["slide"] == "case-1")
    exported[0].unlink()
    again = run(slides, out, screener, outputs=outputs, share=(1, 4))
    assert exported[0].name in next(row["error"] for row in again if row["slide"] == "case-1")
    with pytest.raises(RL2Error, match="holds a screen with another calibration"):
        run(slides, out, other_calibration)
    with pytest.raises(RL2Error, match="another calibration.* or leave case-2 out of it"):
        run(slides / "case-1.svs", out, other_calibration, overwrite=True)


def test_tables_and_records_of_others_are_left(slides, screener, tmp_path):
    (tmp_path / "slides.csv").write_text("slide,mpp\ncase-1,0.25\n")
    for overwrite in (False, True):
        with pytest.raises(RL2Error, match="slides.csv is there already, and is not of a screen"):
            run(slides, tmp_path, screener, overwrite=overwrite)
    assert (tmp_path / "slides.csv").read_text() == "slide,mpp\ncase-1,0.25\n"
    (tmp_path / "out" / "other").mkdir(parents=True)
    (tmp_path / "out" / "other" / "screen.json").write_text("[]")
    rows = run(slides, tmp_path / "out", screener)
    table = pyarrow.parquet.read_table(tmp_path / "out" / "slides.parquet").to_pylist()
    assert [row["slide"] for row in table] == [row["slide"] for row in rows]


def test_kept_patches_of_one_name_are_all_exported(screener, tmp_path):
    for folder, image in zip(("a/x", "b/x", "c/x"), tissue(3, seed=9), strict=True):
        (tmp_path / "in" / folder).mkdir(parents=True)
        to_pil_image(image).save(tmp_path / "in" / folder / "1.png")
    sources = find_screen_sources([tmp_path / "in"], **HOW)
    ranking = screener.only_ranking()
    rows = screen_cohort(sources, tmp_path / "out", ranking, Outputs(export_patches=True), settings={})
    assert rows[0]["kept"] == len(list((tmp_path / "out" / "in" / "patches").iterdir())) == 3


def test_folders_that_are_not_ours_are_never_touched(slides, screener, tmp_path):
    patches = tmp_path / "patches"
    patches.mkdir()
    for i, image in enumerate(tissue(4)):
        to_pil_image(image).save(patches / f"{i}.png")
    for overwrite in (False, True):
        sources = find_screen_sources([patches], **HOW)
        rows = screen_cohort(sources, tmp_path, screener, settings={}, overwrite=overwrite)
        assert "is there already, and is not of a screen" in rows[0]["error"]
        assert len(list(patches.iterdir())) == 4


def test_a_screen_beside_its_sources_is_no_source(screener, tmp_path):
    for i, image in enumerate(tissue(20)):
        to_pil_image(image).save(tmp_path / f"{i}.png")
    how = {**HOW, "out": tmp_path / "rl2-screen"}
    counts = []
    for _ in range(2):
        rows = screen_cohort(find_screen_sources([tmp_path], **how), how["out"], screener, settings={})
        counts.append(rows[0]["patches"] + rows[0]["background"])
    assert counts == [20, 20]
    assert rows[0]["slide"] == tmp_path.name
    with pytest.raises(RL2Error, match="where the screen is written to"):
        find_screen_sources([how["out"]], **how)


def test_a_slide_of_next_month_leaves_those_of_this_one(slides, screener, tmp_path):
    (tmp_path / "next").mkdir()
    write_slide(tmp_path / "next" / "case-9.svs", slide_pixels(seed=9))
    write_slide(tmp_path / "next" / "case-1.svs", slide_pixels(seed=8))
    run(slides, tmp_path / "out", screener)
    rows = {row["slide"]: row["status"] for row in run(tmp_path / "next", tmp_path / "out", screener)}
    assert rows == {"case-1": "left", "case-9": "finished"}  # another slide of that name is there
    table = pyarrow.parquet.read_table(tmp_path / "out" / "slides.parquet").to_pylist()
    assert {row["slide"] for row in table if row["status"] == "finished"} == {"case-2", "case-9"}
    assert (tmp_path / "out" / "case-1" / "screen.json").exists()
    left = next(row for row in table if row["slide"] == "case-1")
    assert (left["status"], left["kept"] > 0) == ("left", True)


def test_names_that_no_table_can_hold_are_mended(slides, screener, tmp_path):
    names = [b"na\xff me.svs", b"x" * 245 + b".svs"]
    for name in names:
        copy = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
        copy.write_bytes((slides / "case-1.svs").read_bytes())
    rows = run(tmp_path, tmp_path / "out", screener)
    assert [row["status"] for row in rows] == ["finished", "finished"]
    assert (tmp_path / "out" / "slides.csv").read_text()


def test_processes_share_the_slides_out(slides, screener, screened, tmp_path):
    for rank in (1, 0):
        rows = run(slides, tmp_path, screener, share=(rank, 2))
        if rank:
            assert {row["status"] for row in rows} == {"unfinished", "finished", "failed"}
    assert [row["status"] for row in rows] == ["failed", "finished", "finished", "failed"]
    assert contents(tmp_path) == contents(screened[0])


def test_no_folder_to_write_to_is_said_at_once(slides, screener, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RL2Error, match="is a file; expected a folder"):
        run(slides, tmp_path / "file", screener)


def test_two_slides_of_one_name_keep_apart(slides, screener, tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "case-1.svs").write_bytes((slides / "case-1.svs").read_bytes())
    sources = find_screen_sources([slides / "case-1.svs", tmp_path / "b"], **HOW)
    rows = screen_cohort(sources, tmp_path / "out", screener, settings={})
    assert len({row["slide"] for row in rows}) == 2
    assert all(row["slide"].endswith("case-1.svs") for row in rows)


SCRIPT = """
import sys, pickle, time
sys.path.insert(0, {root!r})
from tests.test_cohort import HOW
from torchmetrics_rl2.cohort import screen_cohort
from torchmetrics_rl2.screen_sources import find_screen_sources
screener = pickle.load(open({screener!r}, "rb"))
slow = lambda *a: time.sleep(0.5)
screen_cohort(find_screen_sources([{slides!r}], **HOW), {out!r}, screener, settings={{"px": 64}}, progress=slow)
"""


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_end(slides, screener, screened, tmp_path):
    (tmp_path / "screener.pkl").write_bytes(pickle.dumps(screener))
    out = tmp_path / "out"
    script = SCRIPT.format(
        root=str(Path.cwd()), screener=str(tmp_path / "screener.pkl"), slides=str(slides), out=str(out)
    )
    process = subprocess.Popen([sys.executable, "-c", script])
    deadline = time.monotonic() + 120
    while not (out / ".case-1.part").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / "case-1").exists()
    assert (out / ".case-1.part").exists()
    rows = run(slides, out, screener)
    assert [row["status"] for row in rows] == ["failed", "finished", "finished", "failed"]
    assert contents(out) == contents(screened[0])
    assert not [path for path in out.iterdir() if path.name.startswith(".")]
    assert (
        json.loads((out / "case-1" / "screen.json").read_text())["manifest"]["calibration"] == screener.calibration.id
    )
