"""ResNetL2 class by class, as ``update`` names them."""

import copy
import json
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchmetrics import MetricCollection
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.wrappers import BootStrapper

from tests.conftest import Moments, brightened, random_images, sums
from torchmetrics_rl2 import ResNetL2, RL2Error, compute_statistics, score
from torchmetrics_rl2.distance.kinds import PARTS
from torchmetrics_rl2.distance.strata_result import strata_details, strata_sentence
from torchmetrics_rl2.metrics import kept_sums
from torchmetrics_rl2.metrics.image_names import CLASSES

COUNT = 60
MASK = torch.arange(COUNT) % 2 == 0
# Other shares on both sides, what one side has too few of and what only one has; a slide is of several classes.
OF_REAL = ["gland"] * 13 + ["stroma"] * 8 + ["fat"] * 6 + ["rare"] * 3
OF_FAKE = ["gland"] * 6 + ["stroma"] * 13 + ["fat"] * 4 + ["rare"] * 4 + ["nerve"] * 3
LABELS = [(OF_REAL if i % 2 == 0 else OF_FAKE)[i // 2] for i in range(COUNT)]
SLIDES = [f"slide {i % 2} {i // 2 % 7}" for i in range(COUNT)]
# Slides differ a little, and generated stroma is darker.
DARKER = [len(name) + 0.1 * (i // 2 % 7) + i % 2 * (name == "stroma") for i, name in enumerate(LABELS)]
IMAGES = (random_images(COUNT, px=32) / torch.tensor(DARKER)[:, None, None, None]).to(torch.uint8)
ORDER = torch.randperm(COUNT, generator=torch.Generator().manual_seed(0))
OPTIONS = {"sums": {}, "images": {"uncertainty": True}, "groups": {"groups": True}}
NUMBERS = ("value", "debiased", "baseline", "baseline_multiple", "interval", "p_value")


def by_class(**options):
    return ResNetL2(Moments(), classes=True, **options)


def named(rows, groups):
    slides = {"groups": [SLIDES[i] for i in rows]} if groups else {}
    return {"classes": [LABELS[i] for i in rows], **slides}


def updated(metric, chosen=ORDER, size=11):
    for rows in chosen.split(size):
        metric.update(IMAGES[rows], MASK[rows], **named(rows, metric.groups))
    return metric


def rows_of(metric, side):
    """The row of each key."""
    keys = metric._keys(side)
    assert len(keys) == len(set(keys))
    values = [value.tolist() for value in vars(metric._kept(side)).values() if value is not None]
    return dict(zip(keys, zip(*values, strict=True), strict=True))


def assert_same(found, other):
    for side in ("real", "fake"):
        assert rows_of(found, side) == rows_of(other, side)


def assert_same_numbers(found, wanted, names, rel):
    for name in names:
        number = getattr(wanted, name)
        assert getattr(found, name) == (None if number is None else pytest.approx(number, rel=rel))


def assert_same_strata(found, wanted, rel=1e-9):
    assert [one.name for one in found.strata] == [one.name for one in wanted.strata]
    for one, other in zip(found.strata, wanted.strata, strict=True):
        for name in ("n_real", "n_fake", "differs", "closest", "withheld"):
            assert getattr(one, name) == getattr(other, name)
        assert_same_numbers(one, other, NUMBERS, rel)
    assert vars(found.strata_split) == pytest.approx(vars(wanted.strata_split), rel=rel)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The images as files, in a folder for each class, and a table of their slides."""
    folder = tmp_path_factory.mktemp("classes")
    lines = ["path,group"]
    for i, image in enumerate(IMAGES):
        path = folder / ("real" if MASK[i] else "fake") / LABELS[i] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
        lines.append(f"{path},{SLIDES[i]}")
    (folder / "slides.csv").write_text("\n".join(lines))
    return folder


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("units", ["images", "groups"])
def test_classes_are_those_of_a_score_of_the_same_files(folders, units):
    slides = {f"{side}_groups": folders / "slides.csv" for side in ("real", "fake")} if units == "groups" else {}
    options = {"real_classes": "parent", "fake_classes": "parent", **slides}
    wanted = score(folders / "fake", folders / "real", weights=Moments(), **options)
    found = updated(by_class(**OPTIONS[units])).result()
    assert_same_strata(found, wanted)
    assert found.strata_by == wanted.strata_by == "classes"
    assert strata_sentence(found) == strata_sentence(wanted)
    assert strata_details(found) == strata_details(wanted)
    assert found.to_dict()["strata"][0].keys() == wanted.to_dict()["strata"][0].keys()
    # Something to tell apart, and something to withhold.
    assert {one.differs for one in found.strata} == {True, False}
    assert len({one.withheld for one in found.strata}) == 3
    assert found.value == pytest.approx(wanted.value, rel=1e-9)
    assert found.interval == pytest.approx(wanted.interval, rel=1e-9)


def test_sums_alone_have_values_and_the_split_and_no_intervals():
    found, tested = (updated(by_class(**OPTIONS[units])).result() for units in ("sums", "images"))
    for one, other in zip(found.strata, tested.strata, strict=True):
        assert (one.interval, one.p_value, one.differs) == (None, None, False)
        assert (one.closest, one.withheld) == (other.closest, other.withheld)
        assert_same_numbers(one, other, NUMBERS[:4], rel=1e-9)
    assert vars(found.strata_split) == pytest.approx(vars(tested.strata_split), rel=1e-9)
    assert any(one.differs for one in tested.strata)
    sentence = strata_sentence(found)[0]
    assert sentence.startswith("Within classes, without intervals: stroma (")
    assert "differ" not in sentence
    assert sentence.endswith("not compared: nerve, rare")
    head, columns, *rows = strata_details(found)
    assert head == "Within classes, without intervals, which need second moments or groups:"
    assert columns.split() == ["real", "generated", "RL2", "multiple", "debiased"]
    assert [row.split()[0] for row in rows[:5]] == ["fat", "gland", "nerve", "rare", "stroma"]
    assert len({row.index("x") for row in (rows[0], rows[1], rows[4])}) == 1
    json.dumps(found.to_dict(), allow_nan=False)


@pytest.mark.parametrize("units", OPTIONS)
def test_the_whole_is_as_without_classes(units):
    options = OPTIONS[units]
    for debiased in (False, True):
        metric, plain = by_class(debiased=debiased, **options), ResNetL2(Moments(), debiased=debiased, **options)
        updated(metric)
        plain.update(IMAGES, MASK, **({"groups": SLIDES} if metric.groups else {}))
        assert metric.compute().item() == pytest.approx(plain.compute().item(), rel=1e-6)
    found, wanted = metric.result(), plain.result()
    assert_same_numbers(found, wanted, (*NUMBERS, "detectable", "variance_ratio"), rel=1e-9)
    # A slide of several classes is one unit of the whole.
    assert (found.groups_real, found.groups_fake) == (wanted.groups_real, wanted.groups_fake)
    assert wanted.groups_real == (7 if metric.groups else None)
    assert set(metric.statistics(real=True).group_names) == set(plain.statistics(real=True).group_names)
    assert len(metric.real_count) == (23 if metric.groups else 4)


def test_parts_and_kinds_are_as_without_classes(encoder_of_kinds):
    images, labels = brightened(random_images(24, seed=3)), [f"{i % 2}" for i in range(24)]
    mask = torch.arange(24) < 12
    for part in PARTS:
        for options in ({"debiased": True}, {"uncertainty": True}):
            metric = ResNetL2(encoder_of_kinds, part=part, classes=True, **options)
            plain = ResNetL2(encoder_of_kinds, part=part, **options)
            metric.update(images, mask, classes=labels)
            plain.update(images, mask)
            assert metric.compute().item() == pytest.approx(plain.compute().item(), rel=1e-5)
            assert metric.result().kinds == plain.result().kinds
            assert_same_numbers(metric.result().look, plain.result().look, ("value", "interval"), rel=1e-6)
            assert [one.n_fake for one in metric.result().strata] == [6, 6]
    assert metric.fake_kind_counts.shape == (2, 3)


def test_a_class_takes_one_row_and_second_moments_only_where_they_serve():
    expected = {
        "sum": (torch.float64, (3,)),
        "square_sum": (torch.float64, ()),
        "count": (torch.int64, ()),
        "second_moment": (torch.float64, (4, 4)),
    }
    for units, options in (*OPTIONS.items(), ("groups", {"groups": True, "uncertainty": True})):
        metric = by_class(**options)
        for step in range(4):
            slides = {"groups": ["s", "t", "s"]} if metric.groups else {}
            metric(IMAGES[:3], real=False, classes=["a", "b", "a"], **slides)
            metric.update(IMAGES[3:6], real=False, classes="a" if step else "c", **slides)
        found = {name[5:]: value for name, value in sums(metric).items() if "fake" in name}
        names = {name for name in found if name.endswith("names")}
        assert names == {"class_names", "group_names"} if metric.groups else {"class_names"}
        count = 5 if metric.groups else 3
        for name in found.keys() - names:
            dtype, shape = expected[name]
            assert (found[name].dtype, tuple(found[name].shape)) == (dtype, (count, *shape))
        assert ("second_moment" in found) == (units == "images")
        counts = dict.fromkeys("abc", 0)
        for name, images in zip(metric._names("fake", CLASSES), metric.fake_count.tolist(), strict=True):
            counts[name] += images
        assert counts == {"a": 17, "b": 4, "c": 3}


@pytest.mark.parametrize("units", OPTIONS)
@settings(max_examples=15, deadline=None)
@given(order=st.permutations(range(COUNT)), cuts=st.sets(st.integers(1, COUNT - 1), max_size=6), forward=st.booleans())
def test_order_batches_and_forward_do_not_matter(units, order, cuts, forward):
    network = Moments()
    whole, parts = (updated_of(network, units) for _ in range(2))
    parts.reset()
    edges = [0, *sorted(cuts), COUNT]
    for start, end in zip(edges, edges[1:], strict=False):
        rows = torch.tensor(order[start:end])
        call = parts.forward if forward else parts.update
        call(IMAGES[rows], MASK[rows], **named(rows, parts.groups))
    assert_same_strata(parts.result(), whole.result(), rel=1e-6)
    for side in ("real", "fake"):
        found, wanted = rows_of(parts, side), rows_of(whole, side)
        assert found.keys() == wanted.keys()
        assert all(found[key][:3] == wanted[key][:3] for key in wanted)


def updated_of(network, units):
    return updated(ResNetL2(network, classes=True, **OPTIONS[units]))


@pytest.mark.parametrize("method", ["update", "forward"])
@pytest.mark.parametrize(
    ("classes", "sentence"),
    [
        (None, r"classes=True\) expects classes with every batch, .*but got none"),
        (["a", "b"], "a class for each of 3 images, but got 2 classes"),
        (torch.ones(3), "as classes, text or whole numbers, but got 1.0"),
        ([True, False, True], "but got True"),
        (["a", "b\0", "b"], r"but got 'b\\x00'"),
    ],
)
def test_wrong_classes_are_refused_before_anything_changes(method, classes, sentence):
    for options in OPTIONS.values():
        metric = updated(by_class(**options))
        before = sums(metric)
        slides = {"groups": "s"} if metric.groups else {}
        with pytest.raises(ValueError, match=sentence):
            getattr(metric, method)(IMAGES[:3], real=True, classes=classes, **slides)
        assert all(torch.equal(getattr(metric, name), value) for name, value in before.items())


def test_classes_that_would_be_forgotten_are_refused_and_groups_too():
    for option, other in (("classes", "groups"), ("groups", "classes")):
        metric = ResNetL2(Moments(), **{other: True})
        with pytest.raises(ValueError, match=f"Make it with {option}=True"):
            metric.update(IMAGES[:2], real=True, **{option: "a", other: "b"})
        both = by_class(groups=True)
        with pytest.raises(ValueError, match=f"expects {option} with every batch"):
            both.update(IMAGES[:2], real=True, **{other: "a"})
        assert not any(value.numel() for value in (*sums(metric).values(), *sums(both).values()))


def test_slides_as_classes_are_refused_before_they_fill_memory(monkeypatch):
    monkeypatch.setattr(kept_sums, "MAX_CLASSES", 4)
    metric = by_class()
    metric.update(IMAGES[:4], MASK[:4], classes=list("abcd"))
    metric.update(IMAGES[:5], real=True, classes=list("acbad"))
    before = sums(metric)
    with pytest.raises(RL2Error, match="more than 4 classes, a, b, c, d, e among them. Slides and patients are groups"):
        metric.update(IMAGES[:1], real=True, classes="e")
    assert all(torch.equal(getattr(metric, name), value) for name, value in before.items())


class Named(Moments):
    weights_id = "ab" * 32


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("units", OPTIONS)
def test_classes_of_a_reference_are_those_it_was_made_with(folders, tmp_path, units):
    options = {"debiased": units != "sums", **OPTIONS[units]}
    expected = updated(ResNetL2(Named(), classes=True, **options))
    statistics = expected.statistics(real=True)
    statistics.save(tmp_path / "real.safetensors")
    fakes = ORDER[~MASK[ORDER]]
    for reference in (statistics, tmp_path / "real.safetensors"):
        metric = ResNetL2(Named(), reference=reference, classes=True, **options)
        metric.update(IMAGES[:4], real=True)  # never looked at
        metric.update(IMAGES[MASK][:9], real=True, **named(torch.arange(COUNT)[MASK][:9], metric.groups))
        updated(metric, fakes[:5])
        updated(metric, torch.cat([fakes[5:], ORDER[MASK[ORDER]]]), size=7)  # masks with real images among them
        for _ in range(2):
            assert_same_strata(metric.result(), expected.result())
            assert metric.compute().item() == pytest.approx(expected.compute().item(), rel=1e-6)
            metric.reset()
            updated(metric, fakes)
        assert strata_details(metric.result()) == strata_details(expected.result())
        assert "4 classes" in repr(metric)
        assert metric.clone().statistics(real=True).classes.keys() == statistics.classes.keys()


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("units", ["images", "groups"])
def test_a_reference_of_files_is_that_of_a_score_of_them(folders, tmp_path, units):
    slides = folders / "slides.csv" if units == "groups" else None
    options = {"real_classes": "parent", "fake_classes": "parent", "real_groups": slides, "fake_groups": slides}
    wanted = score(folders / "fake", folders / "real", weights=Named(), **options)
    compute_statistics(folders / "real", weights=Named(), classes="parent", groups=slides).save(
        tmp_path / "r.safetensors"
    )
    metric = ResNetL2(Named(), reference=tmp_path / "r.safetensors", classes=True, **OPTIONS[units])
    found = updated(metric, ORDER[~MASK[ORDER]]).result()
    assert_same_strata(found, wanted)
    assert strata_sentence(found) == strata_sentence(wanted)
    # And what a metric keeps is what the files give.
    kept = updated(ResNetL2(Named(), classes=True, **OPTIONS[units])).statistics(real=True)
    assert [(name, len(one)) for name, one in kept.classes.items()] == [
        (name, OF_REAL.count(name)) for name in sorted(set(OF_REAL))
    ]


def test_a_reference_without_classes_is_refused(encoder):
    plain = ResNetL2(encoder, uncertainty=True)
    plain.update(random_images(4), real=True)
    for reference in (plain.statistics(real=True), "weights"):
        with pytest.raises(RL2Error, match="needs the classes of the reference, but .* has none. Make it with 'rl2 st"):
            ResNetL2(encoder, reference=reference, classes=True)
    with_classes = ResNetL2(encoder, uncertainty=True, classes=True)
    with_classes.update(random_images(4), real=True, classes=list("aabb"))
    without = ResNetL2(encoder, reference=with_classes.statistics(real=True))  # whose classes nobody asks for
    without.update(random_images(4), real=False)
    assert without.result().strata == []


def test_names_are_text_and_numbers_of_a_batch_or_of_each_image():
    metric = by_class()
    for classes in (torch.tensor([3, 4, 3]), np.array([3, 4, 3]), (3, 4, 3), np.array(["3", "4", "3"])):
        metric.update(IMAGES[:3], real=True, classes=classes)
    metric.update(IMAGES[:3], torch.tensor([True, False, True]), classes="Größe\udce9")
    assert rows_of(metric, "real").keys() == {("3",), ("4",), ("Größe\udce9",)}
    assert metric.real_count.tolist() == [8, 4, 2]
    assert rows_of(metric, "fake").keys() == {("Größe\udce9",)}


@pytest.mark.parametrize("units", OPTIONS)
def test_shards_merge_by_class(units):
    options = OPTIONS[units]
    whole = updated(by_class(**options))
    shards = [updated(by_class(**options), chosen) for chosen in ORDER.split(35)]
    twin = shards[0].clone()
    shards[0].merge_state(shards[1])
    twin.merge_state(shards[1].metric_state)
    empty = by_class(**options)
    empty.merge_state(whole)
    for merged in (shards[0], twin, empty):
        assert_same_strata(merged.result(), whole.result())
    for other in (ResNetL2(Moments(), **other) for other in OPTIONS.values()):
        with pytest.raises(RL2Error, match="other options"):
            whole.merge_state(other)
    with pytest.raises(RL2Error, match="other options"):
        ResNetL2(Moments()).merge_state(whole)
    if units == "groups":
        with pytest.raises(RL2Error, match="real_group_names have a name twice: of a metric with other options"):
            ResNetL2(Moments(), groups=True).merge_state(whole)
    wrong = {**empty.metric_state, "real_class_names": torch.tensor([97, 0, 98, 0], dtype=torch.uint8)}
    with pytest.raises(RL2Error, match="real_class_names has 2 names for sums of"):
        whole.merge_state(wrong)


@pytest.mark.parametrize("units", OPTIONS)
def test_copies_and_checkpoints_have_the_classes(units):
    options = OPTIONS[units]
    metric = updated(by_class(**options))
    result = metric.result()
    metric.persistent(True)
    saved, loaded = copy.deepcopy(metric.state_dict()), by_class(**options)
    loaded.load_state_dict(copy.deepcopy(saved))
    twins = metric.clone(), pickle.loads(pickle.dumps(metric)), loaded, metric.clone().to("cpu").half()
    for twin in twins:
        assert_same(twin, metric)
        assert twin.result() == result
        updated(twin, ORDER[:9])
        assert sum(one.n_real + one.n_fake for one in twin.result().strata) == COUNT + 9
    assert metric.result() == result
    with pytest.raises(RuntimeError, match="other options"):
        loaded.load_state_dict({name: value for name, value in saved.items() if "class_names" not in name})
    with pytest.raises(RuntimeError, match=r"other options|Unexpected key\(s\) .*class_names"):
        ResNetL2(Moments(), **options).load_state_dict(saved)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("units", OPTIONS)
def test_reset_forgets_classes_and_keeps_those_of_kept_reals(units):
    plain, kept = (updated(by_class(reset_real_features=keep, **OPTIONS[units])) for keep in (True, False))
    result = kept.result()
    fakes = ORDER[~MASK[ORDER]]
    for _ in range(2):
        plain.reset()
        assert not any(value.numel() for value in sums(plain).values())
        kept.reset()
        assert kept.fake_class_names.numel() == 0
        assert {one.withheld for one in kept.result().strata} == {"only real images"}
        kept.update(IMAGES[fakes], real=False, **named(fakes, kept.groups))
        assert_same_strata(kept.result(), result)


def test_metrics_with_and_without_classes_are_not_merged_in_a_collection():
    network = Moments().eval()
    seen = []
    network.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
    options = {"a": {}, "b": {"debiased": True}, "c": {"uncertainty": True}}
    together = MetricCollection({name: ResNetL2(network, classes=True, **more) for name, more in options.items()})
    for _ in range(2):
        together.reset()
        seen.clear()
        together.update(IMAGES, MASK, classes=LABELS)
    assert sorted(map(sorted, together.compute_groups.values())) == [["a", "b"], ["c"]]
    assert seen == [COUNT] * 2
    assert together["c"].result().strata[0].interval is not None
    for one in (ResNetL2(network, **more) for more in OPTIONS.values()):
        other = ResNetL2(network, classes=True, groups=one.groups, uncertainty=one.uncertainty)
        assert not MetricCollection._equal_metric_states(one, other)  # with nothing in them


def test_beside_fid_in_one_loop():
    class Small(Moments):
        def forward(self, imgs):
            return imgs.float().mean((2, 3))

    metrics = MetricCollection({"fid": FrechetInceptionDistance(Small()), "rl2": ResNetL2(Small(), classes=True)})
    for side in (True, False):
        rows = torch.arange(COUNT)[side == MASK]
        metrics.update(IMAGES[rows], real=side, classes=[LABELS[i] for i in rows])
    assert metrics.compute()["fid"] > 0
    assert_same_strata(metrics["rl2"].result(), updated(by_class()).result())


def test_a_bootstrap_resamples_classes_with_their_images():
    numbers = torch.tensor([sorted(set(LABELS)).index(name) for name in LABELS])
    wrapper = BootStrapper(by_class(), num_bootstraps=3)
    wrapper.update(IMAGES, MASK, classes=numbers)
    for metric in wrapper.metrics:
        z = {str(number): Moments().eval()(IMAGES[numbers == number]).double() for number in numbers.unique().tolist()}
        for side in ("real", "fake"):
            for (name,), row in rows_of(metric, side).items():
                low, high = (end.values.tolist() for end in (z[name].min(0), z[name].max(0)))
                assert all(
                    a * row[2] - 1e-6 <= x <= b * row[2] + 1e-6 for a, x, b in zip(low, row[0], high, strict=True)
                )


def test_a_slide_of_several_classes_is_one_group_where_there_are_too_few():
    metric = by_class(groups=True, debiased=True)
    metric.update(IMAGES[:4], real=True, classes=list("abab"), groups="s")
    metric.update(IMAGES[4:8], real=False, classes="a", groups=list("stuv"))
    with pytest.warns(UserWarning, match="at least 2 groups on each side"):
        assert metric.compute().isnan()


@pytest.mark.parametrize("units", OPTIONS)
def test_a_mask_of_one_side_alone_adds_nothing_to_the_other(units):
    metric = by_class(**OPTIONS[units])
    for _ in range(2):
        metric.update(IMAGES[:4], torch.ones(4, dtype=torch.bool), **named(range(4), metric.groups))
        assert (len(metric.fake_count), int(metric.real_count.sum())) == (0, 4)
        metric.reset()


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_little_is_said_of_little():
    metric = by_class(uncertainty=True)
    nothing = metric.result()
    assert (nothing.strata, nothing.strata_by, nothing.strata_split) == ([], "classes", None)
    metric.update(IMAGES[:8], real=True, classes="a")
    metric.update(IMAGES[8:16], real=False, classes="b")
    assert [one.withheld for one in metric.result().strata] == ["only real images", "only generated images"]
    metric.update(IMAGES[48:], real=False, classes="a")
    assert "within classes: 1 of 1 differs: a (" in str(metric.result())
    for result in (nothing, metric.result()):
        json.dumps(result.to_dict(), allow_nan=False)


def test_nan_stays_in_its_class():
    for options in OPTIONS.values():
        metric = by_class(normalize=True, **options)
        images = IMAGES / 255
        images[LABELS.index("stroma")] = torch.nan
        for rows in ORDER.split(13):
            metric.update(images[rows], MASK[rows], **named(rows, metric.groups))
        with pytest.warns(UserWarning, match="NaN pixels"):
            found = metric.result()
        withheld = {one.name: one.withheld for one in found.strata}
        assert withheld["stroma"] == "some latents are NaN or too large"
        assert withheld["gland"] == withheld["fat"] == ""
        assert found.strata_split.value > 0
        json.dumps(found.to_dict(), allow_nan=False)


def test_states_are_replaced_and_never_changed_in_place():
    metric = updated(by_class(uncertainty=True))
    before, copies = {name: getattr(metric, name) for name in metric._defaults}, sums(metric)
    updated(metric)
    metric(IMAGES, MASK, classes=LABELS)
    assert all(torch.equal(before[name], value) for name, value in copies.items())
    with torch.inference_mode():
        metric.reset()
    updated(metric)
    assert metric.compute().isfinite()


def test_numbers_of_each_class_are_logged_by_its_name():
    found = updated(by_class(groups=True)).result()
    numbers, stroma = found.scalars("val/"), found.strata[-1]
    assert stroma.name == "stroma"
    assert numbers["val/stroma/rl2"] == stroma.value
    assert (numbers["val/stroma/rl2_low"], numbers["val/stroma/rl2_high"]) == stroma.interval
    assert numbers["val/stroma/p_value"] == stroma.p_value
    assert numbers["val/conditional"] == found.strata_split.conditional
    assert not any(name.startswith("val/rare") for name in numbers)
    alone = updated(by_class()).result().scalars()
    assert alone["stroma/debiased"] == pytest.approx(stroma.debiased, rel=0.2)
    assert "stroma/rl2_low" not in alone
