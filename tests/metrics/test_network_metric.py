"""What holding a network outside of the modules promises: casts, moves, clones, checkpoints, errors."""

import copy
import gc
import pickle
import shutil
import warnings
import weakref
from dataclasses import replace

import pytest
import torch
from torch import nn
from torchmetrics import MetricCollection
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.wrappers import FeatureShare

from tests.conftest import Moments, random_images, sums, tissue
from tests.fixtures.server import SMALL
from torchmetrics_rl2 import CatalogEntry, LatentEncoder, PatchQuality, ResNetL2, RL2Error, register_weights
from torchmetrics_rl2.encoder.sharing import network_of
from torchmetrics_rl2.files import sha256_of
from torchmetrics_rl2.weights import catalog, write_weights


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
    assert metric.set_dtype(torch.float16).encoder.dtype == torch.float16
    torch.testing.assert_close(metric(images, mask), expected, rtol=1e-2, atol=0)
    assert pickle.loads(pickle.dumps(metric)).encoder.dtype == torch.float16
    assert network_of(metric.set_dtype(torch.float32).encoder) is encoder
    with pytest.raises(ValueError, match="takes float32, float64 or float16"):
        metric.set_dtype(torch.int8)


def test_clones_share_one_network_and_pickles_hold_their_own(encoder, images):
    metric = ResNetL2(encoder)
    metric.update(images, torch.arange(12) < 6)
    for twin in (metric.clone(), copy.deepcopy(metric), copy.deepcopy(nn.ModuleList([metric]))[0]):
        assert network_of(twin.encoder) is encoder
        assert twin.compute() == metric.compute()
        twin.update(images, real=False)
        assert (twin.fake_count, metric.fake_count) == (18, 6)
    assert pickle.loads(pickle.dumps(metric)).compute() == metric.compute()


def test_weights_of_a_file_are_pickled_by_name_and_loaded_once(weights_file, encoder, images, tmp_path):
    mask = torch.arange(12) < 6
    path, moved = tmp_path / "w.safetensors", tmp_path / "moved.safetensors"
    shutil.copyfile(weights_file, path)
    described = {"sha256": sha256_of(path), "bytes": path.stat().st_size, "summary": "S", "license": "CC0-1.0"}
    register_weights(CatalogEntry("acme/noise@1", str(path), **described))
    metric = ResNetL2("acme/noise@1").set_dtype(torch.float64)
    value = metric(images, mask)
    pickled, single = pickle.dumps(metric), pickle.dumps(ResNetL2(path))
    assert len(pickled) < 50_000
    assert len(pickle.dumps(ResNetL2(encoder))) > 20e6  # of weights in memory there is no file

    twins = pickle.loads(pickled), pickle.loads(pickled)
    assert network_of(twins[0].encoder) is network_of(twins[1].encoder)
    assert (twins[0].encoder.dtype, twins[0].encoder.name) == (torch.float64, "acme/noise@1")
    assert twins[0].compute() == value == twins[1](images, mask)
    other = pickle.loads(single)  # in another dtype, and by another name
    assert other.encoder.dtype == torch.float32
    assert torch.equal(other.encoder(images), encoder(images))
    del twins, other
    gc.collect()

    path.rename(moved)
    assert len(pickle.dumps(metric)) > 20e6
    with pytest.raises(RL2Error, match=r"acme/noise@1 .* of a pickled metric are neither at .*w\.safetensors nor"):
        pickle.loads(pickled)
    catalog._registered.clear()
    register_weights(CatalogEntry("acme/noise@1", str(moved), **described))
    assert pickle.loads(pickled)(images, mask) == value
    catalog._registered.clear()
    gc.collect()
    for source in (SMALL, None):  # another file in its place, and none
        path.unlink(missing_ok=True)
        if source:
            shutil.copyfile(source, path)
        for one in (pickled, single):
            with pytest.raises(RL2Error, match="of a pickled metric are neither"):
                pickle.loads(one)


class Inverted(LatentEncoder):
    def forward(self, images):
        return super().forward(255 - images)


def test_what_is_not_what_its_file_says_is_pickled_whole(weights_file, other_weights, images, tmp_path):
    """A class of the user's, weights that were written over, and a file that was replaced."""
    changed = LatentEncoder.load(weights_file)
    changed.load_state_dict(other_weights.state_dict())
    path = tmp_path / "w.safetensors"
    shutil.copyfile(weights_file, path)
    replaced = LatentEncoder.load(path)
    path.unlink()  # its tensors may be mapped from the file
    shutil.copyfile(SMALL, path)
    for encoder in (Inverted.load(weights_file), changed, replaced):
        twin = pickle.loads(pickle.dumps(ResNetL2(encoder)))
        assert type(network_of(twin.encoder)) is type(encoder)
        assert torch.equal(twin.encoder(images), encoder(images))


def test_weights_of_one_identity_keep_their_own_file_and_card(weights, weights_file, tmp_path):
    """Which latents these are says nothing of reference and card."""
    path = tmp_path / "bare.safetensors"
    write_weights(replace(weights, reference=None, card={"data": "others"}), path)
    metrics = [pickle.loads(pickle.dumps(ResNetL2(one))) for one in (weights_file, path)]
    networks = [network_of(metric.encoder) for metric in metrics]
    assert [network.reference is None for network in networks] == [False, True]
    assert [network.reference_data for network in networks] == ["noise", "others"]
    assert [network.path for network in networks] == [weights_file, path]


def snapshot(network):
    """All of a network that somebody else could have changed."""
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    return {
        "tensors": {name: (id(value), value.data_ptr(), value.device, value.dtype) for name, value in tensors.items()},
        "flags": {name: (module.training, module.forward) for name, module in network.named_modules()},
        "gradients": {name: value.requires_grad for name, value in network.named_parameters()},
        "values": {name: value.clone() for name, value in tensors.items()},
        "rest": {name: value for name, value in network.__dict__.items() if not name.startswith("_")},
    }


def assert_unchanged(network, before):
    after = snapshot(network)
    values = before.pop("values"), after.pop("values")
    assert after == before
    assert all(torch.equal(value, values[1][name]) for name, value in values[0].items())


@pytest.mark.parametrize(
    ("metric_class", "kind"),
    [
        (ResNetL2, "weights"),
        (ResNetL2, "double"),
        (ResNetL2, "module"),
        (PatchQuality, "weights"),
        (PatchQuality, "double"),
    ],
)
def test_the_network_of_the_caller_is_never_moved_or_changed(weights, calibration, metric_class, kind):
    if kind == "module":
        network = Moments().train()
    else:
        network = LatentEncoder(weights)
        network = network.with_dtype(torch.float64) if kind == "double" else network
    options = {"calibration": calibration, "max_false_rejection": 0.05} if metric_class is PatchQuality else {}
    second = torch.arange(6) < 3
    before = snapshot(network)
    with torch.device("meta"):
        metric = metric_class(network, **options)
    value = metric(tissue(6), second)
    metric.train().half().double().requires_grad_(False)
    if kind != "module":
        metric.set_dtype(torch.float32 if kind == "double" else torch.float64).update(tissue(6), second)
    twins = [
        metric.clone(),
        copy.deepcopy(metric),
        pickle.loads(pickle.dumps(metric)),
        metric_class(network, **options),
    ]
    for twin in twins:
        twin.update(tissue(6), second)
        twin.to("meta")
    shared = FeatureShare({"a": metric_class(network, **options), "b": metric_class(network, **options)})
    shared.update(tissue(6), second)
    shared.to("meta")
    metric.to("meta")
    assert_unchanged(network, before)
    assert metric_class(network, **options)(tissue(6), second) == value


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


@pytest.mark.parametrize("broken", ["update", "compute"])
def test_an_exception_in_forward_loses_nothing(encoder, images, broken, monkeypatch):
    metric = ResNetL2(encoder)
    metric.update(images, torch.arange(12) < 6)
    before, value = sums(metric), metric.compute()
    if broken == "compute":
        monkeypatch.setattr("torchmetrics_rl2.metrics.resnet_l2.distance", lambda *args: 1 / 0)
    with pytest.raises((ValueError, ZeroDivisionError)):
        metric(images[:, :, :16, :16] if broken == "update" else images, real=False)
    monkeypatch.undo()
    assert all(torch.equal(getattr(metric, name), kept) for name, kept in before.items())
    assert metric.compute() == value
    assert metric(images, torch.arange(12) < 6) == value


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


def counting(network):
    """Lengths of the batches that reach a network."""
    seen = []
    inner = network.features if isinstance(network, LatentEncoder) else network
    inner.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
    return seen


@pytest.mark.parametrize("broken", ["update", "compute", "result", "statistics"])
def test_an_exception_leaves_sums_flags_and_cache_as_they_were(encoder, images, broken, monkeypatch):
    metric = ResNetL2(encoder, uncertainty=True)
    metric.update(images, torch.arange(12) < 6)
    value = metric.compute()
    before = {key: entry for key, entry in metric.__dict__.items() if key not in ("update", "compute")}
    if broken in ("update", "statistics"):
        monkeypatch.setattr("torchmetrics_rl2.metrics.kept_sums.sums_of", lambda *args: 1 / 0)
        monkeypatch.setattr("torchmetrics_rl2.metrics.resnet_l2.Statistics", lambda *args, **kwargs: 1 / 0)
    monkeypatch.setattr("torchmetrics_rl2.metrics.resnet_l2.distance", lambda *args: 1 / 0)
    monkeypatch.setattr("torchmetrics_rl2.metrics.resnet_l2.compare", lambda *args: 1 / 0)
    if broken == "compute":
        metric._computed = before["_computed"] = None
    call = {"update": lambda: metric.update(images, real=True), "statistics": lambda: metric.statistics(real=True)}
    with pytest.raises(ZeroDivisionError):
        call.get(broken, getattr(metric, broken))()
    assert all(metric.__dict__[key] is entry for key, entry in before.items())
    monkeypatch.undo()
    assert metric.compute() == value


def test_feature_share_runs_the_network_once_and_touches_no_other_metric(weights):
    encoder = LatentEncoder(weights)
    outside = ResNetL2(encoder)
    forward = outside.encoder.forward
    shared = FeatureShare({"plain": ResNetL2(encoder), "debiased": ResNetL2(encoder, debiased=True)})
    seen = counting(encoder)
    real, fake = random_images(6, seed=1), random_images(6, seed=2) // 2
    for images, is_real in ((real, True), (fake, False)):
        shared.update(images, real=is_real)
        outside.update(images, real=is_real)
    assert seen == [6, 6, 6, 6]
    assert shared.compute()["plain"] == outside.compute()
    assert outside.encoder.forward == forward
    assert not hasattr(encoder.forward, "cache_info")
    assert (len(shared.state_dict()), len(list(shared.parameters()))) == (0, 0)


def test_feature_share_between_weights_that_were_loaded_twice(weights):
    encoders = LatentEncoder(weights), LatentEncoder(weights)
    shared = FeatureShare({"a": ResNetL2(encoders[0]), "b": ResNetL2(encoders[1], debiased=True)})
    seen = [counting(encoder) for encoder in encoders]
    shared.update(random_images(6), real=True)
    assert seen == [[6], []]


def test_feature_share_survives_clones_and_pickling(weights, images):
    encoder = LatentEncoder(weights)
    shared = FeatureShare({"plain": ResNetL2(encoder), "debiased": ResNetL2(encoder, debiased=True)})
    outside = ResNetL2(encoder)
    mask = torch.arange(12) < 6
    expected = outside(images, mask)
    twin = shared.clone()
    assert twin["plain"].encoder is twin["debiased"].encoder
    assert twin["plain"].encoder is not shared["plain"].encoder
    for collection in (shared, twin, pickle.loads(pickle.dumps(shared))):
        collection.reset()
        seen = counting(network_of(collection["plain"].encoder))
        collection.update(images, mask)
        assert len(seen) >= 1
        assert collection.compute()["plain"] == expected


def test_feature_share_moves_as_one_and_nobody_else(weights):
    encoder = LatentEncoder(weights)
    shared = FeatureShare({"plain": ResNetL2(encoder), "debiased": ResNetL2(encoder, debiased=True)})
    outside = ResNetL2(encoder)
    shared.to("meta")
    assert shared["plain"].encoder is shared["debiased"].encoder
    assert network_of(shared["plain"].encoder).device.type == "meta"
    assert hasattr(shared["plain"].encoder.network.forward, "cache_info")
    before = shared["plain"].encoder
    for _ in range(2):  # onto the same device, and after a cast
        shared.to("meta").half()
        assert shared["plain"].encoder is before is shared["debiased"].encoder
    assert network_of(outside.encoder) is encoder
    assert encoder.device.type == "cpu"


def test_a_foreign_network_is_refused_with_a_sentence(weights, other_weights):
    class Small(nn.Module):
        num_features = 512

        def forward(self, imgs):
            return imgs.float().mean((2, 3)).repeat(1, 171)[:, :512]

    ours = ResNetL2(LatentEncoder(weights))
    for first in (FrechetInceptionDistance(Small()), ResNetL2(other_weights), ResNetL2(Small())):
        with pytest.raises(ValueError, match=r"random@1 was given another network.*FeatureShare"):
            FeatureShare([first, ours] if isinstance(first, FrechetInceptionDistance) else {"a": first, "b": ours})
    with pytest.raises(ValueError, match="dtype"):
        FeatureShare({"a": ResNetL2(LatentEncoder(weights)).set_dtype(torch.float64), "b": ours})
    assert ours(random_images(4), torch.arange(4) < 2).isfinite()


def test_a_network_that_its_owner_moves_after_the_metric_is_followed():
    owner = nn.Module()
    owner.rl2 = ResNetL2(net := Moments())
    owner.net = net
    owner.to("meta")
    owner.rl2.update(random_images(4).to("meta"), real=True)
    assert network_of(owner.rl2.encoder) is net


def test_a_network_that_its_owner_trains_is_followed():
    net = Moments()
    metric = ResNetL2(net)
    with torch.no_grad():
        net.scale.fill_(3)
    net.scale = nn.Parameter(2 * net.scale)
    metric.update(random_images(4), real=True)
    expected = 6 * random_images(4).double().mean((2, 3)).sum(0)
    torch.testing.assert_close(metric.real_sum, expected, rtol=1e-5, atol=0)


def test_a_checkpoint_of_other_weights_is_refused_with_a_sentence(encoder, other_weights, tmp_path):
    model = nn.Module()
    model.rl2 = ResNetL2(encoder)
    model.head = nn.Linear(2, 2)
    torch.save(model.state_dict(), tmp_path / "model.ckpt")
    state = torch.load(tmp_path / "model.ckpt", weights_only=True)
    assert list(state) == ["head.weight", "head.bias"]
    model.load_state_dict(state)
    model.rl2 = ResNetL2(other_weights)
    for strict in (True, False):
        with pytest.raises(RuntimeError, match=r"rl2\.encoder has the weights random@1.*Give the metric the same"):
            model.load_state_dict(state, strict=strict)
    model.load_state_dict(dict(state))  # whose metadata is stripped cannot be checked


def test_a_checkpoint_older_than_the_metric_loads_strictly(encoder):
    old = nn.Module()
    old.head = nn.Linear(2, 2)
    new = nn.Module()
    new.head, new.rl2 = nn.Linear(2, 2), ResNetL2(encoder)
    new.load_state_dict(old.state_dict(), strict=True)
    old.load_state_dict(new.state_dict(), strict=True)


def test_persistent_sums_come_back_and_are_computed_anew(encoder, images):
    metric, other = ResNetL2(encoder, uncertainty=True), ResNetL2(encoder, uncertainty=True)
    metric.persistent(True)
    metric.update(images, torch.arange(12) < 6)
    other.update(images, torch.arange(12) < 3)
    assert other.compute() != metric.compute()
    other.load_state_dict(metric.state_dict())
    assert other.compute() == metric.compute()
    assert other.result() == metric.result()
    with pytest.raises(RuntimeError, match="shape"):
        ResNetL2(Moments(), uncertainty=True).load_state_dict(metric.state_dict())


def test_sums_of_other_options_are_not_loaded_or_merged_in_part(encoder, images):
    plain, metric = ResNetL2(encoder), ResNetL2(encoder, uncertainty=True)
    plain.update(images, torch.arange(12) < 6)
    plain.persistent(True)
    with pytest.raises(RuntimeError, match="real_second_moment is not in the checkpoint.*other options"):
        metric.load_state_dict(plain.state_dict())
    assert metric.real_count == 0
    with pytest.raises(ValueError, match=r"has no (real|fake)_second_moment"):
        metric.merge_state(plain)


def test_sums_in_half_precision_are_refused(encoder, images):
    metric = ResNetL2(encoder)
    metric.update(images, torch.arange(12) < 6)
    metric.persistent(True)
    state = metric.state_dict()
    half = type(state)({key: value.half() if value.is_floating_point() else value for key, value in state.items()})
    single = type(state)({key: value.float() if value.is_floating_point() else value for key, value in state.items()})
    for refused in (lambda: metric.load_state_dict(dict(half)), lambda: metric.merge_state(half)):
        with pytest.raises((RuntimeError, ValueError), match="too narrow for sums"):
            refused()
    metric.load_state_dict(single)
    assert {value.dtype for value in sums(metric).values()} == {torch.float64, torch.int64}
    with pytest.raises(ValueError, match=r"real_sum has the shape \(\)"):
        metric.merge_state(metric.metric_state | {"real_sum": torch.zeros(())})
    with pytest.raises(ValueError, match="NoneType"):
        metric.merge_state(None)


def test_loaded_sums_count_as_an_update(encoder, images):
    metric, other = ResNetL2(encoder), ResNetL2(encoder)
    metric.update(images, torch.arange(12) < 6)
    metric.persistent(True)
    other.load_state_dict(metric.state_dict())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert other.compute() == metric.compute()


def test_a_copy_with_a_network_of_its_own_is_another_metric_to_a_collection():
    owner = nn.Module()
    owner.net = Moments()
    owner.rl2 = ResNetL2(owner.net)
    for twin in (copy.deepcopy(owner), pickle.loads(pickle.dumps(owner))):
        collection = MetricCollection({"own": owner.rl2, "twin": twin.rl2})
        collection.reset()
        collection.update(random_images(4), torch.arange(4) < 2)
        assert len(collection.compute_groups) == 2


def test_set_dtype_holds_after_a_reset(encoder):
    metric = ResNetL2(encoder).set_dtype(torch.float64)
    mark = metric.encoder_id.clone()
    metric.reset()
    assert torch.equal(metric.encoder_id, mark)
    assert not torch.equal(mark, ResNetL2(encoder).encoder_id)


def test_a_metric_can_be_shared_again(weights):
    encoder = LatentEncoder(weights)
    first, second = ResNetL2(encoder), ResNetL2(encoder, debiased=True)
    for _ in range(2):
        shared = FeatureShare({"a": first, "b": second})
    FeatureShare({"a": first.clone(), "b": ResNetL2(encoder)})
    seen = counting(encoder)
    shared.update(random_images(4), torch.arange(4) < 2)
    assert seen == [4]


def test_merge_state_adds_shards_and_refuses_other_weights(encoder, other_weights, images):
    whole, first, second = (ResNetL2(encoder, uncertainty=True) for _ in range(3))
    mask = torch.arange(12) % 2 == 0
    whole.update(images, mask)
    first.update(images[:5], mask[:5])
    second.update(images[5:], mask[5:])
    before = first.compute()
    first.merge_state(second)
    assert first.compute() != before
    for name, value in sums(whole).items():
        torch.testing.assert_close(getattr(first, name), value, rtol=1e-4, atol=1e-3)
    foreign = ResNetL2(other_weights, uncertainty=True)
    foreign.update(images, mask)
    with pytest.raises(ValueError, match="of other weights than random@1"):
        first.merge_state(foreign)
    with pytest.raises(ValueError, match="of other weights"):
        first.merge_state(foreign.metric_state)
    fresh = ResNetL2(encoder, uncertainty=True)
    fresh.merge_state(whole.metric_state)
    assert fresh.compute() == whole.compute()


def test_construction_under_a_bfloat16_default_changes_nothing(weights_file, encoder, images):
    mask = torch.arange(12) < 6
    expected = ResNetL2(encoder)(images, mask)
    torch.set_default_dtype(torch.bfloat16)
    try:
        metric = ResNetL2(weights_file, uncertainty=True)
        assert metric(images, mask) == expected
    finally:
        torch.set_default_dtype(torch.float32)
    assert {value.dtype for value in sums(metric).values()} == {torch.float64, torch.int64}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_floats_of_any_width_are_taken(encoder, images, dtype):
    metric, mask = ResNetL2(encoder, normalize=True), torch.arange(12) < 6
    whole = (images // 255).to(dtype)
    assert metric(whole, mask) == ResNetL2(encoder)(images // 255 * 255, mask)


def test_autocast_changes_nothing(encoder, images):
    mask = torch.arange(12) < 6
    expected = ResNetL2(encoder)(images, mask)
    with torch.autocast("cpu", torch.bfloat16):
        assert ResNetL2(encoder)(images, mask) == expected


def test_collections_clone_and_move_without_copies(encoder):
    collection = MetricCollection({"a": ResNetL2(encoder), "b": ResNetL2(encoder, debiased=True)})
    twins = [collection.clone(prefix=f"{i}_") for i in range(3)]
    held = {id(network_of(metric.encoder)) for one in (collection, *twins) for metric in one.values()}
    assert held == {id(encoder)}
    twins[0].to("meta")
    assert network_of(collection["a"].encoder) is encoder
    gc.collect()
