"""Weights with two kinds of tissue, dark and bright, and patches of them."""

import math
from dataclasses import replace

import pytest
import torch
from torchvision.transforms.v2.functional import to_pil_image

from tests.conftest import random_images
from torchmetrics_rl2 import LatentEncoder


def dark_and_bright(count, seed):
    images = random_images(count, seed=seed) // 2
    images[::2] += 127
    return images


@pytest.fixture(scope="session")
def encoder_of_kinds(weights, encoder) -> LatentEncoder:
    latents = encoder(dark_and_bright(32, seed=3))
    flow = dict(weights.flow) | {
        "base.means": torch.stack([latents[1::2].mean(0), latents[::2].mean(0)]),
        "base.log_shares": torch.full((2,), -math.log(2)),
    }
    card = dict(weights.card) | {"kinds": [{"name": "dark"}, {"name": "bright"}]}
    config = dict(weights.flow_config) | {"kinds": 2}
    return LatentEncoder(replace(weights, flow=flow, flow_config=config, card=card, reference=None))


@pytest.fixture(scope="session")
def two_kinds(tmp_path_factory):
    """A folder of 28 patches, dark ones in ``d`` and bright ones in ``b``."""
    folder = tmp_path_factory.mktemp("two")
    for i, image in enumerate(dark_and_bright(28, seed=4)):
        group = "db"[(i + 1) % 2]
        (folder / group).mkdir(exist_ok=True)
        to_pil_image(image).save(folder / group / f"{i:02}.png")
    return folder
