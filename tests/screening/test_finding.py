import pytest
from PIL import Image
from torchvision.transforms.v2.functional import to_pil_image

from tests.fixtures.dicom import write_dicom
from tests.fixtures.images import tissue
from tests.fixtures.slides import write_slide
from tests.screening.conftest import TILES, find, small_pixels, write_patches
from torchmetrics_rl2 import RL2Error
from torchmetrics_rl2.images import ImageReader
from torchmetrics_rl2.screening.finding import find_sources
from torchmetrics_rl2.screening.patch_folder import PatchFolder
from torchmetrics_rl2.screening.slide_file import SlideFile


@pytest.fixture
def folder(tmp_path):
    return write_patches(tmp_path / "patches", tissue(5))


def test_slides_and_patches_are_told_apart(small_slide, folder):
    found = find(small_slide, folder, f"{folder}/*1.png", small_slide)
    assert [type(one) for one in found] == [SlideFile, PatchFolder, PatchFolder]
    assert [len(one.paths) for one in found[1:]] == [5, 1]
    assert [one.name for one in found] == ["case-2", "patches", "patches"]
    assert [one.path.name for one in find(small_slide.parent)] == ["case-2.svs"]
    Image.fromarray(small_pixels()).resize((4100, 4100)).save(folder / "section.jpg")
    with pytest.raises(RL2Error, match=r"mixes 1 slide\(s\), section.jpg for one, with 5 patches, 00.png for one"):
        find(folder)


def test_links_are_followed_and_hidden_images_are_none(small_slide, tmp_path):
    (tmp_path / "cohort" / ".thumbnails").mkdir(parents=True)
    (tmp_path / "cohort" / "linked").symlink_to(small_slide.parent)
    for name in (".thumbnails/1.png", ".2.png"):
        to_pil_image(tissue(1)[0]).save(tmp_path / "cohort" / name)
    assert [one.path.name for one in find(tmp_path / "cohort")] == ["case-2.svs"]


def test_pictures_of_a_screen_are_no_patches(folder):
    write_patches(folder / "before", tissue(1))
    (folder / "before" / "screen.json").write_text("{}")
    assert len(find(folder)[0].paths) == 5
    with pytest.raises(RL2Error, match="nothing but pictures of an earlier screen"):
        find(folder / "before")


def test_resolutions_are_found_by_name_stem_or_path(small_slide, tmp_path):
    for key in ("case-2", "case-2.svs", str(small_slide)):
        assert find(small_slide, mpps={key: 0.3}, mpp=0.4)[0].mpp == 0.3
    other = write_slide(tmp_path / "other.svs", small_pixels())
    assert [one.mpp for one in find(small_slide, other, mpps={"other": 0.3}, mpp=0.4)] == [0.4, 0.3]
    with pytest.raises(RL2Error, match="has none, and none of the slides, case-2.svs for one"):
        find(small_slide, mpps={"none": 0.3})


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(RL2Error, match="There is no folder, list or image"):
        find(tmp_path / "none")
    with pytest.raises(RL2Error, match="There is no slide"):
        find(tmp_path / "none.svs")
    with pytest.raises(RL2Error, match="holds no images"):
        find(tmp_path)


def test_a_dicom_series_is_one_slide(tmp_path):
    for case, series in (("case-7", "1.2.3.7"), ("case-8", "1.2.3.8")):
        write_dicom(tmp_path / case, small_pixels(), series=series)
    found = find(tmp_path)
    assert [(one.name, len(one.parts)) for one in found] == [("case-7", 2), ("case-8", 2)]
    opened = found[0].open()
    assert (opened.slide.mpp, opened.slide.size, opened.total > 3) == (0.25, (640, 640), True)
    before = found[0].identity
    write_dicom(tmp_path / "case-7", small_pixels(seed=1), series="1.2.3.7")
    assert find(tmp_path)[0].identity != before
    (one,) = find(next((tmp_path / "case-8").iterdir()))
    assert one.open().slide.size == (640, 640)


def test_slides_of_any_ending_are_found_and_the_rest_is_named(tmp_path):
    for name in ("a.qptiff", "b.btf", "c.tif"):
        write_slide(tmp_path / name, small_pixels())
    (tmp_path / "notes.txt").write_text("text")
    (tmp_path / "d.mrxs").write_text("index")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "Data0001.dat").write_text("data")
    found = find_sources([tmp_path], tmp_path / "out", reader=ImageReader(), tiles=TILES)
    assert [one.path.name for one in found.sources] == ["a.qptiff", "b.btf", "c.tif", "d.mrxs"]
    assert {source: [path.name for path in files] for source, files in found.left_out.items()} == {
        str(tmp_path): ["notes.txt"]
    }


def test_patches_of_any_ending_are_found(folder):
    (folder / "00.png").rename(folder / "00.jfif")
    (folder / "01.png").rename(folder / "01")
    assert len(find(folder)[0].paths) == 5
