"""ResNetL2 wherever torchmetrics goes: its generic checks, collections and wrappers."""

import pickle

import pytest
import torch
from torch import nn
from torchmetrics import MetricCollection, MetricTracker
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance
from torchmetrics.wrappers import BootStrapper, MinMaxMetric, Running

from tests.conftest import Moments, random_images, sums
from torchmetrics_rl2 import LatentEncoder, ResNetL2
from torchmetrics_rl2.encoder.sharing import network_of
from torchmetrics_rl2.functional import resnet_l2


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


def test_a_collection_does_not_merge_references_of_different_weights(weights, other_weights):
    encoders = LatentEncoder(weights), other_weights, LatentEncoder(weights)
    collection = MetricCollection({f"m{i}": ResNetL2(e, reference="weights") for i, e in enumerate(encoders)})
    # Real images are skipped: after the first update all sums are still 0.
    collection.update(random_images(4, seed=1), real=True)
    collection.update(random_images(4, seed=2), real=False)
    alone = [ResNetL2(encoder, reference="weights")(random_images(4, seed=2), real=False) for encoder in encoders]
    assert list(collection.compute().values()) == alone
    assert alone[0] != alone[1]
    assert sorted(map(len, collection.compute_groups.values())) == [1, 2]


def test_plots_a_value_and_a_history():
    metric = ResNetL2(Moments())
    values = [metric(random_images(4, seed=seed), torch.arange(4) < 2) for seed in range(3)]
    _, ax = metric.plot(values)
    assert list(ax.lines[0].get_ydata()) == [value.item() for value in values]
    assert metric.plot()[1].lines[0].get_ydata() == [metric.compute().item()]
    below = [torch.tensor(-5.0), torch.tensor(3.0)]
    assert ResNetL2(Moments(), debiased=True).plot(below)[1].get_ylim()[0] < -5


def test_plots_rl2_and_its_parts_of_results_over_time(encoder_of_kinds):
    metrics = [ResNetL2(encoder_of_kinds), ResNetL2(encoder_of_kinds)]
    for seed, metric in enumerate(metrics):
        metric.update(random_images(8, seed=seed), torch.arange(8) < 4)
    results = [metric.result() for metric in metrics]
    _, ax = metrics[0].plot(results)
    curves = {line.get_label(): list(line.get_ydata()) for line in ax.lines}
    assert curves == {
        "RL2": pytest.approx([result.value for result in results]),
        "content": pytest.approx([result.content.value for result in results]),
        "look": pytest.approx([result.look.value for result in results]),
    }


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


BATCHES = [(random_images(8, seed=seed), torch.arange(8) % 3 == 0) for seed in range(4)]


def whole(batches, encoder):
    """The distance of all latents, without the metric."""
    images, mask = (torch.cat(parts) for parts in zip(*batches, strict=True))
    z = encoder(images)
    return resnet_l2(z[mask], z[~mask])


@pytest.mark.parametrize("on_step", [False, True])
def test_the_generic_life_of_a_metric(encoder, on_step):
    """Clone, pickle, move, step, compute, reset: torchmetrics asks it of all metrics, and cannot of FID."""
    metric = pickle.loads(pickle.dumps(ResNetL2(encoder, dist_sync_on_step=on_step).clone())).to("cpu")
    for _ in range(2):
        for batch in BATCHES:
            value = metric(*batch)
            torch.testing.assert_close(value, whole([batch], encoder))
            assert (value.dtype, value.shape, value.requires_grad) == (torch.float32, (), False)
            assert metric._forward_cache == value
        torch.testing.assert_close(metric.compute(), whole(BATCHES, encoder), rtol=1e-5, atol=0)
        assert metric.update_count == 4
        metric.reset()
        assert metric.update_count == 0
        assert all(not value.any() for value in sums(metric).values())
    assert metric.state_dict() == {}


def test_one_pass_of_the_network_a_step(weights):
    encoder = LatentEncoder(weights)
    seen = []
    encoder.features.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
    metric = ResNetL2(encoder)
    metric(*BATCHES[0])
    assert seen == [8]


def test_unknown_arguments_are_refused():
    with pytest.raises(ValueError, match="Unexpected keyword arguments: `color`"):
        ResNetL2(Moments(), color=True)


def test_compute_is_cached_until_something_changes(encoder, monkeypatch):
    metric = ResNetL2(encoder)
    metric.update(*BATCHES[0])
    first = metric.compute()
    monkeypatch.setattr("torchmetrics_rl2.metrics.resnet_l2.distance", lambda *args: 1 / 0)
    assert metric.compute() == first
    monkeypatch.undo()
    metric.update(*BATCHES[1])
    torch.testing.assert_close(metric.compute(), whole(BATCHES[:2], encoder), rtol=1e-5, atol=0)


def test_memory_does_not_grow_with_images_and_holds_no_graph(encoder):
    metric = ResNetL2(encoder, normalize=True)
    sizes = set()
    for seed in range(3):
        images = (random_images(4, seed=seed) / 255).requires_grad_()
        metric(images, torch.arange(4) < 2)
        sizes.add(sum(value.numel() * value.element_size() for value in sums(metric).values()))
        assert not any(value.requires_grad for value in sums(metric).values())
    assert sizes == {2 * (512 * 8 + 8 + 8)}


def test_equal_configurations_share_one_pass_in_a_collection(weights):
    encoder = LatentEncoder(weights)
    collection = MetricCollection({"plain": ResNetL2(encoder), "debiased": ResNetL2(encoder, debiased=True)})
    collection.update(*BATCHES[0])
    seen = []
    encoder.features.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
    collection.update(*BATCHES[1])
    assert seen == [8]
    assert collection.compute()["plain"] == pytest.approx(whole(BATCHES[:2], encoder).item(), rel=1e-5)
    collection.reset()
    collection.update(*BATCHES[2])
    assert collection.compute()["plain"] == pytest.approx(whole(BATCHES[2:3], encoder).item(), rel=1e-5)


def test_metrics_that_differ_are_not_merged_whatever_the_first_batch(encoder):
    """Black images through networks without bias give both the same sums, all 0."""
    doubled = Moments()
    with torch.no_grad():
        doubled.scale.fill_(2)
    inside = [ResNetL2(encoder, reference="weights") for _ in range(2)]
    collections = [
        MetricCollection({"a": ResNetL2(Moments()), "b": ResNetL2(doubled)}),
        MetricCollection({"a": inside[0], "b": inside[1].set_dtype(torch.float64)}),
        MetricCollection({"a": ResNetL2(encoder), "b": ResNetL2(encoder, uncertainty=True)}),
    ]
    for collection in collections:
        with pytest.raises(ValueError, match="at least one"):
            collection.update(random_images(0), real=True)
        collection.update(random_images(4) * 0, real=True)
        collection.update(*BATCHES[0])
        assert len(collection.compute_groups) == 2
    assert collections[0].compute()["b"] == pytest.approx(2 * collections[0].compute()["a"].item(), rel=1e-5)


def test_references_of_one_set_of_weights_share_a_pass_and_keep_their_reference(encoder):
    other = ResNetL2(encoder)
    other.update(random_images(5, seed=9) // 3, real=True)
    references = {"inside": "weights", "own": other.statistics(real=True)}
    collection = MetricCollection({key: ResNetL2(encoder, reference=value) for key, value in references.items()})
    for batch in BATCHES:
        collection.update(*batch)
    for name, reference in references.items():
        metric = ResNetL2(encoder, reference=reference)
        for batch in BATCHES:
            metric.update(*batch)
        torch.testing.assert_close(collection.compute()[name], metric.compute())
    assert list(map(len, collection.compute_groups.values())) == [2]


@pytest.mark.parametrize("mask", [True, False])
def test_bootstrapper_resamples_images_with_their_sides_and_copies_no_network(encoder, mask):
    wrapper = BootStrapper(ResNetL2(encoder), num_bootstraps=4, raw=True)
    torch.manual_seed(0)
    if mask:
        wrapper.update(*BATCHES[0])
    else:
        wrapper.update(random_images(6, seed=1), real=True)
        wrapper.update(random_images(6, seed=2), real=False)
    assert len(set(wrapper.compute()["raw"].tolist())) > 1
    assert {id(network_of(metric.encoder)) for metric in wrapper.metrics} == {id(encoder)}


def test_tracker_finds_the_least_and_copies_no_network(encoder):
    tracker = MetricTracker(ResNetL2(encoder), maximize=False)
    for batch in BATCHES[:3]:
        tracker.increment()
        tracker.update(*batch)
    values = [whole([batch], encoder).item() for batch in BATCHES[:3]]
    best, step = tracker.best_metric(return_step=True)
    assert best == pytest.approx(min(values), rel=1e-5)
    assert step == values.index(min(values))
    assert {id(network_of(metric.encoder)) for metric in tracker._modules.values()} == {id(encoder)}


def test_min_max_and_running(encoder):
    extremes = MinMaxMetric(ResNetL2(encoder))
    running = Running(ResNetL2(encoder), window=2)
    values = []
    for i, batch in enumerate(BATCHES):
        extremes.update(*batch)
        values.append(extremes.compute()["raw"].item())
        running.update(*batch)
        expected = whole(BATCHES[max(0, i - 1) : i + 1], encoder)
        torch.testing.assert_close(running.compute(), expected, rtol=1e-4, atol=0)
    assert extremes.compute()["min"] == min(values)
    assert extremes.compute()["max"] == max(values)


def test_composition(encoder):
    metric = ResNetL2(encoder)
    doubled, difference = 2 * metric, metric - ResNetL2(encoder, debiased=True)
    doubled.update(*BATCHES[0])
    value = whole(BATCHES[:1], encoder)
    torch.testing.assert_close(doubled.compute(), 2 * value)
    difference.update(*BATCHES[0])
    assert difference.compute() > 0


def test_a_one_sided_forward_keeps_the_sums():
    metric = ResNetL2(Moments())
    metric.update(random_images(4), real=True)
    metric.update(random_images(4), real=False)
    assert metric(random_images(2), real=True).isnan()
    assert (metric.real_count, metric.fake_count) == (6, 4)
    assert metric.compute().isfinite()


def test_one_image_a_side_is_a_value():
    metric = ResNetL2(Moments())
    assert metric(random_images(2), torch.tensor([True, False])).isfinite()


def test_states_are_replaced_and_never_changed_in_place(encoder):
    metric = ResNetL2(encoder, uncertainty=True)
    before = {name: getattr(metric, name) for name in metric._defaults}
    copies = sums(metric)
    metric.update(*BATCHES[0])
    metric(*BATCHES[1])
    assert all(torch.equal(before[name], value) for name, value in copies.items())


def test_compute_on_cpu_and_no_cache_are_taken(encoder):
    metric = ResNetL2(encoder, compute_on_cpu=True, compute_with_cache=False, sync_on_compute=False)
    metric.update(*BATCHES[0])
    assert metric.compute() == metric.compute() == whole(BATCHES[:1], encoder)
    assert metric._computed is None
