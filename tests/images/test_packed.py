import gzip
import io
import pickle
import shutil
import tarfile

import pytest
import torch
from PIL import Image

from tests.fixtures.packed import encoded, write_tar
from torchmetrics_rl2 import RL2Error
from torchmetrics_rl2.images import ImageReader, find_images, groups_of, labels_of, read_image
from torchmetrics_rl2.images.find import base_of, find, left_out_sentence
from torchmetrics_rl2.images.packed import _listed


@pytest.fixture
def pngs():
    return encoded(6)


@pytest.fixture
def shards(tmp_path, pngs):
    """Two shards of three samples; the second patient is in both."""
    names = ["p1/a.png", "p1/b.png", "p2/c.png", "p2/d.png", "p3/e.png", "f.png"]
    for shard in (0, 1):
        members = []
        for name, data in list(zip(names, pngs, strict=True))[3 * shard : 3 * shard + 3]:
            members += [(name, data), (f"{name[:-4]}.cls", b"1"), (f"{name[:-4]}.mask.json", b"{}")]
        write_tar(tmp_path / "shards" / f"{shard:03}.tar", members)
    return tmp_path / "shards"


def names(source, folder):
    return [path.relative_to(folder).as_posix() for path in find_images(source)]


ALL = [f"000.tar/{name}.png" for name in ("p1/a", "p1/b", "p2/c")]
ALL += [f"001.tar/{name}.png" for name in ("p2/d", "p3/e", "f")]


@pytest.mark.parametrize("form", ["", "/*.tar", "/{000..001}.tar", "/00{0..1}.tar"])
def test_shards_are_found_as_a_folder_a_glob_and_numbers_in_braces(shards, form):
    assert names(f"{shards}{form}", shards) == ALL
    assert find(f"{shards}{form}").left_out == []


def test_one_shard_one_image_of_it_and_a_pattern_in_it(shards):
    assert names(shards / "001.tar", shards) == ALL[3:]
    assert names(shards / "001.tar" / "f.png", shards) == ["001.tar/f.png"]
    assert names(f"{shards}/*.tar/p2/*", shards) == ["000.tar/p2/c.png", "001.tar/p2/d.png"]
    with pytest.raises(RL2Error, match="no image matches"):
        find(shards / "001.tar" / "gone.png")


def test_a_list_names_shards_and_images_in_them(shards):
    (shards / "list.txt").write_text("001.tar\n000.tar/p1/b.png\n")
    assert names(shards / "list.txt", shards) == [*ALL[3:], ALL[1]]
    (shards / "list.txt").write_text("000.tar/p1/b.png\n000.tar/p1/z.png\n")
    with pytest.raises(RL2Error, match=r"1 of 2 lines.*000\.tar/p1/z\.png"):
        find(shards / "list.txt")


@pytest.mark.parametrize("workers", [0, 2])
def test_pixels_are_those_of_the_files_in_the_order_of_the_shards(shards, pngs, workers):
    batches = list(ImageReader(batch_size=4, workers=workers).read(find_images(shards)))
    assert [path.name for batch in batches for path in batch.paths] == [name.rpartition("/")[2] for name in ALL]
    with_pillow = [Image.open(io.BytesIO(data)).convert("RGB").tobytes() for data in pngs]
    read = torch.cat([batch.images for batch in batches]).permute(0, 2, 3, 1).contiguous()
    assert [bytes(image.numpy().tobytes()) for image in read] == with_pillow
    assert {kind for batch in batches for kind in batch.formats} == {"PNG"}


def test_a_process_that_knows_nothing_reads_a_shard(shards):
    files = pickle.loads(pickle.dumps(find_images(shards)))
    _listed.clear()
    assert read_image(files[4]).shape == (3, 64, 64)


def test_a_patient_in_two_shards_is_one_group_and_images_of_no_folder_are_of_their_shard(shards, monkeypatch):
    monkeypatch.chdir(shards.parent)
    paths = find_images("shards")
    groups = groups_of("parent", paths, shards)
    assert list(groups.values()) == ["shards/p1"] * 2 + ["shards/p2"] * 2 + ["shards/p3", "shards/001.tar"]
    assert list(labels_of("parent", paths, shards, "class").values()) == ["p1", "p1", "p2", "p2", "p3", "001.tar"]
    assert list(groups_of("file", paths, shards).values()) == [f"shards/{name}" for name in ALL]


def test_tables_of_groups_are_relative_to_a_folder_of_shards_and_to_a_shard(shards):
    for source in (shards, shards / "000.tar"):
        paths = find_images(source)
        rows = "".join(f"{path.relative_to(source)},{path.parent.name}\n" for path in paths)
        (shards.parent / "groups.csv").write_text(f"path,group\n{rows}")
        groups = groups_of(shards.parent / "groups.csv", paths, base_of(source))
        assert list(groups.values()) == [path.parent.name for path in paths]


def test_a_linked_shard_counts_once(shards):
    (shards / "link.tar").symlink_to(shards / "000.tar")
    assert names(shards, shards) == ALL


def test_other_members_are_named_unless_they_belong_to_a_sample(tmp_path, pngs):
    more = [("./d/.hidden.png", pngs[1]), ("notes.txt", b"text"), ("noending", pngs[2]), ("../up/x.png", pngs[3])]
    tar = write_tar(tmp_path / "x.tar", [("./d/a.png", pngs[0]), ("./d/a.txt", b"a caption"), *more])
    with tarfile.open(tar, "a") as file:
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "d/a.png"
        file.addfile(link)
    found = find(tar)
    assert [path.relative_to(tar).as_posix() for path in found.paths] == ["d/a.png", "noending", "up/x.png"]
    assert [path.name for path in found.left_out] == ["link.png", "notes.txt"]
    assert len(next(iter(ImageReader().read(found.paths))).images) == 3


def test_shards_beside_images_are_left_out_and_that_is_said(shards, pngs):
    (shards / "loose.png").write_bytes(pngs[0])
    found = find(shards)
    assert [path.name for path in found.paths] == ["loose.png"]
    assert "not looked into" in left_out_sentence(shards, found.left_out)


def test_a_folder_that_is_called_like_a_tar_file_is_a_folder(tmp_path, pngs):
    (tmp_path / "x.tar").mkdir()
    (tmp_path / "x.tar" / "a.png").write_bytes(pngs[0])
    paths = find_images(tmp_path / "x.tar")
    assert paths == find_images(f"{tmp_path}/*.tar/a.png") == find_images(tmp_path)
    assert read_image(paths[0]).shape == (3, 64, 64)
    assert groups_of("parent", paths, tmp_path)[paths[0]].endswith("x.tar")


def cut(shard, at):
    with shard.open("r+b") as file:
        file.truncate(at)


def test_a_shard_that_is_cut_off_names_the_member_or_is_left_out_and_counted(shards):
    cut(shards / "000.tar", 1024)  # within p1/a.png
    with pytest.raises(RL2Error, match=r"000\.tar is cut off within p1/a\.png.*--skip-unreadable"):
        list(ImageReader().read(find_images(shards)))
    reading = ImageReader(skip_unreadable=True).read(find_images(shards))
    assert sum(len(batch.images) for batch in reading) == 3
    assert len(reading.unreadable) == 1


@pytest.mark.parametrize("kind", ["within a header", "within other parts", "not a header"])
def test_what_lies_behind_damage_is_not_passed_over(shards, kind):
    shard = shards / "000.tar"
    with tarfile.open(shard) as tar:
        members = {member.name: member.offset for member in tar}
    if kind == "not a header":
        with shard.open("r+b") as file:
            file.seek(members["p1/b.png"])
            file.write(b"x" * 512)
    else:
        cut(shard, members["p1/b.png"] + 100 if kind == "within a header" else members["p1/a.cls"] + 512)
    reading = ImageReader(skip_unreadable=True).read(find_images(shard))
    assert [path.name for batch in reading for path in batch.paths] == ["a.png"]
    (reason,) = reading.unreadable
    assert "000.tar is" in reason
    assert "behind p1/a.mask.json" in reason or "within p1/a.cls" in reason


def test_tar_files_that_were_joined_are_not_half_read(shards):
    both = shards.parent / "both.tar"
    both.write_bytes(b"".join((shards / f"{i:03}.tar").read_bytes() for i in (0, 1)))
    reading = ImageReader(skip_unreadable=True).read(find_images(both))
    assert sum(len(batch.images) for batch in reading) == 3
    assert "several tar files in one" in reading.unreadable[0]


def test_a_shard_without_its_end_mark_is_whole(shards):
    with tarfile.open(shards / "000.tar") as tar:
        last = tar.getmembers()[-1]
    cut(shards / "000.tar", last.offset_data + 512)
    assert len(find_images(shards / "000.tar")) == 3


def test_a_shard_that_changes_or_goes_after_it_was_listed(shards):
    paths = find_images(shards)
    with (shards / "000.tar").open("ab") as file:
        file.write(bytes(10240))
    with pytest.raises(RL2Error, match=r"000\.tar has changed since it was listed"):
        read_image(paths[0])
    (shards / "001.tar").unlink()
    with pytest.raises(RL2Error, match=r"001\.tar cannot be read: No such file"):
        read_image(paths[3])
    assert len(find_images(shards)) == 3
    assert read_image(paths[0]).shape == (3, 64, 64)


def refused(folder, pngs):
    shutil.copy(write_tar(folder / "plain.tar", [("a.png", pngs[0])]), folder / "x.tar.gz")
    (folder / "gz.tar").write_bytes(gzip.compress(bytes(1024)))
    (folder / "text.tar").write_text("text" * 500)
    (folder / "nothing.tar").touch()
    write_tar(folder / "empty.tar", [])
    write_tar(folder / "texts.tar", [("a.txt", b"a"), ("b.json", b"{}")])
    write_tar(folder / "twice.tar", [("a.png", pngs[0]), ("./a.png", pngs[1])])
    return {
        "x.tar.gz": "compressed tar file.*Decompress",
        "gz.tar": "compressed tar file",
        "text.tar": "cannot be read as a tar file",
        "nothing.tar": "cannot be read as a tar file",
        "empty.tar": "holds no images. Expected",
        "texts.tar": "holds no images, but 2 other files",
        "twice.tar": "two files a.png",
        "gone-{0..2}.tar": "3 of the 3 files .* are missing, .*gone-0.tar for one",
        "{3..1}.tar": "no range",
        "{0..99999999}.tar": "no range",
    }


def test_what_is_no_tar_file_of_images_is_said(tmp_path, pngs):
    for name, sentence in refused(tmp_path, pngs).items():
        with pytest.raises(RL2Error, match=f"(?s){sentence}"):
            find(tmp_path / name)


def test_a_folder_of_compressed_shards_says_so(tmp_path):
    (tmp_path / "000.tar.gz").write_bytes(b"\x1f\x8b" * 9)
    with pytest.raises(RL2Error, match="compressed tar file"):
        find(tmp_path)
