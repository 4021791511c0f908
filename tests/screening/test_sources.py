from pathlib import Path

import pytest
import torch
from PIL import Image
from torchvision.transforms.v2.functional import to_pil_image

from tests.conftest import slide_pixels, tissue, write_slide
from torchmetrics_rl2 import RL2Error
from torchmetrics_rl2.images.reader import ImageReader
from torchmetrics_rl2.images.decode import read_image
from torchmetrics_rl2.screening.sources import PatchFolder, SlideSource, find_screen_sources

HOW = {"px": 64, "target_mpp": 0.5, "mpp": None, "mpps": {}, "min_tissue": 0.2, "workers": 0, "out": Path("nowhere")}


def find(*sources, reader=None, **changes):
    return find_screen_sources(sources, **{**HOW, **changes}, reader=reader or ImageReader())


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "patches").mkdir()
    for i, image in enumerate(tissue(5, px=128)):
        to_pil_image(image).save(tmp_path / "patches" / f"{i}.png")
    return tmp_path / "patches"


def test_slides_and_patches_are_told_apart(slide_file, folder, tmp_path):
    found = find(slide_file, folder, f"{folder}/*1.png", slide_file)
    assert [type(one) for one in found] == [SlideSource, PatchFolder, PatchFolder]
    assert [len(one.paths) for one in found[1:]] == [5, 1]
    assert [one.path.name for one in find(slide_file.parent)] == ["case-1.svs"]
    Image.fromarray(slide_pixels()).resize((4100, 4100)).save(folder / "section.jpg")
    with pytest.raises(RL2Error, match=r"mixes 1 slide\(s\), section.jpg for one, with 5 patches, 0.png for one"):
        find(folder)


def test_links_are_followed_and_hidden_images_are_none(slide_file, tmp_path):
    (tmp_path / "cohort" / ".thumbnails").mkdir(parents=True)
    (tmp_path / "cohort" / "linked").symlink_to(slide_file.parent)
    for name in (".thumbnails/1.png", ".2.png"):
        to_pil_image(tissue(1)[0]).save(tmp_path / "cohort" / name)
    assert [one.path.name for one in find(tmp_path / "cohort")] == ["case-1.svs"]


def test_pictures_of_a_screen_are_no_patches(folder):
    (folder / "before").mkdir()
    to_pil_image(tissue(1)[0]).save(folder / "before" / "contact_sheet.png")
    (folder / "before" / "screen.json").write_text("{}")
    assert len(find(folder)[0].paths) == 5
    with pytest.raises(RL2Error, match="nothing but pictures of an earlier screen"):
        find(folder / "before")


def test_resolutions_are_found_by_name_stem_or_path(slide_file, tmp_path):
    for key in ("case-1", "case-1.svs", str(slide_file)):
        assert find(slide_file, mpps={key: 0.3}, mpp=0.4)[0].mpp == 0.3
    other = write_slide(tmp_path / "other.svs", slide_pixels())
    assert [one.mpp for one in find(slide_file, other, mpps={"other": 0.3}, mpp=0.4)] == [0.4, 0.3]
    with pytest.raises(RL2Error, match="has none, and none of the slides, case-1.svs for one"):
        find(slide_file, mpps={"none": 0.3})


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(RL2Error, match="There is no folder, list or image"):
        find(tmp_path / "none")
    with pytest.raises(RL2Error, match="holds no images"):
        find(tmp_path)


def test_patches_keep_their_file_and_tile(folder):
    source = find(folder, reader=ImageReader(tile=64, batch_size=3))[0]
    read = [(images, rows) for images, rows in source.batches()]
    rows = [row for _, some in read for row in some]
    assert len(rows) == 20
    assert [row["tile"] for row in rows if row["path"].endswith("3.png")] == [0, 1, 2, 3]
    images = torch.cat([images for images, _ in read])
    for image, row in list(zip(images, rows, strict=True))[::7]:
        assert torch.equal(source.patch(row), image)
    assert torch.equal(
        source.patch({"path": str(folder / "3.png"), "tile": 1}), read_image(folder / "3.png")[:, :64, 64:]
    )


def test_slides_say_what_they_cannot_give(slide_file, tmp_path):
    coarse = find(slide_file, target_mpp=0.2)[0]
    with pytest.raises(RL2Error, match=r"has 0.25 um/px, coarser than the 0.2 of the tiles.*--target-mpp"):
        coarse.prepare()
    glass = slide_pixels() * 0 + 240
    empty = find(write_slide(tmp_path / "glass.svs", glass))[0]
    with pytest.raises(RL2Error, match="has no tissue on which a tile of 64 px at 0.5 um/px fits"):
        empty.prepare()


def test_samples_are_a_part_and_batches_all(slide_file, monkeypatch):
    monkeypatch.setattr("torchmetrics_rl2.screen_sources.SAMPLE", 7)
    source = find(slide_file)[0]
    total = source.prepare()
    stain, sample = source.sample()
    assert sum(len(images) for images in sample) == 7 or total > 7
    assert stain.white == source.slide.white
    rows = [row for _, some in source.batches() for row in some]
    assert [[row["x"], row["y"]] for row in rows] == source.places.tolist()
    assert source.done == total
    source.limit(4)
    assert source.prepare() == 4


def test_identity_follows_what_is_in_the_file(slide_file, folder, tmp_path):
    copy = tmp_path / "case-1.svs"
    copy.write_bytes(slide_file.read_bytes())
    assert find(copy)[0].identity == find(slide_file)[0].identity
    copy.write_bytes(slide_file.read_bytes() + b"0")
    assert find(copy)[0].identity != find(slide_file)[0].identity
    before = find(folder)[0].identity
    assert find(folder)[0].identity == before
    to_pil_image(tissue(1, seed=8)[0]).save(folder / "3.png")
    assert find(folder)[0].identity != before
