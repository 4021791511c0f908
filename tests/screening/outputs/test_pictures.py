from dataclasses import replace

import numpy as np
import torch
from PIL import Image

from tests.screening.conftest import rows_of
from torchmetrics_rl2.images import Slide
from torchmetrics_rl2.screening.outputs.pictures import Shown, _chosen, plot_contact_sheet, plot_heatmap

PIXELS = torch.zeros(3, 32, 32, dtype=torch.uint8)


def shown(scores, kept_above=60):
    """Patches with these scores."""
    (row,) = rows_of(["k"])
    rows = [
        replace(row, score=score, keep=score > kept_above, reasons=() if score > kept_above else ("noise",))
        for score in scores
    ]
    return [Shown(row, lambda place: PIXELS) for row in rows]


def test_the_heatmap_shows_where_patches_were_rejected(small_slide, tmp_path):
    slide = Slide.open(small_slide)
    rows = rows_of(["kkkk"] * 4, size=128)
    pictures = {}
    for name, rejected in (("none", 0), ("half", 8)):
        rows = [
            replace(row, keep=i >= rejected, reasons=() if i >= rejected else ("unusual",))
            for i, row in enumerate(rows)
        ]
        plot_heatmap(slide, rows, 128, tmp_path / f"{name}.png", calibrated=True)
        pictures[name] = np.asarray(Image.open(tmp_path / f"{name}.png").convert("RGB")).astype(int)
    changed = np.argwhere((pictures["none"] - pictures["half"]).any(2))
    height, width = pictures["half"].shape[:2]
    assert len(changed) > 0.05 * height * width


def test_the_sheet_has_worst_borderline_and_best():
    background = replace(shown([-np.inf])[0].row, reasons=("background",))
    patches = [*shown(map(float, range(200))), Shown(background, lambda place: PIXELS)]
    chosen = _chosen(patches, 60.5)
    assert [one.row.score for one in chosen["worst"]] == list(range(24))
    assert [one.row.score for one in chosen["best"]] == list(range(199, 175, -1))
    assert [one.row.score for one in chosen["borderline"]] == list(range(49, 73))
    assert sum(map(len, _chosen(patches[:5], None).values())) <= 5
    assert {name: len(part) for name, part in _chosen(patches[:1], None).items() if part} == {"worst": 1}


def test_a_sheet_is_drawn_and_one_of_nothing_is_not(tmp_path):
    plot_contact_sheet(shown([1.0, 2.0]), tmp_path / "sheet.png", None, calibrated=False)
    assert Image.open(tmp_path / "sheet.png").size[0] > 1000
    plot_contact_sheet([], tmp_path / "nothing.png", None, calibrated=True)
    assert not (tmp_path / "nothing.png").exists()


def test_a_narrow_patch_is_drawn_below_the_middle_of_its_title(tmp_path):
    narrow = [replace(one, read=lambda place: torch.zeros(3, 64, 16, dtype=torch.uint8)) for one in shown([1.0])]
    plot_contact_sheet(narrow, tmp_path / "sheet.png", None, calibrated=True)
    gray = np.asarray(Image.open(tmp_path / "sheet.png").convert("L"))
    dark = np.argwhere(gray[100:150, :148].mean(0) < 100)[:, 0]
    assert abs(dark.mean() - 148.5 / 2) < 2
