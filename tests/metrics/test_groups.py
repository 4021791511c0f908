"""ResNetL2 with slides or patients as units, as ``update`` names them."""

import copy
import math
import pickle
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torchmetrics import MetricCollection
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.wrappers import BootStrapper, Running

from tests.conftest import Moments, brightened, random_images, sums
from torchmetrics_rl2 import ResNetL2, RL2Error, Statistics, compare
from torchmetrics_rl2.distance.kinds import PARTS
from torchmetrics_rl2.metrics.image_names import GROUPS

MASK = torch.arange(40) < 20
# Shuffled, so that a group is of several batches; five real and seven generated ones, two of one name.
NAMES = [f"slide {i % 5}" if i < 20 else f"slide {3 + i % 7}" for i in range(40)]
# Slides differ by more than images of one slide do.
IMAGES = random_images(40, px=8) // torch.tensor([2 + int(name[6:]) % 3 + i // 20 for i, name in enumerate(NAMES)])[
    :, None, None, None
].to(torch.uint8)
ORDER = torch.randperm(40, generator=torch.Generator().manual_seed(0))


def updated(metric, chosen=ORDER, size=11):
    for rows in chosen.split(size):
        metric.update(IMAGES[rows], MASK[rows], groups=[NAMES[i] for i in rows])
    return metric


def expected(network, **described):
    z = network(IMAGES).detach()
    sides = [(z[MASK], NAMES[:20]), (z[~MASK], NAMES[20:])]
    return [Statistics.of_latents(*side, getattr(network, "kinds", None), **described) for side in sides]


def by_name(metric, side):
    """The row of each group."""
    kept, names = metric._kept(side), metric._names(side, GROUPS)
    values = [value.tolist() for value in vars(kept).values() if value is not None]
    assert len(names) == len(set(names))
    return dict(zip(names, zip(*values, strict=True), strict=True))


def assert_same(found, other):
    for side in ("real", "fake"):
        assert by_name(found, side) == by_name(other, side)


def test_the_result_is_that_of_statistics_with_groups():
    network = Moments().eval()
    metric = updated(ResNetL2(network, groups=True))
    found, wanted = metric.result(), compare(*expected(network))
    assert (found.groups_real, found.groups_fake, found.assumes_independence) == (5, 7, False)
    for name in ("value", "debiased", "interval", "p_value", "detectable", "variance_ratio", "baseline"):
        assert getattr(found, name) == pytest.approx(getattr(wanted, name), rel=1e-9)
    assert 1e-3 < found.p_value < 0.5
    assert found.scalars("val/")["val/p_value"] == found.p_value
    by_image = ResNetL2(network, uncertainty=True)
    by_image.update(IMAGES, MASK)
    assert found.value == pytest.approx(by_image.result().value, rel=1e-12)
    assert found.interval != pytest.approx(by_image.result().interval, rel=0.01)


def test_groups_are_those_of_weights_with_kinds_too(encoder_of_kinds):
    images = brightened(random_images(24, seed=3))
    names, mask = [str(i // 2) for i in range(24)], torch.arange(24) < 12
    z = encoder_of_kinds(images)
    wanted = compare(encoder_of_kinds.statistics(z[:12], names[:12]), encoder_of_kinds.statistics(z[12:], names[12:]))
    for part in (None, *PARTS):
        metric = ResNetL2(encoder_of_kinds, part=part, groups=True, debiased=True)
        metric.update(images, mask, groups=names)
        found = metric.result()
        assert found.kinds == wanted.kinds
        assert found.look.p_value == pytest.approx(wanted.look.p_value, rel=1e-6)
        of_part = getattr(wanted, part) if part else wanted
        assert metric.compute().item() == pytest.approx(of_part.debiased, rel=1e-5)
    assert metric.fake_kind_counts.shape == (6, 3)


@settings(max_examples=30, deadline=None)
@given(order=st.permutations(range(40)), cuts=st.sets(st.integers(1, 39), max_size=6), forward=st.booleans())
def test_order_batches_and_forward_do_not_matter(order, cuts, forward):
    network = Moments()
    whole, parts = updated(ResNetL2(network, groups=True)), ResNetL2(network, groups=True)
    edges = [0, *sorted(cuts), 40]
    for start, end in zip(edges, edges[1:], strict=False):
        chosen = torch.tensor(order[start:end])
        call = parts.forward if forward else parts.update
        call(IMAGES[chosen], MASK[chosen], groups=[NAMES[i] for i in chosen])
    assert_same(parts, whole)
    assert parts.result().p_value == pytest.approx(whole.result().p_value, rel=1e-6)


def test_a_group_takes_one_row_however_many_steps_there_are():
    metric = ResNetL2(Moments(), groups=True)
    for step in range(5):
        metric(IMAGES[:4], real=False, groups=["a", "b", "a", "b"])
        metric.update(IMAGES[4:8], real=False, groups="a" if step else "c")
    described = {name: (value.dtype, tuple(value.shape)) for name, value in sums(metric).items() if "fake" in name}
    assert described == {
        "fake_sum": (torch.float64, (3, 3)),
        "fake_square_sum": (torch.float64, (3,)),
        "fake_count": (torch.int64, (3,)),
        "fake_group_names": (torch.uint8, (6,)),
    }
    assert dict(zip(metric._names("fake", GROUPS), metric.fake_count.tolist(), strict=True)) == {
        "a": 26,
        "b": 10,
        "c": 4,
    }
    assert "40 generated" in repr(metric)


def test_noise_is_that_of_groups_where_it_is_taken_off():
    metric = updated(ResNetL2(Moments(), groups=True, debiased=True))
    assert metric.compute().item() == pytest.approx(metric.result().debiased, rel=1e-6)
    by_image = ResNetL2(Moments(), debiased=True)
    by_image.update(IMAGES, MASK)
    assert metric.compute() != pytest.approx(by_image.compute().item(), rel=1e-3)


def test_names_are_text_of_any_length_and_numbers():
    names = ["", "Größe/切片 7.svs", "x" * 5000, "folder\udce9", "1", 1, np.int64(1), np.str_("1")]
    metric = ResNetL2(Moments(), groups=True)
    metric.update(IMAGES[:8], real=True, groups=names)
    assert metric.statistics(real=True).group_names == (*names[:4], "1")
    for groups in (torch.tensor([3, 4, 3]), np.array([3, 4, 3]), (3, 4, 3), np.array(["3", "4", "3"])):
        metric.reset()
        metric.update(IMAGES[:3], real=True, groups=groups)
        assert metric.statistics(real=True).group_names == ("3", "4")
        assert metric.real_count.tolist() == [2, 1]
    for groups in ("abc", 3, np.str_("abc"), torch.tensor(3)):  # of the whole batch, and no three letters
        metric.reset()
        metric.update(IMAGES[:3], real=True, groups=groups)
        assert metric.real_count.tolist() == [3]


@pytest.mark.parametrize("method", ["update", "forward"])
@pytest.mark.parametrize(
    ("groups", "sentence"),
    [
        (None, "expects groups with every batch, .*but got none"),
        (["a", "b"], "a group for each of 3 images, but got 2"),
        (torch.ones(3), "text or whole numbers, but got 1.0"),
        ([True, False, True], "but got True"),
        (["a", None, "b"], "but got None"),
        (["a", "b\0", "b"], r"but got 'b\\x00'"),
    ],
)
def test_wrong_groups_are_refused_before_anything_changes(method, groups, sentence):
    metric = updated(ResNetL2(Moments(), groups=True))
    before = sums(metric)
    with pytest.raises(ValueError, match=sentence):
        getattr(metric, method)(IMAGES[:3], real=True, groups=groups)
    assert all(torch.equal(getattr(metric, name), value) for name, value in before.items())


def test_groups_that_would_be_forgotten_are_refused():
    metric = ResNetL2(Moments(), uncertainty=True)
    with pytest.raises(ValueError, match="Make it with groups=True"):
        metric.update(IMAGES[:2], real=True, groups=["a", "b"])
    assert metric.real_count == 0


def test_shards_merge_by_name():
    whole = updated(ResNetL2(Moments(), groups=True))
    shards = [updated(ResNetL2(Moments(), groups=True), chosen) for chosen in ORDER.split(25)]
    twin = shards[0].clone()
    shards[0].merge_state(shards[1])
    twin.merge_state(shards[1].metric_state)
    assert_same(shards[0], whole)
    assert_same(twin, whole)
    empty = ResNetL2(Moments(), groups=True)
    empty.merge_state(whole)
    whole.merge_state(ResNetL2(Moments(), groups=True))
    assert_same(empty, whole)
    plain = ResNetL2(Moments())
    for one, other in ((plain, whole), (whole, plain)):
        with pytest.raises(RL2Error, match="other options"):
            one.merge_state(other)
    with pytest.raises(RL2Error, match="2 names for sums of"):
        whole.merge_state({**empty.metric_state, "real_group_names": torch.tensor([97, 0, 98, 0], dtype=torch.uint8)})


def test_copies_and_checkpoints_have_the_groups():
    metric = updated(ResNetL2(Moments(), groups=True))
    result = metric.result()
    metric.persistent(True)
    loaded = ResNetL2(Moments(), groups=True)
    loaded.load_state_dict(copy.deepcopy(metric.state_dict()))
    for twin in (metric.clone(), pickle.loads(pickle.dumps(metric)), loaded, metric.to("cpu").half()):
        assert_same(twin, metric)
        assert twin.result() == result
    wrong = metric.state_dict()
    wrong["fake_group_names"] = wrong["fake_group_names"][:-1]
    with pytest.raises(RuntimeError, match="fake_group_names has 6 names"):
        loaded.load_state_dict(wrong)
    with pytest.raises(RuntimeError, match="other options"):
        ResNetL2(Moments()).load_state_dict(metric.state_dict())
    assert_same(loaded, metric)


def test_reset_forgets_groups_and_keeps_those_of_kept_reals():
    plain, kept = (updated(ResNetL2(Moments(), groups=True, reset_real_features=keep)) for keep in (True, False))
    result = kept.result()
    for _ in range(2):
        plain.reset()
        assert not any(value.numel() for value in sums(plain).values())
        kept.reset()
        assert kept.fake_group_names.numel() == 0
        assert kept.statistics(real=True).group_names == result_names()
        kept.update(IMAGES[20:], real=False, groups=NAMES[20:])
        assert kept.result().p_value == pytest.approx(result.p_value, rel=1e-9)
    with pytest.warns(UserWarning, match="real images again"):
        kept.update(IMAGES[:4], real=True, groups="slide 0")


def result_names():
    return tuple(dict.fromkeys(NAMES[i] for i in ORDER if i < 20))


def test_statistics_save_merge_and_stand_as_a_reference(encoder, tmp_path):
    images, names = random_images(12, seed=7), [f"p{i // 2}" for i in range(12)]
    metric = ResNetL2(encoder, groups=True)
    metric.update(images[:7], real=True, groups=names[:7])
    metric.statistics(real=True).save(tmp_path / "a.safetensors")
    of_rest = Statistics.of_latents(encoder(images[7:]), names[7:], weights_id=encoder.weights_id)
    both = Statistics.merge([Statistics.load(tmp_path / "a.safetensors"), of_rest])
    assert both.group_names == tuple(f"p{i}" for i in range(6))
    assert both.groups.count.tolist() == [2] * 6
    from_reference = ResNetL2(encoder, reference=both, groups=True, debiased=True)
    from_reference.update(images, real=True)  # never looked at
    from_reference.update(images, torch.arange(12) < 4, groups=names)
    metric.update(images[7:], real=True, groups=names[7:])
    metric.update(images[4:], real=False, groups=names[4:])
    found, wanted = from_reference.result(), metric.result()
    assert (found.groups_real, found.groups_fake) == (6, 4)
    assert found.p_value == pytest.approx(wanted.p_value, rel=1e-5)
    assert from_reference.compute().item() == pytest.approx(wanted.debiased, rel=1e-5)
    without = ResNetL2(encoder, reference=both, uncertainty=True)
    without.update(images, real=False)
    assert (without.result().groups_real, without.result().groups_fake) == (6, None)
    bare = ResNetL2(encoder)
    bare.update(images, real=True)
    with pytest.raises(RL2Error, match=r"ResNetL2\(groups=True\) needs a reference with"):
        ResNetL2(encoder, reference=bare.statistics(real=True), groups=True)


def test_too_few_groups_are_said_to_be():
    metric = ResNetL2(Moments(), groups=True, debiased=True)
    with pytest.warns(UserWarning, match="0 real and 0 generated"):
        assert math.isnan(metric.result().value)
    metric.reset()  # after which it warns anew
    metric.update(IMAGES[:4], real=True, groups=["a", "a", "b", "b"])
    metric.update(IMAGES[20:24], real=False, groups="c")
    with pytest.warns(UserWarning, match="at least 2 groups on each side, and one of 4 real and 4 generated"):
        assert metric.compute().isnan()
    found = metric.result()
    assert found.value > 0
    assert "at least 4 groups a side; the generated side has 4 images in 1 group(s)" in str(found)


class Small(nn.Module):
    num_features = 3

    def forward(self, imgs):
        return imgs.float().mean((2, 3))


def test_beside_fid_in_one_loop():
    metrics = MetricCollection(
        {
            "fid": FrechetInceptionDistance(Small()),
            "rl2": ResNetL2(Small(), groups=True),
            "debiased": ResNetL2(Small(), groups=True, debiased=True),
            "by image": ResNetL2(Small().eval(), uncertainty=True),
        }
    )
    with pytest.raises(ValueError, match="Make it with groups=True"):
        metrics.update(IMAGES[:20], real=True, groups=NAMES[:20])
    metrics = MetricCollection({name: metrics[name] for name in ("fid", "rl2", "debiased")})
    metrics.reset()
    for start in range(0, 20, 10):
        rows = slice(start, start + 10)
        metrics.update(IMAGES[:20][rows], real=True, groups=NAMES[:20][rows])
        metrics.update(IMAGES[20:][rows], real=False, groups=NAMES[20:][rows])
    values = metrics.compute()
    alone = updated(ResNetL2(Small(), groups=True))
    assert values["fid"] > 0
    assert values["rl2"] == pytest.approx(alone.compute().item(), rel=1e-6)
    assert values["debiased"] == pytest.approx(alone.result().debiased, rel=1e-6)
    assert metrics["rl2"].result().groups_real == 5


def test_equal_metrics_share_a_pass_and_others_do_not():
    network = Small()
    seen = []
    network.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
    names = {"a": {}, "b": {"debiased": True}, "c": {"uncertainty": True}}
    together = MetricCollection({name: ResNetL2(network, groups=True, **options) for name, options in names.items()})
    updated(together, size=40)
    assert list(map(len, together.compute_groups.values())) == [3]
    seen.clear()
    together.reset()
    updated(together, size=40)
    assert seen == [40]
    assert together["c"].result().groups_fake == 7
    apart = MetricCollection({"a": ResNetL2(network, groups=True), "b": ResNetL2(network)})
    apart._modules["b"].update(IMAGES[:1], real=True)
    assert not MetricCollection._equal_metric_states(*apart._modules.values())


def test_wrappers_resample_and_window_groups():
    numbers = torch.tensor([int(name[6:]) for name in NAMES])
    wrapper = BootStrapper(ResNetL2(Moments(), groups=True), num_bootstraps=4, raw=True)
    torch.manual_seed(0)
    wrapper.update(IMAGES, MASK, groups=numbers)
    assert len(set(wrapper.compute()["raw"].tolist())) > 1
    for metric in wrapper.metrics:
        for side, own in (("real", MASK), ("fake", ~MASK)):
            means = {name: row[0] for name, row in by_name(metric, side).items()}
            assert set(means) <= {str(number) for number in numbers[own].tolist()}
    running = Running(ResNetL2(Moments(), groups=True, debiased=True), window=2)
    for rows in (ORDER[:10], ORDER[10:25], ORDER[25:]):
        running.update(IMAGES[rows], MASK[rows], groups=[NAMES[i] for i in rows])
    alone = updated(ResNetL2(Moments(), groups=True, debiased=True), ORDER[10:])
    torch.testing.assert_close(running.compute(), alone.compute(), rtol=1e-5, atol=0)


def test_states_are_replaced_and_never_changed_in_place():
    metric = updated(ResNetL2(Moments(), groups=True))
    before, copies = {name: getattr(metric, name) for name in metric._defaults}, sums(metric)
    updated(metric)
    metric(IMAGES, MASK, groups=NAMES)
    assert all(torch.equal(before[name], value) for name, value in copies.items())
    with torch.inference_mode():
        metric.reset()
    updated(metric)
    assert metric.compute().isfinite()


def test_nan_in_one_group_stays_there():
    metric = ResNetL2(Moments(), groups=True, normalize=True, debiased=True)
    images = IMAGES[:6] / 255
    images[0] = torch.nan
    metric.update(images, real=True, groups=list("aabbcc"))
    metric.update(images[2:], real=False, groups=list("abcd"))
    assert [row[1] > 0 for row in by_name(metric, "real").values()] == [False, True, True]
    with pytest.warns(UserWarning, match="NaN pixels"):
        assert metric.compute().isnan()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert metric.result().interval is None
