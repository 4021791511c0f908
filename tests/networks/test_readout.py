from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.conftest import random_images
from torchmetrics_rl2 import LatentEncoder, RL2Error
from torchmetrics_rl2.networks import FeatureExtractor
from torchmetrics_rl2.networks.readout import READ
from torchmetrics_rl2.pixels import handcrafted_statistics
from torchmetrics_rl2.weights import read_weights, write_weights


@pytest.fixture(scope="module")
def read_out(weights):
    generator = torch.Generator().manual_seed(3)
    readout = {
        "mean": torch.randn(READ, generator=generator),
        "matrix": torch.randn(READ, 512, generator=generator) / 20,
    }
    return replace(weights, readout=readout, reference=None)


def test_features_are_the_stored_map_of_channels_and_statistics(weights, read_out):
    images = random_images(3)
    channels = FeatureExtractor(weights.preprocessing, dict(weights.backbone))(images)
    numbers = torch.cat([channels, handcrafted_statistics(images.float() / 255)], 1).double().numpy()
    expected = (numbers - read_out.readout["mean"].numpy()) @ read_out.readout["matrix"].double().numpy()
    np.testing.assert_allclose(LatentEncoder(read_out).features(images).numpy(), expected, rtol=1e-3, atol=1e-4)


def test_files_round_trip(read_out, tmp_path):
    write_weights(read_out, tmp_path / "two.safetensors")
    read = read_weights(tmp_path / "two.safetensors")
    assert read.weights_id == read_out.weights_id
    images = random_images(2)
    assert torch.equal(LatentEncoder(read)(images), LatentEncoder(read_out)(images))


def test_readout_is_part_of_the_identity(weights, read_out):
    other = replace(read_out, readout=read_out.readout | {"mean": read_out.readout["mean"] + 1})
    assert len({one.backbone_id for one in (weights, read_out, other)}) == 3
    assert len({one.weights_id for one in (weights, read_out, other)}) == 3


def test_malformed_readout_is_refused(read_out, tmp_path):
    for readout in (
        {"mean": read_out.readout["mean"]},
        read_out.readout | {"matrix": read_out.readout["matrix"][:, :511]},
        read_out.readout | {"mean": read_out.readout["mean"].long()},
    ):
        with pytest.raises(RL2Error, match=r"readout\."):
            write_weights(replace(read_out, readout=readout), tmp_path / "bad.safetensors")


def test_casts_do_not_reach_it_and_float64_is_exact(read_out):
    encoder = LatentEncoder(read_out)
    images = random_images(2)
    before = encoder(images)
    assert torch.equal(encoder.half().train()(images), before)
    exact = encoder.with_dtype(torch.float64)(images)
    assert exact.dtype == torch.float64
    assert (exact - before).abs().max() < 1e-3 * exact.abs().max()
