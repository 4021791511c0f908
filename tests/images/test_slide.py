import numpy as np
import openslide
import pytest
import tifffile
import torch
from PIL import Image
from skimage.filters import gaussian

from tests.conftest import slide_pixels, write_slide
from torchmetrics_rl2 import RL2Error
from torchmetrics_rl2.images import Slide, read_mpps
from torchmetrics_rl2.images.slide_handle import is_slide


@pytest.fixture
def slide(slide_file):
    return Slide.open(slide_file)


def test_what_the_file_says_is_known(slide):
    assert (slide.mpp, slide.size, slide.downsamples) == (0.25, (1024, 1024), (1.0, 2.0))
    assert slide.field(64, 0.5) == 128


def test_tiles_are_read_by_mpp_from_the_nearest_level(slide, slide_file):
    pixels = slide_pixels()
    at_level_0 = slide.read((256, 256), 64, 0.25)
    np.testing.assert_array_equal(at_level_0.permute(1, 2, 0).numpy(), pixels[256:320, 256:320])
    at_level_1 = slide.read((256, 256), 64, 0.5)
    np.testing.assert_array_equal(at_level_1.permute(1, 2, 0).numpy(), pixels[256:384:2, 256:384:2])
    # Between levels the finer one is read, and made smaller.
    between = slide.read((256, 256), 64, 0.375).permute(1, 2, 0).numpy()
    oracle = Image.fromarray(pixels[256:352, 256:352]).resize((64, 64), Image.Resampling.BILINEAR)
    assert np.abs(between.astype(int) - np.asarray(oracle).astype(int)).max() <= 1


def test_an_override_of_mpp_changes_what_is_read(slide_file):
    doubled = Slide.open(slide_file, 0.5)
    np.testing.assert_array_equal(doubled.read((0, 256), 64, 0.5), Slide.open(slide_file).read((0, 256), 64, 0.25))


def test_tissue_and_ink_are_found_and_glass_is_not(slide):
    places = {tuple(place) for place in slide.tiles(64, 0.5, 0.5).tolist()}
    tissue = {(x, y) for x in range(0, 640, 128) for y in range(128, 1024, 128)}
    assert (768, 128) in places
    assert len(places & tissue) >= 0.9 * len(tissue)
    assert not {(x, y) for x, y in places if x >= 640} - {(768, 128)}
    # Row by row.
    listed = slide.tiles(64, 0.5, 0.5).tolist()
    assert listed == sorted(listed, key=lambda place: (place[1], place[0]))


def test_a_grid_of_fractional_size_stays_inside(slide):
    places = slide.tiles(60, 0.377, 0.01)
    field = slide.field(60, 0.377)
    assert field != round(field)
    assert int(places.max()) + field <= 1024
    assert torch.equal(places, torch.round(torch.round(places / field) * field).long())


def test_glass_of_any_gray_is_glass(tmp_path):
    gray = (slide_pixels().astype(int) * 4 // 5).astype(np.uint8)
    slide = Slide.open(write_slide(tmp_path / "gray.svs", gray))
    assert not [place for place in slide.tiles(64, 0.5, 0.5).tolist() if place[0] >= 640 and place != [768, 128]]


def test_all_glass_has_no_tissue_and_all_tissue_has_all(tmp_path):
    glass = np.full((512, 512, 3), 240, dtype=np.uint8)
    glass += np.random.default_rng(0).integers(0, 3, glass.shape, dtype=np.uint8)
    assert len(Slide.open(write_slide(tmp_path / "glass.svs", glass)).tiles(64, 0.5, 0.2)) == 0
    whole = slide_pixels()[256:768, 0:512]
    assert len(Slide.open(write_slide(tmp_path / "whole.svs", whole)).tiles(64, 0.5, 0.2)) >= 14


def test_batches_of_workers_are_what_reading_one_by_one_gives(slide):
    places = slide.tiles(64, 0.5, 0.5)[:5]
    for workers in (0, 2):
        read = list(slide.batches(places, 64, 0.5, 2, workers))
        assert [len(images) for images, _ in read] == [2, 2, 1]
        assert torch.equal(torch.cat([where for _, where in read]), places)
        assert torch.equal(
            torch.cat([images for images, _ in read]), torch.stack([slide.read(p, 64, 0.5) for p in places.tolist()])
        )


def test_what_was_not_scanned_is_white(slide):
    assert (slide.read((1024, 1024), 32, 0.25) == 255).all()


def test_bounds_of_a_scan_are_respected(slide_file, monkeypatch):
    class Bounded(openslide.OpenSlide):
        @property
        def properties(self):
            bounds = {"x": 100, "y": 128, "width": 600, "height": 640}
            return {**super().properties, **{f"openslide.bounds-{key}": str(value) for key, value in bounds.items()}}

    monkeypatch.setattr(openslide, "OpenSlide", Bounded)
    monkeypatch.setattr("torchmetrics_rl2.images.slide_handle._handles", {})
    slide = Slide.open(slide_file)
    assert (slide.origin, slide.extent) == ((100, 128), (600, 640))
    places = slide.tiles(64, 0.5, 0.5)
    assert set((places[:, 0] % 128).tolist()) == {100}
    assert int(places[:, 1].min()) == 128


def test_one_large_image_is_a_slide_of_one_level(tmp_path):
    pixels = slide_pixels()
    Image.fromarray(pixels).resize((4100, 1025)).save(tmp_path / "section.png")
    Image.fromarray(pixels).save(tmp_path / "patch.png")
    assert is_slide(tmp_path / "section.png")
    assert not is_slide(tmp_path / "patch.png")
    slide = Slide.open(tmp_path / "section.png", 0.5)
    assert slide.downsamples == (1.0,)
    assert next(iter(slide.batches(slide.tiles(64, 2.0, 0.5)[:3], 64, 2.0, 3, 1)))[0].shape == (3, 3, 64, 64)


def test_one_large_image_is_read_as_patches_are(tmp_path):
    clear = Image.new("RGBA", (4200, 300), (0, 0, 0, 0))
    clear.save(tmp_path / "clear.png")
    assert Slide.open(tmp_path / "clear.png", 0.5).read((0, 0), 32, 0.5).min() == 255
    Image.new("L", (4200, 300)).save(tmp_path / "gray.png")
    with pytest.raises(RL2Error, match="gray.png is grayscale"):
        Slide.open(tmp_path / "gray.png", 0.5)


def test_bad_files_and_resolutions_end_in_a_sentence(slide_file, tmp_path):
    without = write_slide(tmp_path / "without.svs", slide_pixels(), mpp=None)
    with pytest.raises(RL2Error, match="does not say its resolution. Give it in um/px with --mpp, or a CSV"):
        Slide.open(without)
    assert Slide.open(without, 0.5).mpp == 0.5
    (tmp_path / "text.svs").write_text("no slide")
    (tmp_path / "cut.svs").write_bytes(slide_file.read_bytes()[:5000])
    for name in ("text.svs", "cut.svs"):
        with pytest.raises(RL2Error, match="is no slide that OpenSlide can read, or is cut off"):
            Slide.open(tmp_path / name, 0.5)
    with pytest.raises(RL2Error, match="There is no slide"):
        Slide.open(tmp_path / "none.svs", 0.5)
    with pytest.raises(RL2Error, match="would have 500 um/px; expected 0.02 to 50"):
        Slide.open(slide_file, 500)


def test_tables_of_mpp_are_read_and_refused(tmp_path):
    table = tmp_path / "mpp.csv"
    table.write_text("slide,mpp\na.svs,0.25\nb,0.5\n")
    assert read_mpps(table) == {"a.svs": 0.25, "b": 0.5}
    table.write_text("wsi,mpp\na.svs,0.25\n")  # as TRIDENT has it
    assert read_mpps(table) == {"a.svs": 0.25}
    for text in ("slide,um\na,1\n", "slide,mpp\na,x\n", ""):
        table.write_text(text)
        with pytest.raises(RL2Error, match="no CSV with the columns slide and mpp"):
            read_mpps(table)


def generic_tiff(path, levels, resolutions=None):
    """A tiled TIFF of no scanner, with a resolution in pixels per cm for each page."""
    with tifffile.TiffWriter(path) as file:
        for i, level in enumerate(levels):
            how = {"resolution": resolutions[i], "resolutionunit": "CENTIMETER"} if resolutions else {}
            file.write(level.copy(), tile=(256, 256), photometric="rgb", metadata=None, subfiletype=int(i > 0), **how)
    return path


def test_a_tiled_tiff_of_the_size_of_a_patch_is_a_patch(tmp_path):
    pixels = slide_pixels()
    assert not is_slide(generic_tiff(tmp_path / "patch.tif", [pixels]))
    assert is_slide(generic_tiff(tmp_path / "pyramid.tif", [pixels, pixels[::2, ::2]]))
    assert is_slide(generic_tiff(tmp_path / "section.tif", [np.tile(pixels, (1, 5, 1))]))


def test_axes_of_different_resolution_are_refused_and_nearly_the_same_ones_are_not(tmp_path):
    levels = [np.tile(slide_pixels(), (1, 5, 1))]
    other = generic_tiff(tmp_path / "other.tif", levels, [(40_000, 20_000)])
    with pytest.raises(RL2Error, match=r"has 0.25 um/px along x and 0.5 along y; expected the same"):
        Slide.open(other)
    assert Slide.open(other, 0.25).mpp == 0.25
    near = generic_tiff(tmp_path / "near.tif", levels, [(40_000, 39_600)])
    assert Slide.open(near).mpp == pytest.approx(0.25126, rel=1e-3)


def test_levels_from_coarse_to_fine_have_the_resolution_of_the_finest(tmp_path):
    pixels = np.tile(slide_pixels(), (1, 5, 1))
    levels, resolutions = [pixels[::4, ::4], pixels[::2, ::2], pixels], [(10_000,) * 2, (20_000,) * 2, (40_000,) * 2]
    slide = Slide.open(generic_tiff(tmp_path / "up.tif", levels, resolutions))
    assert (slide.mpp, slide.size) == (pytest.approx(0.25), (5120, 1024))
    np.testing.assert_array_equal(slide.read((0, 256), 64, 0.25).permute(1, 2, 0).numpy(), pixels[256:320, :64])


def test_black_is_no_tissue_and_moves_nothing(tmp_path):
    pixels = slide_pixels()
    wide = np.concatenate([pixels, np.full((1024, 1024, 3), 4, np.uint8)], axis=1)
    plain, black = (Slide.open(write_slide(tmp_path / f"{i}.svs", p)) for i, p in enumerate((pixels, wide)))
    assert black.white == plain.white
    assert {tuple(p) for p in black.tiles(64, 0.5, 0.2).tolist()} == {
        tuple(p) for p in plain.tiles(64, 0.5, 0.2).tolist()
    }


@pytest.mark.parametrize("color", [(0, 0, 1), (0, 1, 0.2), (1, 1, 1)])
def test_a_dark_field_is_no_bright_field(tmp_path, color):
    draws = np.random.default_rng(0)
    spots = gaussian(draws.random((1024, 1024)) > 0.999, 4) * 60
    noise = draws.random((1024, 1024, 1)) * 0.03
    pixels = ((spots[..., None] * np.array(color) + noise).clip(0, 1) * 255).astype(np.uint8)
    with pytest.raises(RL2Error, match="no bright-field image"):
        Slide.open(write_slide(tmp_path / "x.svs", pixels)).tiles(64, 0.5, 0.2)
