import json
import os
import unicodedata

import pytest
from PIL import Image

from tests.fixtures.images import random_images
from torchmetrics_rl2 import RL2Error
from torchmetrics_rl2.images import find_images, groups_of
from torchmetrics_rl2.images.find import find
from torchmetrics_rl2.images.lists import line_of


@pytest.fixture
def image():
    return Image.fromarray(random_images(1)[0].permute(1, 2, 0).numpy())


def test_content_tells_what_is_an_image_and_the_rest_is_named(image, tmp_path):
    for name in ("a.jfif", "b.jpe", "c", "d.jpg"):
        image.save(tmp_path / name, "JPEG")
    image.save(tmp_path / "e.jp2")
    image.save(tmp_path / "f.btf", "TIFF")
    for name in ("notes.txt", "table.csv", "slide.svs"):
        (tmp_path / name).write_text("text")
    (tmp_path / ".hidden.jpg").write_text("hidden")
    found = find(tmp_path)
    assert [path.name for path in found.paths] == ["a.jfif", "b.jpe", "c", "d.jpg", "e.jp2", "f.btf"]
    assert [path.name for path in found.left_out] == ["notes.txt", "slide.svs", "table.csv"]
    assert [path.name for path in find(f"{tmp_path}/*").left_out] == ["notes.txt", "slide.svs", "table.csv"]


def test_a_path_that_is_not_there_is_answered_with_the_nearest_that_is(image, tmp_path):
    (tmp_path / "generated").mkdir()
    image.save(tmp_path / "generated" / "a.png")
    for wrong, meant in (("genrated", "generated"), ("generated/b.png", "generated/a.png")):
        with pytest.raises(RL2Error) as error:
            find(tmp_path / wrong)
        assert f"Did you mean {tmp_path / meant}?" in str(error.value)
    for wrong in ("unlike", "no_such_folder/a.png", "generated/*.pnk", "nul\0"):
        with pytest.raises(RL2Error) as error:
            find(f"{tmp_path}/{wrong}")
        assert "Did you mean" not in str(error.value)
    for i in range(1000):
        (tmp_path / "generated" / f"{i}.txt").touch()
    with pytest.raises(RL2Error) as error:
        find(tmp_path / "generated/b.png")
    assert "Did you mean" not in str(error.value)


def test_a_folder_of_slides_is_answered_with_the_command_that_reads_them(tmp_path):
    (tmp_path / "slide.svs").write_text("text")
    with pytest.raises(RL2Error, match="holds no images, but 1 other file[.].*rl2 screen reads whole slides"):
        find(tmp_path)
    with pytest.raises(RL2Error, match=r"slide\.svs is a whole slide\. Expected PNG.*rl2 screen reads whole slides"):
        find(tmp_path / "slide.svs")
    (tmp_path / "slide.svs").rename(tmp_path / "notes.txt")
    with pytest.raises(RL2Error) as error:
        find(tmp_path)
    assert "rl2 screen" not in str(error.value)


def test_a_name_in_another_normalization_is_the_same_name(image, tmp_path):
    nfc, nfd = (unicodedata.normalize(form, "Lungenödem é.png") for form in ("NFC", "NFD"))
    for on_disk, listed in ((nfc, nfd), (nfd, nfc)):
        folder = tmp_path / str(len(on_disk))
        folder.mkdir()
        image.save(folder / on_disk)
        (folder / "list.txt").write_text(f"{listed}\n", encoding="utf-8")
        assert find_images(folder / "list.txt") == [folder / on_disk]
        (folder / "groups.csv").write_text(f"path,group\n{listed},s1\n", encoding="utf-8")
        paths = [folder / on_disk]
        assert groups_of(folder / "groups.csv", paths, folder) == {paths[0]: "s1"}


@pytest.mark.parametrize(
    "name",
    ["line\nbreak.png", " space.png ", '"quoted".png', os.fsdecode(b"bytes\xff\xfe.png"), "plain ö.png", "\r.png"],
)
def test_any_name_comes_back_from_a_line_of_a_list(image, tmp_path, name):
    image.save(tmp_path / "x.png")
    (tmp_path / "x.png").rename(tmp_path / name)
    line = line_of(tmp_path / name)
    assert len(line.splitlines()) == 1
    (tmp_path / "list.txt").write_text(f"{line}\n", encoding="utf-8")
    if name.endswith(" "):  # no ending of an image, which its content replaces
        assert json.loads(line).endswith(" ")
    assert find_images(tmp_path / "list.txt") == [tmp_path / name]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_lists_of_any_editor(image, tmp_path, encoding):
    image.save(tmp_path / "x.png")
    (tmp_path / "list.txt").write_bytes("x.png\r\n\r\n".encode(encoding))
    assert find_images(tmp_path / "list.txt") == [tmp_path / "x.png"]


def test_what_is_no_list_is_said(tmp_path):
    (tmp_path / "data.bin").write_bytes(b"\x00\x01\xff" * 50)
    with pytest.raises(RL2Error, match="neither an image .* nor a text file with a path a line"):
        find_images(tmp_path / "data.bin")
    (tmp_path / "list.txt").write_bytes(b"none\xff.png\n")
    with pytest.raises(RL2Error, match="neither an image"):
        find_images(tmp_path / "list.txt")


def test_pipes_are_not_waited_for(image, tmp_path):
    image.save(tmp_path / "x.png")
    os.mkfifo(tmp_path / "pipe")
    found = find(tmp_path)
    assert ([path.name for path in found.paths], [path.name for path in found.left_out]) == (["x.png"], ["pipe"])


def test_an_image_under_the_name_of_a_slide_is_an_image(image, tmp_path):
    image.save(tmp_path / "jpeg.svs", "JPEG")
    image.save(tmp_path / "tiff.svs", "TIFF")
    found = find(tmp_path)
    assert ([path.name for path in found.paths], [path.name for path in found.left_out]) == (["jpeg.svs"], ["tiff.svs"])


def test_lists_of_windows(image, tmp_path):
    for name in ("a\\new.png", "grün.png"):
        image.save(tmp_path / "x.png")
        (tmp_path / "x.png").rename(tmp_path / name)
    (tmp_path / "copied as path.txt").write_text('"a\\new.png"\n')
    assert find_images(tmp_path / "copied as path.txt") == [tmp_path / "a\\new.png"]
    for encoding in ("cp1252", "utf-16-le"):
        (tmp_path / "list.txt").write_bytes("grün.png\r\n".encode(encoding))
        assert find_images(tmp_path / "list.txt") == [tmp_path / "grün.png"]
