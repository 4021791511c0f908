import copy
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import resnet18

from tests.conftest import brightened, random_images
from torchmetrics_rl2 import LatentEncoder, RL2Error
from torchmetrics_rl2.encoder.encoder import reference_of
from torchmetrics_rl2.encoder.sharing import encoder_of
from torchmetrics_rl2.weights import read_weights


def test_is_torchvisions_resnet_and_the_flow(weights, encoder, images):
    backbone = resnet18(weights=None)
    backbone.fc = nn.Identity()
    backbone.load_state_dict({key: value.float() for key, value in weights.backbone.items()} | {})
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    pixels = (images.numpy() / 255 - mean[:, None, None]) / std[:, None, None]
    with torch.no_grad():
        features = backbone.double().eval()(torch.from_numpy(pixels))
        z, _ = encoder.flow(features.float())
        torch.testing.assert_close(encoder(images), z, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(
            encoder.log_prob(images), encoder.flow.log_prob(features.float()), rtol=1e-4, atol=1e-1
        )


def test_uint8_and_float_of_the_same_image_agree_exactly(encoder, images):
    expected = encoder(images)
    for dtype in (torch.float32, torch.float64):
        assert torch.equal(encoder(images.to(dtype) / 255), expected)


def test_floats_are_rounded_and_clamped(encoder, images):
    exact = images.float() / 255
    for shift in (0.4, 0.6):
        rounded = (images.int() + round(shift)).clamp(0, 255).to(torch.uint8)
        assert torch.equal(encoder(exact + shift / 255), encoder(rounded))
    assert torch.equal(encoder(exact * 0 + 3.7), encoder(torch.full_like(images, 255)))


def test_nan_pixels_stay_nan(encoder, images):
    broken = images.float() / 255
    broken[3, 0, 5, 5] = torch.nan
    latents = encoder(broken)
    assert latents[3].isnan().any()
    assert latents[[0, 1, 2, 4]].isfinite().all()


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (64, 100)])
@pytest.mark.filterwarnings("ignore:random@1 was made for:UserWarning")
def test_any_size_from_32_px(encoder, size):
    assert encoder(torch.zeros(2, 3, *size, dtype=torch.uint8)).shape == (2, 512)


def test_another_size_than_the_weights_warns_once(weights):
    fresh, other = LatentEncoder(weights), torch.zeros(1, 3, 96, 96, dtype=torch.uint8)
    with pytest.warns(UserWarning, match="64 x 64 px and got 96 x 96"):
        fresh(other)
    fresh(other)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (torch.zeros(2, 1, 64, 64), "Grayscale"),
        (torch.zeros(3, 64, 64), "shape"),
        (torch.zeros(2, 3, 1, 1), "at least 32 x 32"),
        (torch.zeros(2, 3, 64, 64, dtype=torch.int32), "uint8"),
        (torch.zeros(0, 3, 64, 64), "empty"),
        (np.zeros((2, 3, 64, 64)), "ndarray"),
    ],
)
def test_says_what_it_expected(encoder, wrong, sentence):
    with pytest.raises(ValueError, match=sentence):
        encoder(wrong)


def assaults():
    return {
        "train": lambda e: e.train(),
        "half": lambda e: e.half(),
        "bfloat16": lambda e: e.to(torch.bfloat16),
        "double": lambda e: e.double(),
        "every module": lambda e: e.apply(lambda module: module.train()),
        "inside a model": lambda e: nn.ModuleList([e]).train().half(),
        "requires_grad": lambda e: e.requires_grad_(True),
    }


@pytest.mark.parametrize("name", assaults())
def test_nothing_reaches_the_weights(weights, images, name):
    encoder = LatentEncoder(weights)
    before, state = encoder(images), copy.deepcopy(encoder.state_dict())
    assaults()[name](encoder)
    after = encoder(images)
    assert torch.equal(after, before)
    assert not after.requires_grad
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert all(
        value.equal(state[key]) and value.dtype == state[key].dtype for key, value in encoder.state_dict().items()
    )


def test_an_optimizer_that_was_given_the_weights_changes_nothing(weights, images):
    encoder = LatentEncoder(weights)
    before = encoder(images)
    for parameter in encoder.parameters():
        parameter.requires_grad = True
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=1.0)
    loss = encoder(images).sum() + torch.zeros((), requires_grad=True)
    loss.backward()
    optimizer.step()
    assert torch.equal(encoder(images), before)


def test_autocast_and_lower_matmul_precision_do_not_reach_it(encoder, images):
    before = encoder(images)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(encoder(images), before)
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        assert torch.equal(encoder(images), before)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(precision)


@pytest.mark.skipif(not hasattr(torch.backends, "fp32_precision"), reason="since torch 2.9")
def test_the_newer_precision_switches_do_not_reach_it_and_stay_as_they_were(encoder, images):
    before, units = (
        encoder(images),
        (torch.backends.mkldnn.matmul, torch.backends.mkldnn.conv, torch.backends.cudnn.conv),
    )
    were = [unit.fp32_precision for unit in units]
    wanted = ["bf16", "bf16", "tf32"]
    try:
        for unit, value in zip(units, wanted, strict=True):
            unit.fp32_precision = value
        assert torch.equal(encoder(images), before)
        assert [unit.fp32_precision for unit in units] == wanted
    finally:
        for unit, value in zip(units, were, strict=True):
            unit.fp32_precision = value


def test_default_dtype_and_device_do_not_reach_it(weights_file, encoder, images):
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device("meta"):
            other = LatentEncoder.load(weights_file)
        assert torch.equal(other(images), encoder(images))
    finally:
        torch.set_default_dtype(torch.float32)
    assert {value.dtype for value in other.state_dict().values()} <= {torch.float32, torch.int64}


def test_float64_is_another_encoder(encoder, images):
    twin = encoder.with_dtype(torch.float64)
    assert (twin(images).dtype, encoder(images).dtype) == (torch.float64, torch.float32)
    torch.testing.assert_close(twin(images).float(), encoder(images), rtol=1e-3, atol=1e-3)


def test_half_precision_is_of_convolutions_alone(encoder, images):
    twin, expected = encoder.with_dtype(torch.float16), encoder(images)
    with torch.autocast("cpu", torch.bfloat16):  # of the caller is no matter
        latents = twin(images)
    error = float((latents - expected).norm() / expected.norm())
    assert (twin.dtype, latents.dtype, repr(twin).split(", ")[-1]) == (torch.float16, torch.float32, "float16 on cpu)")
    assert 1e-5 < error < 1e-2
    assert torch.equal(twin.with_dtype(torch.float32)(images), expected)
    assert torch.equal(twin.with_dtype(torch.float32)(images), encoder(images))
    assert {value.dtype for value in twin.state_dict().values()} == {
        value.dtype for value in encoder.state_dict().values()
    }
    with pytest.raises(ValueError, match=r"takes one of torch.float32, .*, but got torch.int8"):
        encoder.with_dtype(torch.int8)


def test_latents_do_not_depend_on_the_batch(encoder):
    images = random_images(12)
    alone = torch.cat([encoder(image[None]) for image in images])
    torch.testing.assert_close(alone, encoder(images), rtol=1e-4, atol=1e-4)


def test_survives_pickling(encoder, images):
    assert torch.equal(pickle.loads(pickle.dumps(encoder))(images), encoder(images))


def test_says_where_its_weights_are_and_what_they_were_made_of(weights, weights_file):
    encoder = LatentEncoder.load(weights_file)
    assert (encoder.path, encoder.card, encoder.reference_data) == (weights_file.absolute(), weights.card, "noise")
    assert LatentEncoder(weights).path is None
    described = replace(weights, card={"data": "LC25000: lung and colon"})
    assert LatentEncoder(described).reference_data == "LC25000"
    assert LatentEncoder(replace(weights, card={})).reference_data == "random@1"
    assert LatentEncoder(weights).reference_statistics.source == "reference data of the weights"


def test_a_given_encoder_is_taken_where_it_is_and_copied_elsewhere(encoder, weights_file):
    assert encoder_of(encoder, "cpu") is encoder
    elsewhere = encoder_of(encoder.with_dtype(torch.float64), "cpu")
    assert (elsewhere.dtype, encoder.dtype) == (torch.float64, torch.float32)
    assert encoder_of(weights_file, "cpu").weights_id == encoder.weights_id
    with pytest.raises(RL2Error, match="The device 'warp' cannot be used here"):
        encoder_of(encoder, "warp")


def test_reference_holds_likelihood_norm_and_log_determinant(weights_file, encoder):
    images = random_images(5, seed=9)
    reference = reference_of(encoder.flow, encoder.features(images))
    log_likelihood, norm, log_det = reference.scores.T
    torch.testing.assert_close(log_likelihood, encoder.log_prob(images))
    torch.testing.assert_close(norm, encoder(images).norm(dim=1))
    expected = log_det - norm.square() / 2 - 256 * np.log(2 * np.pi)
    torch.testing.assert_close(expected, log_likelihood, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(reference.sums.sum, encoder(images).double().sum(0))
    assert read_weights(weights_file).reference.sums.count == 48


def test_kinds_are_those_of_the_flow_under_the_names_of_the_card(weights_of_kinds, encoder_of_kinds, encoder):
    kinds = encoder_of_kinds.kinds
    assert list(kinds.names) == ["plain", "bright", "dark"]
    assert torch.equal(kinds.means, weights_of_kinds.flow["base.means"])
    assert torch.equal(kinds.log_shares, weights_of_kinds.flow["base.log_shares"])
    images = brightened(random_images(30, seed=1))
    assert kinds.of(encoder_of_kinds(images)).tolist() == list(range(3)) * 10
    assert encoder.kinds is None
    twin = encoder_of_kinds.with_dtype(torch.float64)
    assert torch.equal(twin.kinds.means, kinds.means)
    assert list(pickle.loads(pickle.dumps(encoder_of_kinds)).kinds.names) == list(kinds.names)


@pytest.mark.parametrize(
    "listed",
    [None, "fat", ["fat", "bone", "skin"], [{"name": "fat"}] * 3, [{"name": "fat"}, {"name": "fat"}, {}, {"name": 4}]],
)
def test_kinds_that_a_card_does_not_name_one_by_one_have_numbers(weights, weights_of_kinds, listed):
    card = {} if listed is None else {"kinds": listed}
    numbered = LatentEncoder(replace(weights_of_kinds, card=card))
    assert list(numbered.kinds.names) == ["kind 1", "kind 2", "kind 3"]
    assert LatentEncoder(replace(weights, card=card)).kinds is None


def test_the_reference_of_kinds_has_what_their_parts_need(encoder_of_kinds):
    statistics = encoder_of_kinds.reference_statistics
    assert statistics.kinds is encoder_of_kinds.kinds
    assert statistics.sums.kind_counts.tolist() == [16, 16, 16]
    found = encoder_of_kinds.statistics(encoder_of_kinds(brightened(random_images(48, seed=1))))
    for name in ("sum", "content_square_sum", "second_moment"):
        torch.testing.assert_close(getattr(found.sums, name), getattr(statistics.sums, name), rtol=1e-4, atol=1e-3)


def test_the_likelihood_of_kinds_is_that_of_their_mixture(encoder_of_kinds):
    images = brightened(random_images(6, seed=2))
    z, log_det = encoder_of_kinds.encode(images)
    each = [share - (z - mean).square().sum(1) / 2 for mean, share in zip(*_base(encoder_of_kinds), strict=True)]
    expected = torch.stack(each).logsumexp(0) - 256 * np.log(2 * np.pi) + log_det
    torch.testing.assert_close(encoder_of_kinds.log_prob(images), expected, rtol=1e-5, atol=1e-2)


def _base(encoder):
    return encoder.flow.base.means, encoder.flow.base.log_shares
