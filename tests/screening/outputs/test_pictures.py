import numpy as np
import torch
from PIL import Image

from tests.test_screen_files import rows_of
from torchmetrics_rl2.screening.outputs.pictures import _chosen, plot_contact_sheet, plot_heatmap
from torchmetrics_rl2.images.slide import Slide


def test_the_heatmap_shows_where_patches_were_cut(slide_file, tmp_path):
    slide = Slide.open(slide_file)
    rows = [{**row, "rank": row["percentile"]} for row in rows_of(["kkkkkkkk"] * 8, size=128)]
    pictures = {}
    for name, cut in (("none", 0), ("half", 32)):
        for i, row in enumerate(rows):
            row |= {"keep": i >= cut, "reasons": "" if i >= cut else "unusual"}
        plot_heatmap(slide, rows, 128, tmp_path / f"{name}.png", calibrated=True)
        pictures[name] = np.asarray(Image.open(tmp_path / f"{name}.png").convert("RGB")).astype(int)
    changed = np.argwhere((pictures["none"] - pictures["half"]).any(2))
    height, width = pictures["half"].shape[:2]
    assert len(changed) > 0.05 * height * width


def test_the_sheet_has_worst_borderline_and_best(tmp_path):
    rows = [
        {"score": float(i), "percentile": i, "keep": i > 60, "reasons": "" if i > 60 else "noise"} for i in range(200)
    ]
    rows.append({"score": -np.inf, "percentile": 0, "keep": False, "reasons": "background"})
    chosen = _chosen(rows, 60.5)
    assert [row["score"] for row in chosen["worst"]] == list(range(24))
    assert [row["score"] for row in chosen["best"]] == list(range(199, 175, -1))
    assert [row["score"] for row in chosen["borderline"]] == list(range(49, 73))
    assert sum(map(len, _chosen(rows[:5], None).values())) <= 5
    plot_contact_sheet(rows, lambda row: torch.zeros(3, 32, 32, dtype=torch.uint8), tmp_path / "sheet.png", 60.5)
    assert Image.open(tmp_path / "sheet.png").size[0] > 1000


def test_a_sheet_of_nothing_is_not_drawn(tmp_path):
    plot_contact_sheet([], lambda row: torch.zeros(3, 32, 32), tmp_path / "sheet.png", None)
    assert not (tmp_path / "sheet.png").exists()
