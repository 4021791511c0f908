import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import Moments, random_images, sums
from torchmetrics_rl2 import LatentEncoder, ResNetL2, RL2Error, Statistics, compare
from torchmetrics_rl2.functional import resnet_l2


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
    assert result.debiased != pytest.approx(resnet_l2(encoder(real), encoder(fake), debiased=True).item(), rel=1e-4)


def test_with_a_reference_reset_forgets_all_that_there_is(encoder, images):
    metric = ResNetL2(encoder, reference="weights", reset_real_features=False)
    for _ in range(2):
        metric.update(images, real=False)
        assert metric.fake_count == 12
        metric.reset()


def test_a_new_epoch_warns_anew(encoder):
    metric = ResNetL2(encoder)
    for _ in range(2):
        metric.update(random_images(2), real=True)
        with pytest.warns(UserWarning, match="2 real and 0 generated"):
            metric.compute()
        metric(random_images(2), torch.tensor([True, False]))
        metric.reset()


def test_references_that_do_not_fit_are_refused(encoder, images):
    metric = ResNetL2(encoder)
    metric.update(images, real=True)
    with pytest.raises(RL2Error, match="has sums alone"):
        ResNetL2(encoder, reference=metric.statistics(real=True), uncertainty=True)
    for other in ({"weights_id": "ab" * 32}, {}):
        with pytest.raises(RL2Error, match=r"latents of different weights.*random@1"):
            ResNetL2(encoder, reference=Statistics.of_latents(torch.ones(4, 512), **other))
    sums_alone = metric.statistics(real=True)
    assert ResNetL2(encoder, reference=sums_alone)(images, real=False) == 0
    one_slide = Statistics.of_latents(encoder(images), ["slide"] * 12, weights_id=encoder.weights_id)
    with pytest.raises(RL2Error, match="of two groups where it has groups"):
        ResNetL2(encoder, reference=one_slide, debiased=True)
    with pytest.raises(RL2Error, match="there are none yet"):
        ResNetL2(encoder, reference=ResNetL2(encoder).statistics(real=True))
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
                encoder(side), weights="random@1", weights_id=encoder.weights_id, source=f"update(real={kind})"
            )
            for kind, side in ((True, real), (False, fake))
        )
    )
    assert result.value == pytest.approx(metric.compute().item(), rel=1e-6)
    assert result.debiased == pytest.approx(plain.compute().item(), rel=1e-5)
    assert plain.result().interval is None
    assert "no second moments" in str(plain.result())


def test_result_before_and_with_one_side_is_nan_and_says_why():
    metric = ResNetL2(Moments(), uncertainty=True)
    with pytest.warns(UserWarning, match="0 real and 0 generated images since it was reset"):
        assert math.isnan(metric.result().value)
    metric.update(random_images(5), real=True)
    assert (math.isnan(metric.result().debiased), metric.result().interval) == (True, None)


@pytest.mark.parametrize("side", ["real", "fake"])
def test_floats_of_another_range_are_warned_of_once_a_side(side):
    metric = ResNetL2(Moments(), normalize=True)
    good = random_images(4) / 255
    metric.update(good, real=side != "real")
    with pytest.warns(UserWarning, match=r"got -1 to 1, which it clamps.*\(x \+ 1\) / 2") as caught:
        metric.update(good * torch.nan, real=side == "real")
        metric.update(2 * good.round() - 1, real=side == "real")
        metric.update(2 * good.round() - 1, real=side == "real")
    assert len(caught) == 1
    with pytest.warns(UserWarning, match="got 0 to 255"):
        ResNetL2(Moments(), normalize=True).update(255 * good.round(), real=True)


def test_second_moments_are_kept_on_request_alone(encoder):
    metric = ResNetL2(encoder, uncertainty=True)
    assert metric.fake_second_moment.shape == (513, 513)
    assert metric.fake_second_moment.dtype == torch.float64
    assert not hasattr(ResNetL2(encoder), "fake_second_moment")


def wrong_inputs():
    good, mask = random_images(4), torch.ones(4, dtype=torch.bool)
    return {
        "pass normalize=True": (good / 255, True),
        "color image": (good[:, :1], True),
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


def test_value_does_not_depend_on_batch_size_and_order(encoder):
    real, fake = random_images(16, seed=1), random_images(16, seed=2) // 2
    values = []
    for size in (1, 7, 16):
        for order in (torch.arange(16), torch.arange(16).flip(0)):
            metric = ResNetL2(encoder)
            for chosen in order.split(size):
                metric.update(real[chosen], real=True)
                metric.update(fake[chosen], real=False)
            values.append(metric.compute().double().item())
    assert max(values) - min(values) <= 1e-6 * values[0]


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


@pytest.mark.parametrize(
    ("real", "side"),
    [(np.bool_(True), True), (np.bool_(False), False), (torch.tensor(True), True), (np.array(False), False)],
)
def test_bools_of_numpy_and_of_tensors_are_bools(real, side):
    found, expected = ResNetL2(Moments()), ResNetL2(Moments())
    found.update(random_images(3), real)
    expected.update(random_images(3), side)
    assert found.real_count == expected.real_count


def test_arrays_of_bools_are_masks():
    mask = np.array([True, False, True])
    for how in ("update", "forward"):
        metric = ResNetL2(Moments())
        getattr(metric, how)(random_images(3), mask)
        assert (int(metric.real_count), int(metric.fake_count)) == (2, 1)
    for wrong in (np.array([1, 0, 1]), mask[:2], 1, "real"):
        with pytest.raises(ValueError, match="expects real as a bool or a bool tensor"):
            ResNetL2(Moments()).update(random_images(3), wrong)


def test_reals_given_again_to_kept_sums_are_warned_of():
    metric = ResNetL2(Moments(), reset_real_features=False, uncertainty=True)
    images = random_images(6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metric.reset()  # of nothing
        metric.update(images, real=True)
        metric.update(images, real=False)
        metric.compute()
        metric.reset()
        metric.update(images, real=False)
        metric.compute()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metric.update(images, torch.zeros(6, dtype=torch.bool))  # a mask of generated images alone
    with pytest.warns(UserWarning, match=r"real images again, after a reset that kept those before"):
        metric.update(images, torch.arange(6) < 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metric.update(images, real=True)  # once
        ResNetL2(Moments()).update(images, real=True)
