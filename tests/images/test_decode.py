import struct

import numpy as np
import pytest
import tifffile
from PIL import Image

from torchmetrics_rl2 import RL2Error
from torchmetrics_rl2.images import ImageReader, read_image
from torchmetrics_rl2.images.decode import open_image
from torchmetrics_rl2.images.formats import format_of

RGB = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)


def as_array(path):
    return read_image(path).permute(1, 2, 0).numpy()


def test_the_preview_of_a_camera_is_no_second_image(tmp_path):
    photo, preview = Image.fromarray(RGB), Image.fromarray(RGB[::2, ::2])
    photo.save(tmp_path / "photo.jpg", "MPO", save_all=True, append_images=[preview], quality=95)
    assert Image.open(tmp_path / "photo.jpg").n_frames == 2
    assert as_array(tmp_path / "photo.jpg").shape == RGB.shape
    assert format_of(tmp_path / "photo.jpg") == "JPEG"


@pytest.mark.parametrize("tagged", [True, False])
@pytest.mark.parametrize("largest", [0, 2])
def test_smaller_copies_in_a_tiff_are_no_second_image(tmp_path, tagged, largest):
    levels = [RGB, RGB[::2, ::2], RGB[::4, ::4]][:: 1 if largest == 0 else -1]
    with tifffile.TiffWriter(tmp_path / "x.tif") as file:
        for level in levels:
            file.write(level.copy(), photometric="rgb", subfiletype=int(tagged and level is not RGB), metadata=None)
    np.testing.assert_array_equal(as_array(tmp_path / "x.tif"), RGB)


def test_16_bits_of_a_camera_of_12_are_refused_as_almost_black(tmp_path):
    deep = RGB.astype(np.uint16)
    tifffile.imwrite(tmp_path / "x.tif", deep * 257, photometric="rgb")
    np.testing.assert_array_equal(as_array(tmp_path / "x.tif"), RGB)
    tifffile.imwrite(tmp_path / "x.tif", deep * 16, photometric="rgb", compression="zlib")
    with pytest.raises(RL2Error, match=r"x\.tif has 16 bits a channel, and uses 13 of them at most.* almost black"):
        read_image(tmp_path / "x.tif")
    Image.fromarray(RGB // 16).save(tmp_path / "dark.png")  # 8 bits: as dark as it says
    np.testing.assert_array_equal(as_array(tmp_path / "dark.png"), RGB // 16)


def test_16_bits_with_alpha_of_a_camera_of_12_are_no_empty_slide(tmp_path):
    rgba = np.dstack([RGB, np.full(RGB.shape[:2], 255)]).astype(np.uint16) * 16
    tifffile.imwrite(tmp_path / "x.tif", rgba, photometric="rgb", extrasamples=["unassalpha"])
    with pytest.raises(RL2Error, match="almost black"):
        read_image(tmp_path / "x.tif")


def test_16_bits_of_a_tiff_channel_by_channel_are_refused_as_pillow_scrambles_them(tmp_path):
    planes = RGB.transpose(2, 0, 1).astype(np.uint16) * 257
    tifffile.imwrite(tmp_path / "x.tif", planes, photometric="rgb", planarconfig="separate")
    with pytest.raises(RL2Error, match="channels one after the other, which Pillow cannot read. Save it with interl"):
        read_image(tmp_path / "x.tif")
    tifffile.imwrite(tmp_path / "x.tif", RGB.transpose(2, 0, 1), photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(as_array(tmp_path / "x.tif"), RGB)


def test_16_bits_that_are_black_are_read(tmp_path):
    tifffile.imwrite(tmp_path / "x.tif", np.zeros((64, 96, 3), np.uint16), photometric="rgb")
    assert as_array(tmp_path / "x.tif").max() == 0


def test_16_bits_in_memory_are_taken(tmp_path):
    tifffile.imwrite(tmp_path / "x.tif", RGB.astype(np.uint16) * 257, photometric="rgb")
    image = Image.open(tmp_path / "x.tif")
    image.load()
    np.testing.assert_array_equal(np.asarray(open_image(tmp_path / "x.tif", image)), RGB)


def test_a_dark_bmp_of_16_bits_a_pixel_is_read(tmp_path):
    pixels, masks = np.full((8, 8), 0x0841, "<u2").tobytes(), struct.pack("<III", 0xF800, 0x7E0, 0x1F)
    header = struct.pack("<IiiHHIIiiII", 40, 8, 8, 1, 16, 3, len(pixels), 0, 0, 0, 0)
    (tmp_path / "x.bmp").write_bytes(b"BM" + struct.pack("<IHHI", 66 + len(pixels), 0, 0, 66) + header + masks + pixels)
    assert as_array(tmp_path / "x.bmp").max() == 8


def test_several_images_stay_several(tmp_path):
    with tifffile.TiffWriter(tmp_path / "x.tif") as file:
        for page in (RGB, RGB[:, ::-1]):
            file.write(page.copy(), photometric="rgb", metadata=None)
    Image.fromarray(RGB).save(tmp_path / "x.png", save_all=True, append_images=[Image.fromarray(RGB[::-1].copy())])
    for name in ("x.tif", "x.png"):
        with pytest.raises(RL2Error, match="holds 2 images; expected one"):
            read_image(tmp_path / name)


def test_formats_are_told_by_content(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "x.png", "JPEG")
    (tmp_path / "y.png").write_text("no image")
    assert [format_of(tmp_path / name) for name in ("x.png", "y.png", "none.png")] == ["JPEG", "", ""]
    (batch,) = ImageReader().read([tmp_path / "x.png"])
    assert batch.formats == ("JPEG",)


def test_a_section_is_no_bomb_and_has_to_be_cut(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # as if it had 200 million pixels
    path = tmp_path / "section.png"
    Image.new("RGB", (4800, 64), "white").save(path)
    with pytest.raises(RL2Error, match="4800 x 64 px, more than a patch has, which is at most 4096. Cut it into"):
        next(iter(ImageReader().read([path])))
    assert next(iter(ImageReader(tile=64).read([path]))).images.shape == (64, 3, 64, 64)
    assert Image.MAX_IMAGE_PIXELS == 1000
