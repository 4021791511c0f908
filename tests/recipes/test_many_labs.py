import csv

import pytest
import torch
from PIL import Image

from torchmetrics_rl2 import RL2Error

ROWS = [
    # name, set, organ, kind, group, split; in the layouts that copies of the sets have
    ("ADI-TCGA-A", "crc", "colorectum", "ADI", "", "fit", "crc/ADI___ADI-TCGA-A_106.png"),
    ("Normal_100x_101", "oral", "oral cavity", "Normal", "", "fit", "oral/Normal/Normal___Normal_100x_101.png"),
    ("roi1_x0", "bcss", "breast", "", "roi1", "reference", "bcss/roi1_x0.png"),
]


@pytest.fixture
def folder(recipes, tmp_path, monkeypatch):
    table = tmp_path / "many_labs.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["name", "set", "organ", "kind", "group", "width", "height", "split"])
        for number, (name, of_set, organ, kind, group, split, path) in enumerate(ROWS):
            writer.writerow([name, of_set, organ, kind, group, 48, 40, split])
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (48, 40), (10 * number, 0, 0)).save(tmp_path / path)
    monkeypatch.setattr(recipes["many_labs"], "ROWS", table)
    return tmp_path


def test_images_are_found_by_the_name_that_their_data_set_gave_them(recipes, folder):
    wanted = recipes["many_labs"].lab_images(["fit"])
    assert [image.name for image in wanted] == ["ADI-TCGA-A", "Normal_100x_101"]
    paths = recipes["many_labs"].locate(folder, wanted)
    assert [str(path.relative_to(folder)) for path in paths] == [row[-1] for row in ROWS[:2]]


def test_sets_left_out_and_unknown_ones(recipes, folder):
    assert [image.set for image in recipes["many_labs"].lab_images(["fit"], ["crc"])] == ["oral"]
    with pytest.raises(RL2Error, match="There is no set glas; known are bcss, crc, oral"):
        recipes["many_labs"].lab_images(["fit"], ["glas"])


def test_other_files_than_expected_end_in_a_sentence(recipes, folder):
    wanted = recipes["many_labs"].lab_images(["fit", "reference"])
    Image.new("RGB", (40, 40)).save(folder / ROWS[2][-1])
    with pytest.raises(RL2Error, match=r"roi1_x0.png is 40 x 40 px; expected 48 x 40"):
        recipes["many_labs"].locate(folder, wanted)
    (folder / ROWS[2][-1]).unlink()
    with pytest.raises(RL2Error, match=r"1 of 3 images are not under .*, bcss/roi1_x0 for one"):
        recipes["many_labs"].locate(folder, wanted)
    Image.new("RGB", (48, 40)).save(folder / "crc" / "ADI-TCGA-A.png")
    with pytest.raises(RL2Error, match="have one name; expected one of the two"):
        recipes["many_labs"].locate(folder, wanted)


def test_no_group_is_on_two_sides_of_the_split(recipes):
    sides = {}
    for image in recipes["many_labs"].lab_images(["fit", "stop", "reference"]):
        if image.group:
            sides.setdefault((image.set, image.group), set()).add(image.split)
    assert len(sides) > 100
    assert all(len(splits) == 1 for splits in sides.values())


def test_kinds_of_tissue_are_of_labels_that_there_are(recipes):
    flow = recipes["histology_flow"]
    rows = recipes["many_labs"].lab_images(["fit"], flow.LEFT_OUT)
    labels = {(flow.LABELED_AS.get(image.set, image.set), image.kind) for image in rows}
    labels |= {(flow.LC25000, kind) for kind in recipes["lc25000"].KINDS}
    assert set(flow.KINDS) <= labels


def test_a_corpus_has_each_image_where_it_says(recipes, folder, monkeypatch):
    many_labs = recipes["many_labs"]
    monkeypatch.setattr(recipes["lc25000"], "tiles", lambda *_, **__: [])
    found = many_labs.corpus(folder, folder, ["fit", "reference"], [])
    assert found.names == ("bcss", "crc", "oral")
    for number in range(3):
        start, pixels = int(found.starts[number]), 48 * 40
        assert torch.equal(found.pixels[start : start + pixels, 0], torch.full((pixels,), 10 * number).byte())
    # One image of a kind is no class.
    assert found.classes.tolist() == [-1, -1, -1]
