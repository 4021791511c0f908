import pytest

from tests.fixtures.packed import write_tar
from torchmetrics_rl2 import RL2Error, compare_generators, compute_statistics, plan, score
from torchmetrics_rl2.images import find_images

datasets = pytest.importorskip("datasets")


@pytest.fixture(scope="session")
def shards(patches, tmp_path_factory):
    """The images of ``patches`` in two tar files, under the names they have there."""
    folder = tmp_path_factory.mktemp("shards")
    files = find_images(patches)
    for i in (0, 1):
        members = [(path.relative_to(patches).as_posix(), path.read_bytes()) for path in files[i::2]]
        write_tar(folder / f"{i}.tar", members)
    return folder


@pytest.fixture(scope="session")
def dataset(patches):
    """The same images."""
    cells = [{"bytes": path.read_bytes(), "path": None} for path in find_images(patches)]
    return datasets.Dataset.from_dict({"image": cells}, features=datasets.Features({"image": datasets.Image()}))


@pytest.mark.parametrize("workers", [0, 2])
def test_shards_score_as_the_folder_does_with_groups_and_classes(patches, shards, encoder, workers):
    options = {"weights": encoder, "real_groups": "parent", "workers": workers}
    strata = {"real_classes": "parent", "fake_classes": "parent"}
    plain = score(patches, patches / "a", weights=encoder, real_groups="file")
    packed = score(f"{shards}/*.tar", f"{shards}/*.tar/a/*", weights=encoder, real_groups="file", workers=workers)
    assert packed.value == pytest.approx(plain.value, rel=1e-6)
    assert (packed.p_value, len(packed.copied)) == (pytest.approx(plain.p_value, rel=1e-4), len(plain.copied))
    sides = [score(source, source, **options, **strata) for source in (patches, shards)]
    assert [stratum.name for stratum in sides[0].strata] == [stratum.name for stratum in sides[1].strata]
    assert sides[0].value == pytest.approx(sides[1].value, abs=1e-6)
    assert compute_statistics(shards, groups="parent", weights=encoder).unit_count == 3


def test_data_sets_and_streams_are_sources(patches, dataset, encoder):
    whole = compute_statistics(patches, weights=encoder)
    stream = dataset.to_iterable_dataset()
    told = []
    for source in (dataset, stream, [dataset.select(range(9)), stream.skip(9)]):
        found = compute_statistics(source, weights=encoder, progress=lambda *one: told.append(one))
        assert found.sums.sum.tolist() == pytest.approx(whole.sums.sum.tolist(), rel=1e-5, abs=1e-3)
        assert (len(found), found.unit_count) == (24, 24)
    assert told[0] == ("images", 0, 24, 0)
    assert told[-1][1:3] == (24, 0)  # nobody knows how much a stream holds
    result = score(stream, dataset, weights=encoder, explain=True)
    assert result.value == pytest.approx(0, abs=1e-4)
    assert (result.fake, len(result.copied)) == ("data.dataset", 24)
    assert plan(stream, find=["distance=10"], counts=[50], weights=encoder).n_pilot == 24
    halves = {"one": dataset.select(range(12)), "two": stream.skip(12)}
    assert len(compare_generators(halves, dataset, weights=encoder).generators) == 2
    assert len(compare_generators([halves["one"], stream], dataset, weights=encoder).generators) == 2


def test_what_a_stream_cannot_do_is_said(dataset, encoder):
    stream = dataset.to_iterable_dataset()
    for options in ({"fake_groups": "file"}, {"real_classes": "parent", "fake_classes": "parent"}):
        with pytest.raises(RL2Error, match=r"no list of its images.*streaming=False"):
            score(stream, dataset, weights=encoder, **options)
    with pytest.raises(RL2Error, match=r"data\.dataset is empty"):
        compute_statistics(stream.take(0), weights=encoder)
