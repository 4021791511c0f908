from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.conftest import random_images
from torchmetrics_rl2 import LatentEncoder, RL2Error
from torchmetrics_rl2.encoder import FeatureExtractor
from torchmetrics_rl2.pooling import STAGE_STATISTICS, stage_statistics
from torchmetrics_rl2.weights import read_weights, write_weights


@pytest.fixture(scope="module")
def pooled(weights):
    generator = torch.Generator().manual_seed(3)
    pooling = {
        "mean": torch.randn(STAGE_STATISTICS, generator=generator),
        "matrix": (torch.randn(STAGE_STATISTICS, 512, generator=generator) / 40).half(),
    }
    return replace(weights, pooling=pooling, reference=None)


def test_numbers_of_each_stage_are_those_of_hooks(weights):
    trunk = FeatureExtractor(weights.preprocessing, dict(weights.trunk)).trunk
    maps = {}
    hooks = [
        getattr(trunk, name).register_forward_hook(lambda _, __, out, name=name: maps.update({name: out}))
        for name in ("layer1", "layer2", "layer3", "layer4")
    ]
    inputs = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = stage_statistics(trunk, inputs).numpy()
        trunk(inputs)
    for hook in hooks:
        hook.remove()
    flat = {name: value.double().flatten(2).numpy() for name, value in maps.items()}
    parts = [(flat[name].mean(2), np.sqrt(flat[name].var(2) + 1e-6)) for name in ("layer1", "layer2", "layer3")]
    expected = np.log(np.concatenate([*sum(parts, ()), flat["layer4"].mean(2)], 1) + 0.1)
    assert found.shape == (2, STAGE_STATISTICS)
    assert np.abs(found - expected).max() < 1e-3


def test_pooled_features_are_the_stored_map_of_them(weights, pooled):
    images = random_images(3)
    plain = FeatureExtractor(weights.preprocessing, dict(weights.trunk))
    inputs = (images.float() / 255 - plain.mean) / plain.std
    with torch.no_grad():
        numbers = stage_statistics(plain.trunk, inputs.contiguous(memory_format=torch.channels_last))
    expected = (numbers - pooled.pooling["mean"]) @ pooled.pooling["matrix"].float()
    assert torch.allclose(LatentEncoder(pooled).features(images), expected, atol=1e-5)


def test_files_round_trip_and_only_those_with_pooling_need_the_new_version(weights, pooled, tmp_path):
    write_weights(pooled, tmp_path / "two.safetensors")
    write_weights(weights, tmp_path / "one.safetensors")
    assert b'\\"format_version\\": 2' in (tmp_path / "two.safetensors").read_bytes()[:5000]
    assert b'\\"format_version\\": 1' in (tmp_path / "one.safetensors").read_bytes()[:5000]
    read = read_weights(tmp_path / "two.safetensors")
    assert read.weights_id == pooled.weights_id
    images = random_images(2)
    assert torch.equal(LatentEncoder(read)(images), LatentEncoder(pooled)(images))


def test_pooling_is_part_of_the_identity(weights, pooled):
    other = replace(pooled, pooling=pooled.pooling | {"mean": pooled.pooling["mean"] + 1})
    assert len({one.trunk_id for one in (weights, pooled, other)}) == 3
    assert len({one.weights_id for one in (weights, pooled, other)}) == 3


def test_malformed_pooling_is_refused(pooled, tmp_path):
    for pooling in (
        {"mean": pooled.pooling["mean"]},
        pooled.pooling | {"matrix": pooled.pooling["matrix"][:, :511]},
        pooled.pooling | {"mean": pooled.pooling["mean"].long()},
    ):
        with pytest.raises(RL2Error, match=r"pooling\."):
            write_weights(replace(pooled, pooling=pooling), tmp_path / "bad.safetensors")


def test_casts_do_not_reach_it_and_float64_is_exact(pooled):
    encoder = LatentEncoder(pooled)
    images = random_images(2)
    before = encoder(images)
    assert torch.equal(encoder.half().train()(images), before)
    exact = encoder.with_dtype(torch.float64)(images)
    assert exact.dtype == torch.float64
    assert (exact - before).abs().max() < 1e-3 * exact.abs().max()
