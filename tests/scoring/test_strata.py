import json
import shutil
from dataclasses import replace

import pytest
import torch

from tests.conftest import Moments
from torchmetrics_rl2 import LatentEncoder, RL2Error, Statistics, compute_statistics, score
from torchmetrics_rl2.distance import compare
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


@pytest.mark.parametrize("groups", [{}, GROUPS])
def test_each_class_is_scored_as_it_would_be_alone(folders, encoder, groups):
    result = score(folders / "fake", folders / "real", weights=encoder, **CLASSES, **groups)
    assert (result.strata_by, [one.name for one in result.strata]) == ("classes", ["dark", "light"])
    for found in result.strata:
        alone = score(folders / "fake" / found.name, folders / "real" / found.name, weights=encoder, **groups)
        for name in ("n_real", "n_fake", "value", "debiased", "baseline", "baseline_multiple"):
            assert getattr(found, name) == pytest.approx(getattr(alone, name), rel=1e-6)
        assert (found.p_value is None) == alone.assumes_independence
        if found.p_value is not None:
            assert alone.p_value <= found.p_value <= 2 * alone.p_value
    assert result.strata_split.value == pytest.approx(result.value, rel=1e-6)


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
    compute_statistics(real, weights=encoder).save(tmp_path / "real.safetensors")
    (tmp_path / "short.csv").write_text("path,class\ndark/00.png,dark\n")
    monkeypatch.setattr("torchmetrics_rl2.images.reader.ImageReader.read", lambda *args: 1 / 0)
    kinds = {"by": "kinds"}
    for sides, options, sentence in (
        ((fake, real), {"by": "slide"}, "no strata by 'slide'. Expected 'kinds'"),
        ((fake, real), kinds | CLASSES, "not both"),
        ((fake, real), {"fake_classes": "parent"}, "only --fake-classes is given. Give --real-classes too"),
        ((fake, real), {"real_classes": "parent"}, "only --real-classes is given. Give --fake-classes too"),
        ((fake, None), kinds, "need the real images.*leave out --by kinds"),
        ((fake, None), CLASSES, "need the real images.*leave out --real-classes and --fake-classes"),
        ((fake, tmp_path / "real.safetensors"), kinds, "real.safetensors are sums over all strata"),
        ((tmp_path / "real.safetensors", real), CLASSES, "real.safetensors are sums over all strata"),
        ((tmp_path / "real.safetensors", tmp_path / "real.safetensors"), CLASSES, "are sums over all strata"),
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
    with pytest.raises(RL2Error, match="2 classes, dark, light among them.*groups: see --real-groups"):
        score(fake, real, weights=encoder, **CLASSES)


def test_an_encoder_of_ones_own_has_classes(folders):
    result = score(folders / "fake", folders / "real", weights=Moments(), **CLASSES)
    assert all(one.value is not None for one in result.strata)
    json.dumps(result.to_dict(), allow_nan=False)
