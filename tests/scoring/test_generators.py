import shutil
from dataclasses import replace

import pytest

from torchmetrics_rl2 import RL2Error, compare_generators, compute_statistics, score


@pytest.fixture
def generators(patches, tmp_path):
    """A folder with a subfolder for each of two generators."""
    shutil.copytree(patches / "bright", tmp_path / "generators" / "epoch 2")
    shutil.copytree(patches / "b", tmp_path / "generators" / "epoch 10")
    (tmp_path / "generators" / ".cache").mkdir()
    (tmp_path / "generators" / "logs").mkdir()
    (tmp_path / "generators" / "logs" / "log.txt").write_text("epoch 2")
    return tmp_path / "generators"


def names(found):
    return [one.name for one in found.generators]


def test_each_result_is_that_of_score(patches, encoder):
    found = compare_generators([patches / "bright", patches / "b"], patches / "a", weights=encoder)
    assert names(found) == ["b", "bright"]
    for one in found.generators:
        alone = score(patches / one.name, patches / "a", weights=encoder)
        assert (one.result.value, one.result.interval) == (alone.value, alone.interval)
        assert (one.result.settings, one.result.versions) == (alone.settings, alone.versions)
        assert one.result.withheld["outlier_share"].startswith("a comparison does not look")
    assert found.settings == alone.settings
    assert found.versions == alone.versions


@pytest.mark.filterwarnings("ignore")
def test_one_folder_has_a_subfolder_for_each(generators, patches, encoder):
    found = compare_generators(generators, patches / "a", weights=encoder)
    assert names(found) == ["epoch 10", "epoch 2"]


def test_statistics_stand_in_for_images_on_every_side(patches, encoder, tmp_path):
    folder = tmp_path / "saved"
    folder.mkdir()
    for name in ("bright", "b"):
        compute_statistics(patches / name, weights=encoder).save(folder / f"{name}.safetensors")
    real = compute_statistics(patches / "a", weights=encoder)
    found = compare_generators(folder, real)
    images = compare_generators({"bright": patches / "bright", "b": patches / "b"}, patches / "a", weights=encoder)
    assert names(found) == names(images)
    assert [pair.interval for pair in found.pairs] == [pytest.approx(pair.interval) for pair in images.pairs]
    assert found.settings == {}


def test_names_are_as_short_as_tells_them_apart(patches, encoder, tmp_path):
    for run in ("one", "two"):
        shutil.copytree(patches / ("b" if run == "one" else "bright"), tmp_path / run / "samples")
    found = compare_generators(
        [tmp_path / "one" / "samples", tmp_path / "two" / "samples"], patches / "a", weights=encoder
    )
    assert sorted(names(found)) == ["one/samples", "two/samples"]


def test_groups_are_those_of_every_generator(generators, patches, encoder):
    found = compare_generators(generators, patches / "a", weights=encoder, real_groups="file", fake_groups="file")
    assert not found.assumes_independence
    assert {one.result.groups_fake for one in found.generators} == {8}


@pytest.mark.filterwarnings("ignore")
def test_what_makes_sides_differ_is_said_of_each_by_name(patches, encoder, tmp_path):
    shutil.copytree(patches / "a", tmp_path / "copies")
    found = compare_generators([tmp_path / "copies", patches / "b"], patches / "a", weights=encoder)
    assert any(sentence.startswith("copies: 8 of 8 generated images are real ones") for sentence in found.warnings)
    first = found.generators[0]
    assert (first.name, len(first.result.copied)) == ("copies", 8)
    assert "Its place says nothing about new images" in str(found)


def test_progress_is_told_by_generator(patches, encoder):
    told = []
    compare_generators(
        [patches / "bright", patches / "b"], patches / "a", weights=encoder, progress=lambda *call: told.append(call)
    )
    assert next(side for side, *_ in told if side != "real") == "bright"
    assert {side: done for side, done, *_ in told} == {"real": 8, "bright": 8, "b": 8}


def test_wrong_input_is_a_sentence(patches, encoder, generators, tmp_path):
    bright, a = patches / "bright", patches / "a"
    with pytest.raises(RL2Error, match="at least two generators to compare, but got 1: bright"):
        compare_generators(bright, a, weights=encoder)
    with pytest.raises(RL2Error, match="bright is given twice"):
        compare_generators([bright, bright], a, weights=encoder)
    with pytest.raises(RL2Error, match="needs real images.*--real"):
        compare_generators([bright, patches / "b"], None, weights=encoder)
    shutil.copy(next(bright.iterdir()), generators / "loose.png")
    with pytest.raises(RL2Error, match=r"has images of its own, such as loose.png, and subfolders or statistics"):
        compare_generators(generators, a, weights=encoder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(RL2Error, match="but got 0: none"):
        compare_generators(tmp_path / "empty", a, weights=encoder)


def test_a_folder_and_statistics_of_its_name_are_two_generators(patches, encoder, tmp_path):
    shutil.copytree(patches / "b", tmp_path / "b")
    compute_statistics(patches / "bright", weights=encoder).save(tmp_path / "b.safetensors")
    found = compare_generators([tmp_path / "b", tmp_path / "b.safetensors"], patches / "a", weights=encoder)
    assert sorted(names(found)) == ["b", "b.safetensors"]


def test_names_may_be_numbers(patches, encoder):
    found = compare_generators({10: patches / "b", 20: patches / "bright"}, patches / "a", weights=encoder)
    assert names(found) == ["10", "20"]


def test_statistics_of_one_source_need_names(patches, encoder):
    sides = [compute_statistics(patches / name, weights=encoder) for name in ("b", "bright")]
    metric = [replace(side, source="update(real=False)") for side in sides]
    with pytest.raises(RL2Error, match=r"of the source update\(real=False\).*Give a dictionary from names"):
        compare_generators(metric, patches / "a", weights=encoder)


@pytest.mark.parametrize("link_first", [True, False])
def test_a_link_to_a_generator_is_the_one_that_is_named(link_first, patches, encoder, tmp_path):
    (tmp_path / "link").symlink_to(patches / "b")
    sources = [patches / "b", patches / "bright"]
    sources.insert(0 if link_first else 2, tmp_path / "link")
    with pytest.raises(RL2Error, match=f"{'b' if link_first else 'link'} is given twice"):
        compare_generators(sources, patches / "a", weights=encoder)
