import json
import shutil
from dataclasses import replace

import pytest
import torch

from tests.conftest import Moments
from torchmetrics_rl2 import LatentEncoder, RL2Error, Statistics, compute_statistics, score
from torchmetrics_rl2.distance import compare
from torchmetrics_rl2.distance.strata_result import strata_details, strata_sentence
from torchmetrics_rl2.images import find_images, labels_of, read_image


def load(paths):
    return torch.stack([read_image(path) for path in paths])


@pytest.fixture(scope="module")
def folders(patches, tmp_path_factory):
    """Real and generated patches of the classes dark and light, and generated ones with the two swapped, as links."""
    folder = tmp_path_factory.mktemp("strata")
    dark, light = find_images(patches / "a") + find_images(patches / "b"), find_images(patches / "bright")
    for side, kinds in {
        "real": {"dark": dark[::2], "light": light[::2]},
        "fake": {"dark": dark[1::2], "light": light[1::2]},
        "swapped": {"light": dark[1::2], "dark": light[1::2]},
    }.items():
        for name, paths in kinds.items():
            (folder / side / name).mkdir(parents=True)
            for path in paths:
                (folder / side / name / path.name).symlink_to(path)
    return folder


@pytest.fixture(scope="module")
def with_kinds(folders, weights, encoder):
    """Weights with the kinds night and day, whose means are those of dark and light patches."""
    means = torch.stack([encoder(load(find_images(folders / "real" / name))).mean(0) for name in ("dark", "light")])
    base = {"base.means": means, "base.log_shares": torch.tensor([0.5, 0.5]).log(), "base.leaks": torch.zeros(2)}
    return LatentEncoder(
        replace(
            weights,
            flow=dict(weights.flow) | base,
            flow_config=dict(weights.flow_config) | {"kinds": 2},
            card={"data": "noise", "kinds": [{"name": "night"}, {"name": "day"}]},
            reference=None,
        )
    )


CLASSES = {"real_classes": "parent", "fake_classes": "parent"}
GROUPS = {"real_groups": "file", "fake_groups": "file"}
# Latents to the last bit: some CPUs round those of another batch in another way.
ALONE = {"batch_size": 1}


@pytest.mark.parametrize("groups", [{}, GROUPS])
def test_each_class_is_scored_as_it_would_be_alone(folders, encoder, groups):
    result = score(folders / "fake", folders / "real", weights=encoder, **CLASSES, **groups, **ALONE)
    assert (result.strata_by, [one.name for one in result.strata]) == ("classes", ["dark", "light"])
    for found in result.strata:
        alone = score(folders / "fake" / found.name, folders / "real" / found.name, weights=encoder, **groups, **ALONE)
        for name in ("n_real", "n_fake", "value", "debiased", "baseline", "baseline_multiple"):
            assert getattr(found, name) == pytest.approx(getattr(alone, name), rel=1e-6)
        assert (found.p_value is None) == alone.assumes_independence
        if found.p_value is not None:
            assert alone.p_value <= found.p_value <= 2 * alone.p_value
    assert result.strata_split.value == pytest.approx(result.value, rel=1e-6)


OF_STATISTICS = ("value", "debiased", "interval", "p_value", "baseline", "content", "look", "kinds", "duplicates")
OF_STRATA = ("n_real", "n_fake", "groups_real", "groups_fake", "strata", "strata_by", "strata_split")


def assert_close(found, expected):
    """To nine digits, whatever is nested in it."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for name in expected:
            assert_close(found[name], expected[name])
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for pair in zip(found, expected, strict=True):
            assert_close(*pair)
    else:
        assert found == (pytest.approx(expected, rel=1e-9, abs=1e-12) if isinstance(expected, float) else expected)


@pytest.fixture(scope="module")
def with_copies(folders, tmp_path_factory):
    """The real patches, two of each dark one, and a class of its own."""
    folder = tmp_path_factory.mktemp("copies")
    shutil.copytree(folders / "real", folder / "real")
    for path in find_images(folder / "real" / "dark"):
        shutil.copy(path, path.with_name(f"copy {path.name}"))
    (folder / "real" / "alone").mkdir()
    for path in find_images(folders / "swapped" / "dark"):
        shutil.copy(path, folder / "real" / "alone")
    return folder / "real"


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("groups", [{}, GROUPS])
@pytest.mark.parametrize("name", ["encoder", "with_kinds"])
def test_a_score_by_files_is_that_by_folders(folders, with_copies, request, tmp_path, groups, name):
    encoder = request.getfixturevalue(name)
    expected = score(folders / "swapped", with_copies, weights=encoder, **CLASSES, **groups)
    assert [one.withheld for one in expected.strata] == ["only real images", "", ""]
    assert expected.strata_split.mixture > 0
    files = {}
    for side, images in {"real": with_copies, "fake": folders / "swapped"}.items():
        files[side] = tmp_path / f"{side}.safetensors"
        made = compute_statistics(images, weights=encoder, classes="parent", groups=groups.get("real_groups"))
        made.save(files[side])
    by_file = score(
        folders / "swapped",
        files["real"],
        weights=encoder,
        fake_classes="parent",
        fake_groups=groups.get("fake_groups"),
    )
    by_files = score(files["fake"], files["real"], by="classes")
    for found in (by_file, by_files):
        for field in (*OF_STATISTICS, *OF_STRATA):
            assert_close(found.to_dict()[field], expected.to_dict()[field])
        assert strata_sentence(found) == strata_sentence(expected)
        assert strata_details(found) == strata_details(expected)
    plain = score(files["fake"], files["real"])  # nobody asks for the classes of files
    assert (plain.strata, plain.strata_by) == ([], "")


@pytest.mark.parametrize("groups", [None, "file"])
def test_statistics_of_a_class_are_those_of_its_images_alone(folders, with_kinds, tmp_path, monkeypatch, groups):
    monkeypatch.setattr("torchmetrics_rl2.scoring.strata.WAITING", 5)
    options = {"weights": with_kinds, "groups": groups} | ALONE
    found = compute_statistics(folders / "real", classes="parent", **options)
    assert list(found.classes) == ["dark", "light"]
    shards = []
    for name, own in found.classes.items():
        alone = compute_statistics(folders / "real" / name, **options)
        assert own.sums.count == alone.sums.count
        for field in ("sum", "square_sum", "content_square_sum", "kind_counts"):
            torch.testing.assert_close(getattr(own.sums, field), getattr(alone.sums, field), rtol=1e-12, atol=0)
        assert (own.sums.second_moment is None) == (groups is not None)
        assert sorted(own.group_names) == sorted(alone.group_names)
        assert (own.source, own.weights_id) == (name, with_kinds.weights_id)
        shards.append(tmp_path / f"{name}.safetensors")
        compute_statistics(folders / "real" / name, classes="parent", **options).save(shards[-1])
    merged = compute_statistics(shards)
    mixed = compute_statistics([shards[0], folders / "real" / "light"], classes="parent", **options)
    for other in (merged, mixed):
        assert list(other.classes) == list(found.classes)
        for name, own in found.classes.items():
            torch.testing.assert_close(other.classes[name].sums.sum, own.sums.sum, rtol=1e-12, atol=0)
            assert other.classes[name].unit_count == own.unit_count


def test_sources_with_and_without_classes_do_not_merge_into_one_file(folders, encoder, tmp_path, monkeypatch):
    files = {name: tmp_path / f"{name}.safetensors" for name in ("with", "without")}
    compute_statistics(folders / "real" / "dark", weights=encoder, classes="parent").save(files["with"])
    compute_statistics(folders / "real" / "light", weights=encoder).save(files["without"])
    # A score that asks for no classes takes them as they are.
    assert score(folders / "fake", list(files.values()), weights=encoder).n_real == 12
    monkeypatch.setattr("torchmetrics_rl2.images.reader.ImageReader.read", lambda *args: 1 / 0)
    for sources, classes in (
        (list(files.values()), None),
        ([files["with"], folders / "fake"], None),
        ([files["without"], folders / "fake"], "parent"),
    ):
        with pytest.raises(RL2Error, match="has classes and .* has none, so they do not merge. Give all of them"):
            compute_statistics(sources, weights=encoder, classes=classes)
    with pytest.raises(RL2Error, match="The classes of statistics are those they were made with"):
        compute_statistics(files["with"], classes="parent")
    monkeypatch.setattr("torchmetrics_rl2.scoring.strata.MAX_CLASSES", 1)
    with pytest.raises(RL2Error, match="2 classes, dark, light among them; expected at most 1. Slides and patients"):
        compute_statistics(folders / "real", weights=encoder, classes="parent")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_swap_of_classes_is_seen_by_folder_and_by_table_and_the_whole_is_blind(folders, encoder, tmp_path):
    plain = score(folders / "fake", folders / "real", weights=encoder, **CLASSES, **GROUPS)
    swapped = score(folders / "swapped", folders / "real", weights=encoder, **CLASSES, **GROUPS)
    assert [(one.name, one.closest) for one in plain.strata] == [("dark", "dark"), ("light", "light")]
    assert swapped.value == pytest.approx(plain.value, rel=1e-6)
    assert [(one.name, one.differs, one.closest) for one in swapped.strata] == [
        ("dark", True, "light"),
        ("light", True, "dark"),
    ]
    assert swapped.strata_split.conditional > 3 * plain.strata_split.conditional
    table = tmp_path / "classes.csv"
    labels = labels_of("parent", find_images(folders / "swapped"), folders, "class")
    lines = [f"{path.relative_to(folders / 'swapped')},{name}" for path, name in labels.items()]
    table.write_text("\n".join(["path,class", *lines]))
    options = CLASSES | {"fake_classes": table} | GROUPS
    by_table = score(folders / "swapped", folders / "real", weights=encoder, **options)
    assert (by_table.strata, by_table.strata_split) == (swapped.strata, swapped.strata_split)


def test_kinds_are_those_of_the_weights(folders, with_kinds):
    result = score(folders / "fake", folders / "real", weights=with_kinds, by="kinds", **GROUPS)
    assert (result.strata_by, [one.name for one in result.strata]) == ("kinds", ["night", "day"])
    for found, share in zip(result.strata, result.kinds, strict=True):
        assert (found.n_real, found.n_fake) == (round(share.real * 12), round(share.fake * 12))
    z = {side: with_kinds(load(find_images(folders / side))) for side in ("real", "fake")}
    for k, found in enumerate(result.strata):
        sides = (Statistics.of_latents(one[with_kinds.kinds.of(one.double()) == k]) for one in z.values())
        assert found.value == pytest.approx(compare(*sides).value, rel=1e-5)
    assert "ithin kinds of tissue: " in str(result)
    only = score(folders / "fake" / "dark", folders / "real" / "dark", weights=with_kinds, by="kinds")
    assert [one.name for one in only.strata] == ["night"]  # of the other neither side has an image


@pytest.mark.parametrize("options", [CLASSES, CLASSES | GROUPS, {"by": "kinds"}])
def test_neither_batches_nor_the_order_of_files_matter(folders, with_kinds, tmp_path, monkeypatch, options):
    expected = score(folders / "fake", folders / "real", weights=with_kinds, **options)
    lists = {}
    for side in ("real", "fake"):
        lists[side] = tmp_path / f"{side}.txt"
        lists[side].write_text("\n".join(map(str, reversed(find_images(folders / side)))))
    monkeypatch.setattr("torchmetrics_rl2.scoring.strata.WAITING", 5)
    for fake, real in ((lists["fake"], lists["real"]), (folders / "fake", folders / "real")):
        got = score(fake, real, weights=with_kinds, batch_size=3, **options)
        assert [one.name for one in got.strata] == [one.name for one in expected.strata]
        for one, other in zip(got.strata, expected.strata, strict=True):
            assert (one.n_real, one.n_fake, one.differs) == (other.n_real, other.n_fake, other.differs)
            assert (one.value, one.debiased) == pytest.approx((other.value, other.debiased), rel=1e-4)
            assert one.interval == pytest.approx(other.interval, rel=1e-3)
            assert (one.p_value or 0) == pytest.approx(other.p_value or 0, rel=1e-3)
        assert vars(got.strata_split) == pytest.approx(vars(expected.strata_split), rel=1e-4)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_copies_are_one_unit_of_a_class(folders, encoder, tmp_path):
    shutil.copytree(folders / "fake", tmp_path / "fake")
    for i in range(3):
        for path in find_images(folders / "fake" / "dark"):
            shutil.copy(path, tmp_path / "fake" / "dark" / f"{i} {path.name}")
    plain = score(folders / "fake", folders / "real", weights=encoder, **CLASSES).strata[0]
    copied = score(tmp_path / "fake", folders / "real", weights=encoder, **CLASSES).strata[0]
    assert (plain.n_fake, copied.n_fake) == (8, 32)
    assert copied.interval == pytest.approx(plain.interval, rel=1e-4)
    assert copied.debiased == pytest.approx(plain.debiased, rel=1e-4)
    first, *others = find_images(tmp_path / "fake" / "light")
    for path in others:
        path.unlink()
        shutil.copy(first, path)
    collapsed = score(tmp_path / "fake", folders / "real", weights=encoder, **CLASSES).strata[1]
    assert (collapsed.n_fake, collapsed.withheld) == (4, "1 distinct generated image, at least 4 are needed")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_class_that_cannot_be_read_is_withheld(folders, encoder, tmp_path):
    shutil.copytree(folders / "fake", tmp_path / "fake")
    for path in find_images(tmp_path / "fake" / "light"):
        path.write_bytes(b"x")
    result = score(tmp_path / "fake", folders / "real", weights=encoder, skip_unreadable=True, **CLASSES)
    assert [one.withheld for one in result.strata] == ["", "only real images"]
    assert "not compared: light" in str(result)


def test_tiles_are_of_the_class_of_their_file_and_of_a_kind_each(folders, with_kinds):
    result = score(folders / "fake", folders / "real", weights=with_kinds, tile=32, **CLASSES)
    assert [(one.n_real, one.n_fake) for one in result.strata] == [(32, 32), (16, 16)]
    result = score(folders / "fake", folders / "real", weights=with_kinds, tile=32, by="kinds")
    assert sum(one.n_fake for one in result.strata) == 48


def test_strata_that_cannot_be_are_refused_before_an_image_is_read(folders, encoder, with_kinds, tmp_path, monkeypatch):
    real, fake = folders / "real", folders / "fake"
    plain, classed = tmp_path / "plain.safetensors", tmp_path / "classed.safetensors"
    compute_statistics(real, weights=encoder).save(plain)
    compute_statistics(real, weights=encoder, classes="parent").save(classed)
    of_light = compute_statistics(real / "light", weights=encoder, classes="parent")
    (tmp_path / "short.csv").write_text("path,class\ndark/00.png,dark\n")
    monkeypatch.setattr("torchmetrics_rl2.images.reader.ImageReader.read", lambda *args: 1 / 0)
    kinds, classes = {"by": "kinds"}, {"by": "classes"}
    missing = "The {} images of .* have no classes, which both sides need. Give --{}-classes"
    in_file = "The statistics of .*plain.safetensors have no classes, which both sides need. Make them with 'rl2 stats"
    for sides, options, sentence in (
        ((fake, real), {"by": "slide"}, "cannot be divided by 'slide'. Expected 'kinds', .*, or 'classes'"),
        ((fake, real), kinds | CLASSES, "not both"),
        ((fake, real), {"fake_classes": "parent"}, missing.format("real", "real")),
        ((fake, real), {"real_classes": "parent"}, missing.format("generated", "fake")),
        ((fake, classed), classes, missing.format("generated", "fake")),
        ((fake, [classed, real]), {"fake_classes": "parent"}, missing.format("real", "real")),
        ((fake, None), kinds, "need the real images.*leave out --by kinds"),
        ((fake, None), CLASSES, "need the real images.*leave out the classes"),
        ((fake, plain), kinds, "plain.safetensors are sums over all kinds of tissue"),
        ((fake, plain), {"fake_classes": "parent"}, in_file),
        ((plain, classed), classes, in_file),
        ((plain, real), {"real_classes": "parent"}, in_file),
        ((fake, classed), CLASSES, "The classes of statistics are those they were made with"),
        ((fake / "dark", of_light), {"fake_classes": "parent"}, "have the classes light, and generated ones dark"),
        ((fake, real), CLASSES | {"real_classes": ""}, "There is no table"),
        ((fake, real), kinds, "The weights random@1 have no kinds of tissue"),
        ((fake, real), CLASSES | {"fake_classes": tmp_path / "short.csv"}, "has no class for 1[12] of 12 images"),
        (
            (fake, real),
            CLASSES | {"fake_classes": tmp_path / "gone.csv"},
            "Expected 'parent' or a CSV",
        ),
        ((fake / "dark", real / "dark"), CLASSES, "of one class, dark. Strata need at least two"),
        ((fake / "dark", real / "light"), CLASSES, "have the classes light, and generated ones dark: none in common"),
    ):
        with pytest.raises(RL2Error, match=sentence):
            score(*sides, weights=encoder, **options)
    with pytest.raises(RL2Error, match="Moments have no kinds of tissue"):
        score(fake, real, weights=Moments(), by="kinds")
    monkeypatch.setattr("torchmetrics_rl2.scoring.strata.MAX_CLASSES", 1)
    with pytest.raises(RL2Error, match="2 classes, dark, light among them.*are groups, not classes"):
        score(fake, real, weights=encoder, **CLASSES)


def test_an_encoder_of_ones_own_has_classes(folders):
    result = score(folders / "fake", folders / "real", weights=Moments(), **CLASSES)
    assert all(one.value is not None for one in result.strata)
    json.dumps(result.to_dict(), allow_nan=False)
