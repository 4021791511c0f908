import os
from dataclasses import replace

import pytest
import torch
from torch import Generator, nn
from torchvision.models import resnet18
from torchvision.transforms.v2.functional import to_pil_image

from torchmetrics_rl2.encoder import FeatureExtractor, LatentEncoder, reference_of
from torchmetrics_rl2.flow import RealNVP
from torchmetrics_rl2.weights import Preprocessing, Weights, write_weights

os.environ.setdefault("COLUMNS", "200")


def random_images(count, px=64, seed=0):
    return torch.randint(256, (count, 3, px, px), dtype=torch.uint8, generator=Generator().manual_seed(seed))


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
    """Copies of a metric's sums and counts."""
    return {name: getattr(metric, name).clone() for name in metric._defaults if name != "encoder_mark"}


def perturbed_flow(features, seed=0, **settings):
    """A flow whose couplings do something: a new one is the identity."""
    flow = RealNVP(features, **settings)
    generator = Generator().manual_seed(seed)
    for coupling in flow.couplings:
        last = coupling.conditioner[-1]
        with torch.no_grad():
            last.weight.normal_(0, 0.3, generator=generator)
            last.bias.normal_(0, 0.3, generator=generator)
    return flow


@pytest.fixture(scope="session")
def weights() -> Weights:
    """Weights like those that ship, with a random trunk, made for 64 px."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        trunk = resnet18(weights=None)
    trunk.fc = nn.Identity()
    state = {key: value.half() if value.ndim == 4 else value for key, value in trunk.state_dict().items()}
    preprocessing = Preprocessing(px=64)
    features = FeatureExtractor(preprocessing, state)(random_images(48, seed=1))
    flow = perturbed_flow(512, layers=2, hidden=16)
    flow.linear.adapt(features)
    flow.requires_grad_(False)
    return Weights(
        preprocessing,
        state,
        flow.config,
        flow.state_dict(),
        reference_of(flow, features),
        {"data": "noise", "licence": "CC0-1.0"},
        name="random@1",
    )


@pytest.fixture(scope="session")
def weights_file(weights, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "random.safetensors"
    write_weights(weights, path)
    return path


@pytest.fixture(scope="session")
def encoder(weights) -> LatentEncoder:
    return LatentEncoder(weights)


@pytest.fixture
def other_weights(weights) -> LatentEncoder:
    """An encoder that differs from ``encoder`` by a shifted latent."""
    shifted = dict(weights.flow) | {"linear.mean": weights.flow["linear.mean"] + 1}
    return LatentEncoder(replace(weights, flow=shifted))


@pytest.fixture
def bare_encoder(weights) -> LatentEncoder:
    """The same without a reference."""
    return LatentEncoder(replace(weights, reference=None))


@pytest.fixture
def images():
    return random_images(12)


@pytest.fixture(scope="session")
def patches(tmp_path_factory):
    """A folder of 24 patches in three subfolders; those of ``bright`` are brighter."""
    folder = tmp_path_factory.mktemp("patches")
    for i, image in enumerate(random_images(24, seed=2)):
        group = ("a", "b", "bright")[i % 3]
        (folder / group).mkdir(exist_ok=True)
        to_pil_image(image // 2 + 127 if group == "bright" else image).save(folder / group / f"{i:02}.png")
    return folder
