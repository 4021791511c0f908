from dataclasses import FrozenInstanceError

import numpy as np
import pytest
import torch
from PIL import Image

from torchmetrics_rl2 import RL2Error
from torchmetrics_rl2.images import ImageReader, find_images, read_image
from torchmetrics_rl2.images.sampling import EvenSample

RGB = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)


def save(path, array, mode=None, **options):
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


def as_array(path):
    return read_image(path).permute(1, 2, 0).numpy()


@pytest.mark.parametrize("name", ["x.png", "x.bmp", "x.tif", "x.TIFF", "x.webp"])
def test_lossless_formats_come_back_to_the_bit(tmp_path, name):
    options = {"lossless": True} if name.endswith("webp") else {}
    assert np.array_equal(as_array(save(tmp_path / name, RGB, **options)), RGB)


def test_jpeg_is_pillows(tmp_path):
    path = save(tmp_path / "x.jpg", RGB, quality=60)
    assert np.array_equal(as_array(path), np.asarray(Image.open(path)))


def test_alpha_is_composed_over_white(tmp_path):
    rgba = np.dstack([RGB, np.full(RGB.shape[:2], 255, np.uint8)])
    rgba[:10, :, 3], rgba[10:20, :, 3] = 0, 128
    seen = as_array(save(tmp_path / "x.png", rgba))
    assert (seen[:10] == 255).all()
    np.testing.assert_allclose(seen[10:20], RGB[10:20] * (128 / 255) + 255 * (127 / 255), atol=1.01)
    assert np.array_equal(seen[20:], RGB[20:])


def test_palettes_are_looked_up(tmp_path):
    quantized = Image.fromarray(RGB).quantize(16)
    quantized.save(tmp_path / "x.png")
    assert np.array_equal(as_array(tmp_path / "x.png"), np.asarray(quantized.convert("RGB")))
    quantized.save(tmp_path / "clear.png", transparency=quantized.getpixel((0, 0)))
    assert (as_array(tmp_path / "clear.png")[0, 0] == 255).all()


def test_of_16_bits_the_upper_8_are_kept(tmp_path):
    # Pillow cannot write 16 bits a channel, so the file is written by hand.
    import struct
    import zlib

    values = np.random.default_rng(1).integers(0, 65536, (40, 50, 3)).astype(">u2")
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    header = struct.pack(">IIBBBBB", 50, 40, 16, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n" + parts)
    assert np.array_equal(as_array(tmp_path / "x.png"), (values >> 8).astype(np.uint8))


def test_cmyk_becomes_rgb(tmp_path):
    save(tmp_path / "x.tif", RGB, "CMYK")
    np.testing.assert_allclose(as_array(tmp_path / "x.tif"), RGB, atol=1)


def refused(folder):
    png = save(folder / "good.png", RGB)
    frames = [Image.fromarray(RGB), Image.fromarray(RGB)]
    frames[0].save(folder / "frames.tif", save_all=True, append_images=frames[1:])
    (folder / "half.png").write_bytes(png.read_bytes()[:2000])
    (folder / "text.png").write_text("hello")
    (folder / "empty.jpg").touch()
    save(folder / "gray.png", RGB[:, :, 0])
    save(folder / "gray16.png", RGB[:, :, 0].astype(np.uint16) * 257)
    save(folder / "dot.png", RGB[:1, :1])
    return {
        "gray.png": "grayscale",
        "gray16.png": "grayscale",
        "frames.tif": "holds 2 images",
        "half.png": "cannot be read",
        "text.png": "cannot be read",
        "empty.jpg": "cannot be read",
        "dot.png": "1 x 1 px; expected at least 32 x 32",
    }


def test_unusable_files_are_named_and_stop_the_run(tmp_path):
    for name, sentence in refused(tmp_path).items():
        with pytest.raises(RL2Error, match=f"{name}.*{sentence}.*--skip-unreadable"):
            list(ImageReader().read([tmp_path / "good.png", tmp_path / name]))


@pytest.mark.parametrize("workers", [0, 2])
def test_unusable_files_can_be_left_out_and_are_counted(tmp_path, workers):
    names = refused(tmp_path)
    reader = ImageReader(skip_unreadable=True, workers=workers)
    reading = reader.read(find_images(tmp_path))
    assert [path.name for batch in reading for path in batch.paths] == ["good.png"]
    assert len(reading.unreadable) == len(names)
    assert reading.done == len(names) + 1


def test_what_one_reading_could_not_read_is_not_counted_for_another(tmp_path):
    refused(tmp_path)
    reader = ImageReader(skip_unreadable=True)
    first, second = reader.read(find_images(tmp_path)), reader.read([tmp_path / "good.png"])
    assert [len(list(reading)) for reading in (first, second)] == [1, 1]
    assert first.unreadable
    assert (second.unreadable, second.done) == ([], 1)
    with pytest.raises(FrozenInstanceError):
        reader.tile = 64


def test_folders_globs_lists_and_files(tmp_path):
    (tmp_path / "sub" / "deep").mkdir(parents=True)
    for name in ("b.png", "a.PNG", "sub/c.jpg", "sub/deep/d.webp", "notes.txt", ".hidden.png", "x[1].png"):
        (tmp_path / name).touch()
    names = lambda source: [path.relative_to(tmp_path).as_posix() for path in find_images(source)]
    assert names(tmp_path) == ["a.PNG", "b.png", "sub/c.jpg", "sub/deep/d.webp", "x[1].png"]
    assert names(str(tmp_path / "*.png")) == ["b.png", "x[1].png"]
    assert names(f"{tmp_path}/**/*.webp") == ["sub/deep/d.webp"]
    assert names(tmp_path / "x[1].png") == ["x[1].png"]
    (tmp_path / "list.txt").write_text("sub/c.jpg\n\nb.png\nb.png\n")
    assert names(tmp_path / "list.txt") == ["sub/c.jpg", "b.png"]


def test_links_hidden_folders_and_second_names_of_a_file(tmp_path):
    for name in ("data/a.png", "data/.thumbs/b.png", "other/c.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "data" / "linked").symlink_to(tmp_path / "other")
    (tmp_path / "data" / "loop").symlink_to(tmp_path / "data")
    assert [path.name for path in find_images(tmp_path / "data")] == ["a.png", "c.png"]
    assert [path.name for path in find_images(f"{tmp_path}/data/**/*.png")] == ["a.png", "c.png"]
    (tmp_path / "list.txt").write_text("\ufeffdata/a.png\r\nother/../data/a.png\r\n", encoding="utf-8")
    assert find_images(tmp_path / "list.txt") == [tmp_path / "data" / "a.png"]
    with pytest.raises(RL2Error, match="is empty"):
        find_images("")
    with pytest.raises(RL2Error, match="no folder, list or image"):
        find_images("x" * 5000)


def test_many_sizes_do_not_wait_for_the_last_file(tmp_path):
    paths = [save(tmp_path / f"{i}.png", np.zeros((40 + i, 40, 3), np.uint8)) for i in range(40)]
    reading = ImageReader(batch_size=2).read(paths)
    batches = iter(reading)
    next(batches)
    assert reading.done < 20
    assert 1 + sum(1 for _ in batches) == 40


@pytest.mark.parametrize("kind", ["empty folder", "texts", "nothing", "glob", "bad list", "empty list", "binary"])
def test_a_source_without_images_says_so(tmp_path, kind):
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "bad.txt").write_text("gone.png\n")
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "binary.dat").write_bytes(bytes(range(256)))
    if kind == "texts":
        (folder / "readme.txt").touch()
    source, sentence = {
        "empty folder": (folder, "holds no images"),
        "texts": (folder, "but 1 other file"),
        "nothing": (tmp_path / "missing", "There is no folder"),
        "glob": (tmp_path / "*.png", "no image matches it"),
        "bad list": (tmp_path / "bad.txt", "1 of 1 lines"),
        "empty list": (tmp_path / "empty.txt", "is empty"),
        "binary": (tmp_path / "binary.dat", "neither an image"),
    }[kind]
    with pytest.raises(RL2Error, match=sentence):
        find_images(source)


def test_tiles_are_cut_row_by_row(tmp_path):
    image = np.random.default_rng(2).integers(0, 256, (100, 70, 3), dtype=np.uint8)
    (batch,) = ImageReader(tile=32).read([save(tmp_path / "x.png", image)])
    expected = [image[y : y + 32, x : x + 32] for y in (0, 32, 64) for x in (0, 32)]
    assert np.array_equal(batch.images.permute(0, 2, 3, 1).numpy(), np.stack(expected))


def test_tiles_larger_than_the_images_are_to_be_made_smaller(tmp_path):
    path = save(tmp_path / "x.png", np.zeros((224, 224, 3), dtype=np.uint8))
    with pytest.raises(RL2Error, match=r"expected at least 512 x 512\. Give a smaller --tile, or none\."):
        list(ImageReader(tile=512).read([path]))


def test_scale_comes_before_tiles_and_is_antialiased(tmp_path):
    checkers = np.indices((128, 128)).sum(0) % 2 * 255
    path = save(tmp_path / "x.png", np.repeat(checkers[:, :, None], 3, 2).astype(np.uint8))
    (batch,) = ImageReader(tile=32, scale=0.5).read([path])
    assert batch.images.shape == (4, 3, 32, 32)
    assert (batch.images.float() - 127.5).abs().max() < 20


def test_batches_hold_one_size_and_all_images(tmp_path):
    paths = []
    for i in range(10):
        side = 40 if i % 3 else 48
        paths.append(save(tmp_path / f"{i}.png", np.full((side, side, 3), i, np.uint8)))
    batches = list(ImageReader(batch_size=3).read(paths))
    assert all(len(batch.images) <= 3 for batch in batches)
    seen = {
        path.name: int(image[0, 0, 0])
        for batch in batches
        for path, image in zip(batch.paths, batch.images, strict=True)
    }
    assert seen == {f"{i}.png": i for i in range(10)}
    assert torch.stack([torch.tensor(batch.images.shape[2:]) for batch in batches]).unique(dim=0).tolist() == [
        [40, 40],
        [48, 48],
    ]


@pytest.mark.parametrize(
    "wrong", [{"tile": 31}, {"scale": 0.0}, {"scale": float("nan")}, {"scale": 1e9}, {"batch_size": 0}, {"workers": -1}]
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(RL2Error, match="got"):
        ImageReader(**wrong)


@pytest.mark.parametrize("n", [0, 1, 5, 6, 11, 100])
def test_a_sample_of_a_stream_is_even_and_bounded(n):
    sample = EvenSample[int](5)
    for i in range(n):
        sample.add(i)
    assert min(n, 5) / 2 <= len(sample.items) <= 5
    assert sample.items == list(range(0, n, sample.items[1] if n > 1 else 1))
