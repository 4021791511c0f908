import builtins

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
import torch

from tests.fixtures.packed import encoded
from torchmetrics_rl2 import RL2Error
from torchmetrics_rl2.images import ImageReader, find_images, groups_of, labels_of, read_image
from torchmetrics_rl2.images.find import find
from torchmetrics_rl2.images.packed import _listed
from torchmetrics_rl2.images.tables import _opened

PNGS = encoded(150, px=32)
STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def structs(paths):
    return pa.array([{"bytes": data, "path": path} for data, path in zip(PNGS, paths, strict=False)], STRUCT)


def write(path, columns, row_group_size=70):
    pq.write_table(pa.table(columns), path, row_group_size=row_group_size)
    return path


@pytest.fixture
def pixels(tmp_path):
    """Those of all images, from files."""
    for i, data in enumerate(PNGS):
        (tmp_path / "files").mkdir(exist_ok=True)
        (tmp_path / "files" / f"{i:03}.png").write_bytes(data)
    return read(tmp_path / "files")


def read(source, workers=0):
    return torch.cat([batch.images for batch in ImageReader(workers=workers).read(find_images(source))])


@pytest.mark.parametrize("workers", [0, 3])
def test_bytes_in_a_column_are_read_over_all_row_groups(tmp_path, pixels, workers):
    table = write(tmp_path / "x.parquet", {"label": list(range(150)), "jpg": PNGS})
    assert torch.equal(read(table, workers), pixels)
    paths = find_images(table)
    assert [path.relative_to(table).as_posix() for path in paths[::149]] == ["000000", "000149"]
    assert set(groups_of("parent", paths, tmp_path).values()) == {groups_of("parent", paths, tmp_path)[paths[0]]}


def test_images_are_read_in_any_order(tmp_path, pixels):
    paths = find_images(write(tmp_path / "x.parquet", {"image": PNGS}))
    for row in (149, 3, 2, 71, 70, 69, 140, 0):
        assert torch.equal(read_image(paths[row]), pixels[row])


def test_structs_give_their_paths_if_these_are_different(tmp_path, pixels):
    names = [f"p{i % 3}/{i}.png" for i in range(150)]
    write(tmp_path / "named.parquet", {"image": structs(names)})
    paths = find_images(tmp_path / "named.parquet")
    assert paths[4] == tmp_path / "named.parquet" / "p1" / "4.png"
    assert torch.equal(read(tmp_path / "named.parquet"), pixels)
    assert len(set(groups_of("parent", paths, tmp_path).values())) == 3
    for column in (structs(["a.png"] * 150), structs([None] * 150)):
        write(tmp_path / "numbers.parquet", {"image": column})
        assert find_images(tmp_path / "numbers.parquet")[4].name == "000004"


@pytest.mark.parametrize("kind", ["stream", "feather"])
def test_arrow_files_are_tables_too(tmp_path, pixels, kind):
    table = pa.table({"image": structs([None] * 150)})
    if kind == "feather":
        pa.feather.write_feather(table, tmp_path / "x.arrow")
    else:
        with pa.OSFile(str(tmp_path / "x.arrow"), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
            stream.write_table(table, max_chunksize=40)
    assert torch.equal(read(tmp_path / "x.arrow", 2), pixels)


def test_images_of_a_table_may_lie_in_files(tmp_path, pixels):
    paths = [str(tmp_path / "files" / f"{i:03}.png") for i in range(150)]
    column = pa.array([{"bytes": None, "path": path} for path in paths], STRUCT)
    assert torch.equal(read(write(tmp_path / "x.parquet", {"image": column})), pixels)
    (tmp_path / "files" / "003.png").unlink()
    with pytest.raises(RL2Error, match=r"003\.png cannot be read as an image: .*No such file"):
        read(tmp_path / "x.parquet")


def test_of_several_columns_one_is_called_image_or_chosen(tmp_path):
    write(tmp_path / "two.parquet", {"image": PNGS[:4], "mask": PNGS[4:8]})
    first, masks = (find_images(f"{tmp_path}/two.parquet{column}") for column in ("", "::mask"))
    assert torch.equal(read_image(first[0]), read_image(find_images(write(tmp_path / "x.parquet", {"a": PNGS}))[0]))
    assert masks[0] == tmp_path / "two.parquet::mask" / "000000"
    assert torch.equal(read_image(masks[0]), read_image(find_images(tmp_path / "x.parquet")[4]))
    assert find_images(f"{tmp_path}/t*.parquet::mask") == masks
    write(tmp_path / "other.parquet", {"tile": PNGS[:4], "mask": PNGS[4:8]})
    with pytest.raises(RL2Error, match=r"2 columns of images, tile, mask. Choose .*other\.parquet::tile'"):
        find(tmp_path / "other.parquet")
    with pytest.raises(RL2Error, match=r"no column z. Its columns are tile \(binary\), mask"):
        find(f"{tmp_path}/other.parquet::z")


def test_a_table_without_images_says_which_columns_it_has(tmp_path):
    write(tmp_path / "x.parquet", {"id": [1, 2], "embedding": [b"abc", b"def"], "audio": structs([None] * 2)[:2]})
    (tmp_path / "y.parquet").write_bytes(b"PAR1 and no more")
    write(tmp_path / "empty.parquet", {"image": pa.array([], pa.binary())})
    pq.write_table(pa.table({"id": [1], "sound": [{"bytes": b"RIFF", "path": "a.wav"}]}), tmp_path / "z.parquet")
    assert len(find_images(tmp_path / "x.parquet")) == 2  # the struct holds images, whatever its name
    with pytest.raises(RL2Error, match=r"no column of images.*bytes and path.*id \(int64\), sound \(struct.*1 rows"):
        find(tmp_path / "z.parquet")
    with pytest.raises(RL2Error, match=r"y\.parquet cannot be read as Parquet"):
        find(tmp_path / "y.parquet")
    with pytest.raises(RL2Error, match=r"no column of images.*of 0 rows"):
        find(tmp_path / "empty.parquet")


def test_rows_without_an_image_are_counted(tmp_path):
    table = write(tmp_path / "x.parquet", {"image": [PNGS[0], None, b"", PNGS[1]]})
    with pytest.raises(RL2Error, match=r"Row 1 of .*x\.parquet has no image in the column image.*--skip-unreadable"):
        read(table)
    reading = ImageReader(skip_unreadable=True).read(find_images(table))
    assert sum(len(batch.images) for batch in reading) == 2
    assert len(reading.unreadable) == 2


def test_another_column_gives_groups_and_labels(tmp_path):
    write(tmp_path / "x.parquet", {"image": PNGS[:4], "slide": ["a", "a", "b", "a"], "grade": [1, 2, 3, 3]})
    write(tmp_path / "y.parquet", {"image": structs(["z.png", "w.png"])[:2], "slide": ["b", None]})
    paths = find_images(tmp_path / "x.parquet")
    assert list(groups_of("column:slide", paths, tmp_path).values()) == ["a", "a", "b", "a"]
    assert list(labels_of("column:grade", paths[::2], tmp_path, "class").values()) == ["1", "3"]
    with pytest.raises(RL2Error, match=r"no column z beside its images. Its other columns are slide, grade"):
        groups_of("column:z", paths, tmp_path)
    with pytest.raises(RL2Error, match=r"Row 1 of .*y\.parquet has nothing in the column slide"):
        groups_of("column:slide", find_images(tmp_path / "y.parquet"), tmp_path)
    (tmp_path / "a.png").write_bytes(PNGS[0])
    with pytest.raises(RL2Error, match=r"a\.png is in no table"):
        groups_of("column:slide", [*paths, tmp_path / "a.png"], tmp_path)


def test_a_table_that_changes_or_goes_after_it_was_listed(tmp_path):
    table = write(tmp_path / "x.parquet", {"image": PNGS[:8]})
    paths = find_images(table)
    write(table, {"image": PNGS[:4]})
    with pytest.raises(RL2Error, match=r"x\.parquet has changed since it was listed"):
        read_image(paths[0])
    assert len(find_images(table)) == 4
    table.unlink()
    with pytest.raises(RL2Error, match=r"x\.parquet cannot be read: No such file"):
        read_image(paths[0])


def test_without_pyarrow_its_name_is_said(tmp_path, monkeypatch):
    table = write(tmp_path / "x.parquet", {"image": PNGS[:8]})
    real_import = builtins.__import__

    def without_pyarrow(name, *arguments, **options):
        if name.startswith("pyarrow"):
            raise ImportError("No module named 'pyarrow'", name="pyarrow")
        return real_import(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without_pyarrow)
    _listed.clear()
    _opened.cache_clear()
    with pytest.raises(RL2Error, match=r"needs pyarrow: pip install 'torchmetrics-rl2\[parquet\]'"):
        find(table)
