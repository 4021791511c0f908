import io
import pickle

import pytest
import torch
from PIL import Image

from tests.fixtures.packed import encoded
from torchmetrics_rl2 import RL2Error
from torchmetrics_rl2.images import ImageReader, find_images, groups_of
from torchmetrics_rl2.images.find import find
from torchmetrics_rl2.images.hub_datasets import ImageStream, _known, restore
from torchmetrics_rl2.images.reader import _Files

datasets = pytest.importorskip("datasets")
PNGS = encoded(12, px=32)


@pytest.fixture
def dataset():
    cells = [{"bytes": data, "path": None} for data in PNGS]
    features = datasets.Features({"slide": datasets.Value("string"), "image": datasets.Image()})
    return datasets.Dataset.from_dict({"slide": list("aabbccddeeff"), "image": cells}, features=features)


@pytest.fixture
def pixels(tmp_path):
    for i, data in enumerate(PNGS):
        (tmp_path / f"{i:02}.png").write_bytes(data)
    return read(find_images(tmp_path))


def read(paths, **options):
    return torch.cat([batch.images for batch in ImageReader(**options).read(paths)])


@pytest.mark.parametrize("workers", [0, 2])
def test_pixels_of_a_data_set_are_those_of_files_in_its_order(dataset, pixels, workers):
    assert torch.equal(read(find_images(dataset), workers=workers), pixels)
    order = [5, 0, 11, 7]
    assert torch.equal(read(find_images(dataset.select(order)), workers=workers), pixels[order])
    assert torch.equal(read(find_images(dataset.with_format("torch")), workers=workers), pixels)


def test_another_column_gives_groups(dataset):
    shuffled = dataset.select([11, 0, 1])
    assert list(groups_of("column:slide", find_images(shuffled), None).values()) == ["f", "a", "a"]


def test_data_sets_that_are_alike_keep_their_images_apart(dataset, pixels):
    one, other = dataset.select(range(6)), dataset.select(range(6, 12))
    first, second = find_images(one), find_images(other)
    assert torch.equal(read([*first, *second]), pixels)
    assert find_images(one) == first


def test_a_process_that_is_started_anew_knows_the_data_set(dataset, pixels):
    files = pickle.dumps(_Files(find_images(dataset), None, None))
    _known.clear()
    assert torch.equal(torch.from_numpy(pickle.loads(files)[3][0][0]), pixels[3])
    restore({})


def test_a_saved_data_set_is_a_folder(dataset, pixels, tmp_path):
    dataset.save_to_disk(tmp_path / "saved", num_shards=2)
    (tmp_path / "saved" / "cache-0123.arrow").write_bytes(b"what map leaves behind")
    found = find(tmp_path / "saved")
    assert torch.equal(read(found.paths), pixels)
    assert found.left_out == []


def test_what_has_no_rows_to_read_is_said(dataset):
    with pytest.raises(RL2Error, match=r"the splits train, test. Give one of them, as in dataset\['train'\]"):
        find(datasets.DatasetDict({"train": dataset, "test": dataset}))
    with pytest.raises(RL2Error, match="has a transform"):
        find(dataset.with_transform(lambda rows: rows))
    with pytest.raises(RL2Error, match=r"no column of images.*columns are slide \(string\)"):
        find(dataset.select_columns("slide"))
    with pytest.raises(RL2Error, match="streaming=False"):
        find(dataset.to_iterable_dataset())


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_is_read_in_its_order(dataset, pixels, workers):
    stream = ImageStream(dataset.to_iterable_dataset(num_shards=3))
    assert torch.equal(read(stream, workers=workers, batch_size=5), pixels)
    taken = ImageStream(dataset.to_iterable_dataset().skip(2).take(3))
    reading = ImageReader(workers=workers).read(taken)
    assert [path.name for batch in reading for path in batch.paths] == ["000000", "000001", "000002"]
    assert reading.done == 3


def test_a_stream_without_types_is_known_by_its_first_row(pixels):
    def rows():
        for data in PNGS:
            yield {"id": 1, "tile": Image.open(io.BytesIO(data))}

    stream = ImageStream(datasets.IterableDataset.from_generator(rows))
    assert torch.equal(read(stream), pixels)
    raw = datasets.IterableDataset.from_generator(lambda: ({"tile": data, "x": "y"} for data in PNGS))
    assert torch.equal(read(ImageStream(raw)), pixels)
    with pytest.raises(RL2Error, match=r"one column of images.*columns are id \(int\)"):
        read(ImageStream(datasets.IterableDataset.from_generator(lambda: iter([{"id": 1}]))))


def test_a_stream_that_breaks_off_or_has_bad_images_says_where(pixels):
    def rows(breaks=True):
        yield from ({"image": data} for data in (PNGS[0], b"no image", None, PNGS[1]))
        if breaks:
            raise OSError("connection lost")

    stream = ImageStream(datasets.IterableDataset.from_generator(rows, gen_kwargs={"breaks": False}))
    with pytest.raises(
        RL2Error,
        match=r"generator-train.dataset/000001 cannot be read as an image: it is of no known format.*--skip-unreadable",
    ):
        read(stream)
    reading = ImageReader(skip_unreadable=True).read(stream)
    assert (sum(len(batch.images) for batch in reading), len(reading.unreadable)) == (2, 2)
    stream = ImageStream(datasets.IterableDataset.from_generator(rows))
    with pytest.raises(RL2Error, match=r"breaks off behind 4 images: OSError: connection lost"):
        read(stream, skip_unreadable=True)


def test_a_stream_of_several_columns_of_images_asks_for_one():
    kinds = datasets.Features({"a": datasets.Image(), "b": datasets.Image()})
    rows = [{"a": {"bytes": PNGS[0], "path": None}, "b": {"bytes": PNGS[1], "path": None}}]
    stream = datasets.Dataset.from_list(rows, features=kinds).to_iterable_dataset()
    with pytest.raises(RL2Error, match=r"2 columns of images, a, b.*select_columns\('a'\)"):
        ImageStream(stream)
