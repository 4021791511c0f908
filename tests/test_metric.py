import copy
import gc
import math
import pickle
import warnings
import weakref
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torchmetrics import MetricCollection
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from tests.conftest import random_images
from torchmetrics_rl2 import LatentEncoder, ResNetL2, RL2Error, Statistics, compare
from torchmetrics_rl2.functional import resnet_l2
from torchmetrics_rl2.sharing import network_of


class Moments(nn.Module):
    """Mean of each channel, times a weight that a cast or a mode would change."""

    num_features = 3

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))
        self.dropout = nn.Dropout(0.5)

    def forward(self, imgs):
        return self.dropout(imgs.float().mean((2, 3)) * self.scale)


def sums(metric):
    return {name: getattr(metric, name).clone() for name in metric._defaults if name != "encoder_mark"}


def test_is_the_distance_of_the_latents(encoder):
    real, fake = random_images(10, seed=3), random_images(7, seed=4) // 2
    for debiased in (False, True):
        metric = ResNetL2(encoder, debiased=debiased)
        metric.update(real, real=True)
        metric.update(fake, real=False)
        value = metric.compute()
        torch.testing.assert_close(value, resnet_l2(encoder(real), encoder(fake), debiased))
        assert (value.dtype, value.shape) == (torch.float32, ())


def test_by_name_and_by_path(weights_file):
    assert ResNetL2(weights_file).encoder.weights_id == ResNetL2(str(weights_file)).encoder.weights_id
    with pytest.raises(RL2Error, match="lung-colon"):
        ResNetL2("lung-colo")


@settings(max_examples=30, deadline=None)
@given(
    order=st.permutations(range(12)),
    cuts=st.sets(st.integers(1, 11)),
    flags=st.lists(st.booleans(), min_size=12, max_size=12),
)
def test_order_batches_and_sides_of_a_batch_do_not_matter(order, cuts, flags):
    images, mask = random_images(12), torch.tensor(flags)
    network = Moments()
    whole, parts = ResNetL2(network), ResNetL2(network)
    whole.update(images, mask)
    order = torch.tensor(order)
    edges = [0, *sorted(cuts), 12]
    for start, end in zip(edges, edges[1:], strict=False):
        chosen = order[start:end]
        if mask[chosen].all() or not mask[chosen].any():
            parts.update(images[chosen], bool(mask[chosen][0]))
        else:
            parts.update(images[chosen], mask[chosen])
    for name, value in sums(whole).items():
        torch.testing.assert_close(getattr(parts, name), value, rtol=1e-12, atol=1e-12)


def test_states_are_float64_sums_and_int64_counts(encoder, images):
    metric = ResNetL2(encoder)
    metric.update(images, torch.arange(12) < 4)
    assert {name: (value.dtype, tuple(value.shape)) for name, value in sums(metric).items()} == {
        "real_sum": (torch.float64, (512,)),
        "real_square_sum": (torch.float64, ()),
        "real_count": (torch.int64, ()),
        "fake_sum": (torch.float64, (512,)),
        "fake_square_sum": (torch.float64, ()),
        "fake_count": (torch.int64, ()),
    }
    assert (metric.real_count, metric.fake_count) == (4, 8)
    torch.testing.assert_close(metric.fake_square_sum, encoder(images[4:]).double().square().sum(), rtol=1e-5, atol=0)


def test_normalize_takes_floats_and_gives_the_same_value(encoder, images):
    bytes_, floats = ResNetL2(encoder), ResNetL2(encoder, normalize=True)
    mask = torch.arange(12) < 5
    assert bytes_(images, mask) == floats(images.float() / 255, mask)


def test_a_side_without_images_is_nan_and_warns_once():
    metric = ResNetL2(Moments())
    metric.update(random_images(3), real=True)
    with pytest.warns(UserWarning, match="3 real and 0 generated") as caught:
        assert metric.compute().isnan()
        metric.update(random_images(3), real=True)
        assert metric.compute().isnan()
    assert len(caught) == 1


def test_before_any_update_there_is_one_warning():
    with pytest.warns(UserWarning) as caught:
        assert ResNetL2(Moments()).compute().isnan()
    assert len(caught) == 1


def test_nan_pixels_surface_as_nan_with_a_warning(encoder):
    metric = ResNetL2(encoder, normalize=True)
    images = random_images(4) / 255
    metric.update(images, real=True)
    images[0, 0, 0, 0] = torch.nan
    metric.update(images, real=False)
    with pytest.warns(UserWarning, match="NaN pixels"):
        assert metric.compute().isnan()


def test_nan_in_one_side_of_a_batch_stays_there(encoder):
    metric = ResNetL2(encoder, normalize=True)
    images = random_images(4) / 255
    images[0, 0, 0, 0] = torch.nan
    metric.update(images, torch.tensor([True, False, False, True]))
    assert metric.real_sum.isnan().any()
    assert metric.fake_sum.isfinite().all()


def test_reference_inside_the_weights(encoder):
    images = random_images(6, seed=5)
    metric = ResNetL2(encoder, reference="weights")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        value = metric(images, real=False)
    mean = encoder.reference.sums.sum / encoder.reference.sums.count
    torch.testing.assert_close(value, (encoder(images).double().mean(0) - mean).norm().float(), rtol=1e-5, atol=0)
    assert not any(name.startswith("real") for name in sums(metric))


def test_real_images_are_skipped_before_the_network_where_a_reference_stands_in(weights):
    encoder = LatentEncoder(weights)
    metric = ResNetL2(encoder, reference="weights")
    expected = metric(random_images(6)[:2], real=False)
    metric.reset()
    seen = []
    encoder.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    metric.update(random_images(6), real=True)
    metric.update(random_images(6), torch.ones(6, dtype=torch.bool))
    metric.update(random_images(6), torch.tensor([False, False, True, True, True, True]))
    whole = random_images(3)
    metric.update(whole, real=False)
    assert [len(images) for images in seen] == [2, 3]
    assert seen[1] is whole
    assert expected > 0


def test_a_reference_that_is_not_there_is_refused(bare_encoder, tmp_path):
    with pytest.raises(RL2Error, match="holds no reference"):
        ResNetL2(bare_encoder, reference="weights")
    with pytest.raises(RL2Error, match="needs weights, but Moments is a module"):
        ResNetL2(Moments(), reference="weights")
    with pytest.raises(RL2Error, match="There is no file"):
        ResNetL2(Moments(), reference=tmp_path / "real.safetensors")


def test_statistics_as_reference_are_what_the_images_would_be(encoder, tmp_path):
    real, fake = random_images(10, seed=3), random_images(7, seed=4) // 2
    whole = ResNetL2(encoder, uncertainty=True)
    whole.update(real, real=True)
    whole.update(fake, real=False)
    whole.statistics(real=True).save(tmp_path / "real.safetensors")
    for reference in (whole.statistics(real=True), tmp_path / "real.safetensors", str(tmp_path / "real.safetensors")):
        metric = ResNetL2(encoder, reference=reference, uncertainty=True)
        metric.update(random_images(3), real=True)
        assert not any(name.startswith(("real", "kept")) for name in sums(metric))
        assert metric(fake, real=False) == whole.compute()
        metric.reset()
        metric.update(fake, real=False)
        got, expected = metric.result(), whole.result()
        assert (got.value, got.interval, got.n_real) == (expected.value, expected.interval, 10)


def test_a_reference_with_groups_debiases_by_them(encoder):
    real, fake = random_images(10, seed=3), random_images(7, seed=4) // 2
    grouped = Statistics.of_latents(encoder(real), list("aabbccddee"), weights_id=encoder.weights_id)
    metric = ResNetL2(encoder, reference=grouped, debiased=True, uncertainty=True)
    metric.update(fake, real=False)
    result = metric.result()
    assert result.groups_real == 5
    assert metric.compute().item() == pytest.approx(result.debiased, rel=1e-6)
    assert result.debiased != pytest.approx(resnet_l2(encoder(real), encoder(fake), debiased=True).item(), rel=1e-3)


def test_references_that_do_not_fit_are_refused(encoder, images):
    metric = ResNetL2(encoder)
    metric.update(images, real=True)
    with pytest.raises(RL2Error, match="has sums alone"):
        ResNetL2(encoder, reference=metric.statistics(real=True), uncertainty=True)
    for other in ({"weights_id": "ab" * 32}, {}):
        with pytest.raises(RL2Error, match=r"latents of different weights.*random@1"):
            ResNetL2(encoder, reference=Statistics.of_latents(torch.ones(4, 512), **other))
    with pytest.raises(RL2Error, match="4 numbers"):
        ResNetL2(Moments(), reference=Statistics.of_latents(torch.ones(4, 4)))


def test_result_is_compute_with_its_uncertainty(encoder):
    real, fake = random_images(10, seed=3), random_images(7, seed=4)
    plain, metric = ResNetL2(encoder, debiased=True), ResNetL2(encoder, uncertainty=True)
    for one in (plain, metric):
        one.update(real, real=True)
        one.update(fake, real=False)
    result = metric.result()
    assert result == compare(
        *(
            Statistics.of_latents(
                encoder(side), weights="random@1", weights_id=encoder.weights_id, source=f"{kind} images of update"
            )
            for kind, side in (("real", real), ("generated", fake))
        )
    )
    assert result.value == pytest.approx(metric.compute().item(), rel=1e-6)
    assert result.debiased == pytest.approx(plain.compute().item(), rel=1e-5)
    assert plain.result().interval is None
    assert "no second moments" in str(plain.result())


def test_result_before_and_with_one_side_is_nan():
    metric = ResNetL2(Moments(), uncertainty=True)
    assert math.isnan(metric.result().value)
    metric.update(random_images(5), real=True)
    assert (math.isnan(metric.result().debiased), metric.result().interval) == (True, None)


def test_second_moments_are_kept_on_request_alone(encoder):
    metric = ResNetL2(encoder, uncertainty=True)
    assert metric.fake_second_moment.shape == (513, 513)
    assert metric.fake_second_moment.dtype == torch.float64
    assert not hasattr(ResNetL2(encoder), "fake_second_moment")


def test_forward_is_update_and_compute(encoder):
    first, second = random_images(8, seed=1), random_images(8, seed=2)
    mask = torch.arange(8) < 4
    stepwise, plain = ResNetL2(encoder), ResNetL2(encoder)
    batch = stepwise(first, mask)
    stepwise(second, mask)
    plain.update(first, mask)
    torch.testing.assert_close(batch, plain.compute())
    plain.update(second, mask)
    assert all(torch.equal(getattr(stepwise, name), value) for name, value in sums(plain).items())


@pytest.mark.filterwarnings("ignore:ResNetL2 is NaN")
@pytest.mark.parametrize("on_step", [False, True])
def test_kept_reals_survive_reset_and_never_count_twice(on_step):
    metric = ResNetL2(Moments(), reset_real_features=False, dist_sync_on_step=on_step)
    metric.update(random_images(4), real=True)
    metric(random_images(4), real=True)
    for _ in range(3):
        metric(random_images(5), real=False)
    assert (metric.kept_real_count, metric.fake_count) == (8, 15)
    metric.reset()
    assert (metric.kept_real_count, metric.fake_count) == (8, 0)
    assert metric.kept_real_sum.sum() > 0


def test_a_collection_does_not_merge_metrics_that_reset_differently():
    kept, plain = ResNetL2(Moments(), reset_real_features=False), ResNetL2(Moments())
    collection = MetricCollection({"kept": kept, "plain": plain})
    collection.update(random_images(6), torch.arange(6) < 3)
    collection.reset()
    assert collection["kept"].kept_real_count == 3
    assert collection["plain"].real_count == 0


def test_beside_fid_and_kid_in_one_loop():
    class Small(nn.Module):
        num_features = 3

        def forward(self, imgs):
            return imgs.float().mean((2, 3))

    metrics = MetricCollection(
        {
            "fid": FrechetInceptionDistance(Small()),
            "kid": KernelInceptionDistance(Small(), subset_size=4),
            "rl2": ResNetL2(Small()),
        }
    )
    for seed in range(2):
        metrics.update(random_images(6, seed=seed), real=True)
        metrics.update(random_images(6, seed=seed + 9) // 2, real=False)
    assert metrics.compute()["rl2"] == pytest.approx(63.5 * 3**0.5, rel=0.05)


def wrong_inputs():
    good, mask = random_images(4), torch.ones(4, dtype=torch.bool)
    return {
        "pass normalize=True": (good / 255, True),
        "colour image": (good[:, :1], True),
        "shape": (good[0], True),
        "list": ([good], True),
        r"\(0, 3, 64, 64\)": (good[:0], True),
        r"shape \(4,\)": (good, mask[:3]),
        "bool tensor": (good, mask.int()),
        "got 1": (good, 1),
    }


@pytest.mark.parametrize("sentence", wrong_inputs())
@pytest.mark.parametrize("method", ["update", "forward"])
def test_wrong_input_is_refused_before_anything_changes(sentence, method):
    metric = ResNetL2(Moments())
    metric.update(random_images(4), torch.arange(4) < 2)
    before = sums(metric)
    with pytest.raises(ValueError, match=sentence):
        getattr(metric, method)(*wrong_inputs()[sentence])
    assert all(torch.equal(getattr(metric, name), value) for name, value in before.items())
    with pytest.raises(ValueError, match="pass normalize=False"):
        ResNetL2(Moments(), normalize=True).update(random_images(2), real=True)


def test_an_encoder_states_its_width_and_keeps_to_it():
    with pytest.raises(ValueError, match="num_features"):
        ResNetL2(nn.Flatten())
    narrow = Moments()
    narrow.num_features = 4
    with pytest.raises(ValueError, match=r"\(2, 4\).*got \(2, 3\)"):
        ResNetL2(narrow).update(random_images(2), real=True)


def test_the_encoder_is_no_part_of_the_model(encoder):
    model = nn.Module()
    model.rl2 = ResNetL2(encoder)
    model.head = nn.Linear(2, 2)
    assert list(model.state_dict()) == ["head.weight", "head.bias"]
    assert len(list(model.parameters())) == 2
    assert not any(isinstance(module, LatentEncoder) for module in model.modules())


@pytest.mark.parametrize("network", ["weights", "module"])
def test_modes_and_casts_of_the_model_change_nothing(encoder, images, network):
    make = lambda: ResNetL2(encoder if network == "weights" else Moments())
    mask = torch.arange(12) < 6
    expected = make()(images, mask)
    for assault in (
        nn.Module.train,
        nn.Module.half,
        nn.Module.double,
        lambda m: m.to(torch.bfloat16),
        lambda m: m.type(torch.float16),
    ):
        model = nn.Module()
        model.rl2 = make()
        assault(model)
        assert model.rl2(images, mask) == expected
        assert {value.dtype for value in sums(model.rl2).values()} == {torch.float64, torch.int64}


def test_set_dtype_gives_this_metric_a_float64_encoder(encoder, images):
    metric, other = ResNetL2(encoder), ResNetL2(encoder)
    mask = torch.arange(12) < 6
    expected = metric(images, mask)
    assert metric.set_dtype(torch.float64).encoder.dtype == torch.float64
    assert other.encoder.dtype == torch.float32
    torch.testing.assert_close(metric(images, mask), expected, rtol=1e-3, atol=0)
    assert network_of(metric.set_dtype(torch.float32).encoder) is encoder
    with pytest.raises(ValueError, match="float32 or float64"):
        metric.set_dtype(torch.float16)


def test_clones_share_one_network_and_pickles_hold_their_own(encoder, images):
    metric = ResNetL2(encoder)
    metric.update(images, torch.arange(12) < 6)
    for twin in (metric.clone(), copy.deepcopy(metric), copy.deepcopy(nn.ModuleList([metric]))[0]):
        assert network_of(twin.encoder) is encoder
        assert twin.compute() == metric.compute()
        twin.update(images, real=False)
        assert (twin.fake_count, metric.fake_count) == (18, 6)
    assert pickle.loads(pickle.dumps(metric)).compute() == metric.compute()


def test_a_device_move_takes_one_metric_and_shares_the_copy():
    network = Moments()
    first, second, third = ResNetL2(network), ResNetL2(network), ResNetL2(network)
    first.to("meta")
    second.to("meta")
    assert (first.encoder.scale.device.type, third.encoder.scale.device.type) == ("meta", "cpu")
    assert network_of(first.encoder) is network_of(second.encoder)
    assert network_of(third.encoder) is network
    copy_ = weakref.ref(network_of(first.encoder))
    del first, second
    gc.collect()
    assert copy_() is None


def test_construction_on_the_meta_device_is_real(weights_file, encoder, images):
    with torch.device("meta"):
        metric = ResNetL2(weights_file)
    mask = torch.arange(12) < 6
    assert metric(images, mask) == ResNetL2(encoder)(images, mask)
    metric.to_empty(device="cpu")
    assert metric.fake_count == 6


def test_states_made_under_inference_mode_can_be_updated_outside():
    metric = ResNetL2(Moments())
    with torch.inference_mode():
        metric.reset()
        metric.update(random_images(3), real=True)
    metric.update(random_images(3), real=False)
    assert metric.compute() == 0


def test_value_does_not_depend_on_batch_size_and_order(encoder):
    real, fake = random_images(40, seed=1), random_images(40, seed=2) // 2
    values = []
    for size in (1, 7, 40):
        for order in (torch.arange(40), torch.arange(40).flip(0)):
            metric = ResNetL2(encoder)
            for chosen in order.split(size):
                metric.update(real[chosen], real=True)
                metric.update(fake[chosen], real=False)
            values.append(metric.compute().double().item())
    assert max(values) - min(values) <= 1e-6 * values[0]


def test_a_collection_does_not_merge_references_of_different_weights(weights):
    shifted = dict(weights.flow) | {"linear.mean": weights.flow["linear.mean"] + 1}
    encoders = LatentEncoder(weights), LatentEncoder(replace(weights, flow=shifted)), LatentEncoder(weights)
    collection = MetricCollection({f"m{i}": ResNetL2(e, reference="weights") for i, e in enumerate(encoders)})
    # Real images are skipped: after the first update all sums are still 0.
    collection.update(random_images(4, seed=1), real=True)
    collection.update(random_images(4, seed=2), real=False)
    alone = [ResNetL2(encoder, reference="weights")(random_images(4, seed=2), real=False) for encoder in encoders]
    assert list(collection.compute().values()) == alone
    assert alone[0] != alone[1]
    assert sorted(map(len, collection.compute_groups.values())) == [1, 2]


@pytest.mark.parametrize("broken", ["update", "compute"])
def test_an_exception_in_forward_loses_nothing(encoder, images, broken, monkeypatch):
    metric = ResNetL2(encoder)
    metric.update(images, torch.arange(12) < 6)
    before, value = sums(metric), metric.compute()
    if broken == "compute":
        monkeypatch.setattr("torchmetrics_rl2.metric.distance", lambda *args: 1 / 0)
    with pytest.raises((ValueError, ZeroDivisionError)):
        metric(images[:, :, :16, :16] if broken == "update" else images, real=False)
    monkeypatch.undo()
    assert all(torch.equal(getattr(metric, name), kept) for name, kept in before.items())
    assert metric.compute() == value
    assert metric(images, torch.arange(12) < 6) == value


def test_one_sided_forwards_do_not_use_up_the_warning(encoder):
    metric = ResNetL2(encoder, normalize=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert metric(random_images(4) / 255, real=True).isnan()
        assert metric(random_images(4, seed=1) / 255, real=False).isnan()
        assert metric.compute().isfinite()
    metric.update(torch.full((1, 3, 64, 64), torch.nan), real=False)
    with pytest.warns(UserWarning, match="NaN pixels"):
        metric.compute()


def test_a_users_own_network_keeps_its_mode_and_is_not_shared_with_a_copy_of_its_owner():
    owner = nn.Module()
    owner.net = Moments()
    owner.rl2 = ResNetL2(owner.net)
    owner.train()
    owner.rl2.update(random_images(4), real=True)
    assert owner.net.dropout.training
    assert torch.equal(
        owner.rl2.real_sum, ResNetL2(Moments().eval()).real_sum + random_images(4).double().mean((2, 3)).sum(0)
    )
    twin = copy.deepcopy(owner)
    assert twin.net is not owner.net
    assert network_of(twin.rl2.encoder) is twin.net
    late = nn.Module()
    late.rl2, late.net = ResNetL2(owner.net), owner.net
    assert copy.deepcopy(late).net is not owner.net


def test_plots_a_value_and_a_history():
    metric = ResNetL2(Moments())
    values = [metric(random_images(4, seed=seed), torch.arange(4) < 2) for seed in range(3)]
    _, ax = metric.plot(values)
    assert list(ax.lines[0].get_ydata()) == [value.item() for value in values]
    assert metric.plot()[1].lines[0].get_ydata() == [metric.compute().item()]


def test_constants_and_hash():
    metric = ResNetL2(Moments())
    for name in ("is_differentiable", "higher_is_better", "full_state_update"):
        with pytest.raises(RuntimeError, match="Can't change const"):
            setattr(metric, name, True)
    assert metric.higher_is_better is False
    assert hash(metric) != hash(ResNetL2(Moments()))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_can_be_scripted_as_torchmetrics_own_tester_asks():
    torch.jit.script(ResNetL2(Moments()))
