import pytest
import torch
from torchvision.transforms.v2.functional import to_pil_image

from tests.fixtures.images import tissue
from tests.fixtures.slides import write_slide
from tests.screening.conftest import TILES, find, small_pixels, write_patches
from torchmetrics_rl2 import RL2Error
from torchmetrics_rl2.images import ImageReader, read_image
from torchmetrics_rl2.screening.rows import FilePlace
from torchmetrics_rl2.screening.slide_file import SlideFile, TileReader


@pytest.fixture
def folder(tmp_path):
    return write_patches(tmp_path / "patches", tissue(5, px=128))


def test_patches_keep_their_file_and_tile(folder):
    opened = find(folder, reader=ImageReader(tile=64, batch_size=3))[0].open()
    batches = list(opened.batches())
    places = [place for batch in batches for place in batch.places]
    assert len(places) == 20
    assert [place.tile for place in places if place.path.endswith("03.png")] == [0, 1, 2, 3]
    assert (opened.total, batches[-1].done) == (5, 5)
    images = torch.cat([batch.images for batch in batches])
    for image, place in list(zip(images, places, strict=True))[::7]:
        assert torch.equal(opened.patch(place), image)
    second = FilePlace(str(folder / "03.png"), 1)
    assert torch.equal(opened.patch(second), read_image(folder / "03.png")[:, :64, 64:])


def test_a_tile_of_a_slide_is_read_again_as_it_was(small_slide):
    opened = find(small_slide)[0].open()
    (batch,) = opened.batches()
    assert [[place.x, place.y] for place in batch.places] == opened.places.tolist()
    assert (batch.done, opened.total, opened.unreadable) == (10, 10, 0)
    assert torch.equal(opened.patch(batch.places[4]), batch.images[4])
    assert (opened.grid.mpp, opened.grid.target_mpp, opened.grid.px, opened.grid.size) == (0.25, 0.5, 64, 128)


def test_slides_say_what_they_cannot_give(small_slide, tmp_path):
    with pytest.raises(RL2Error, match=r"has 0.25 um/px, coarser than the 0.2 of the tiles.*--target-mpp"):
        SlideFile(small_slide, TileReader(64, 0.2, 0.2)).open()
    glass = write_slide(tmp_path / "glass.svs", small_pixels() * 0 + 240)
    with pytest.raises(RL2Error, match="has no tissue on which a tile of 64 px at 0.5 um/px fits"):
        SlideFile(glass, TILES).open()


def test_samples_are_a_part_and_batches_all(small_slide, folder, monkeypatch):
    for room in ("slide_file", "patch_folder"):
        monkeypatch.setattr(f"torchmetrics_rl2.screening.{room}.SAMPLE", 4)
    opened = find(small_slide)[0].open()
    stain, sample = opened.sample()
    assert stain.white == opened.slide.white
    patches = find(folder)[0].open()
    for one, batches in ((opened, sample), (patches, patches.sample()[1])):
        assert sum(map(len, batches)) == 4
        assert sum(len(batch.places) for batch in one.batches()) == one.total > 4


def test_a_preview_opens_a_part_and_leaves_the_source_whole(small_slide, folder):
    for source, total in zip(find(small_slide, folder), (10, 5), strict=True):
        few = source.open(most=2)
        assert sum(len(batch.places) for batch in few.batches()) == few.total == 2
        assert source.open().total == total


def test_unreadable_files_are_counted_once_and_for_their_own_folder(folder, tmp_path):
    broken = write_patches(tmp_path / "broken", tissue(3))
    (broken / "01.png").write_text("no image")
    reader = ImageReader(skip_unreadable=True)
    opened = [source.open() for source in find(folder, broken, reader=reader)]
    for one in opened:
        one.sample()
    assert [one.unreadable for one in opened] == [0, 0]
    read = [sum(len(batch.places) for batch in one.batches()) for one in (*opened, *opened)]
    assert read == [5, 2, 5, 2]
    assert [one.unreadable for one in opened] == [0, 1]
    for path in broken.iterdir():
        path.write_text("no image")
    with pytest.raises(RL2Error, match="None of 3 files of .*broken could be read"):
        opened[1].sample()


def test_identity_follows_what_is_in_the_file(small_slide, folder, tmp_path):
    copy = tmp_path / "case-2.svs"
    copy.write_bytes(small_slide.read_bytes())
    assert find(copy)[0].identity == find(small_slide)[0].identity
    copy.write_bytes(small_slide.read_bytes() + b"0")
    assert find(copy)[0].identity != find(small_slide)[0].identity
    before = find(folder)[0].identity
    assert find(folder)[0].identity == before
    to_pil_image(tissue(1, seed=8)[0]).save(folder / "03.png")
    assert find(folder)[0].identity != before


def test_a_folder_in_fluorescence_is_no_bright_field(tmp_path):
    draws = torch.Generator().manual_seed(0)
    images = torch.zeros(4, 3, 64, 64, dtype=torch.uint8)
    images[:, 2, 20:32, 20:32] = torch.randint(120, 255, (4, 12, 12), generator=draws, dtype=torch.uint8)
    with pytest.raises(RL2Error, match="no bright-field image"):
        find(write_patches(tmp_path / "dapi", images))[0].open().sample()
    black = find(write_patches(tmp_path / "black", torch.zeros_like(images)))[0].open()
    assert len(black.sample()[1]) == 1  # nothing to tell
