import pytest
from PIL import Image
from torchvision.transforms.v2.functional import to_pil_image

from tests.fixtures.images import tissue
from tests.fixtures.slides import write_slide
from tests.screening.conftest import find, small_pixels, write_patches
from torchmetrics_rl2 import RL2Error
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
