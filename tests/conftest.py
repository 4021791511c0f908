import os
from dataclasses import replace

import pytest
import tifffile
import torch
from torch import Generator, nn
from torchvision.models import resnet18
from torchvision.transforms.v2.functional import gaussian_blur, to_pil_image

from torchmetrics_rl2.quality.calibration import Calibration
from torchmetrics_rl2.networks.extractor import FeatureExtractor
from torchmetrics_rl2.encoder.encoder import LatentEncoder, reference_of
from torchmetrics_rl2.networks.flow import RealNVP
from torchmetrics_rl2.quality.screener import PatchScreener
from torchmetrics_rl2.quality.measures import measure
from torchmetrics_rl2.pixels.stain import stain_of
from torchmetrics_rl2.networks.extractor import Preprocessing
from torchmetrics_rl2.weights.file import Weights, write_weights

os.environ.setdefault("COLUMNS", "200")


def random_images(count, px=64, seed=0):
    return torch.randint(256, (count, 3, px, px), dtype=torch.uint8, generator=Generator().manual_seed(seed))


def tissue(count, px=64, seed=0):
    """Something like H&E: pink with purple nuclei and a lumen, uint8 ``(N, 3, px, px)``."""
    generator = Generator().manual_seed(seed)
    low = nn.functional.interpolate(torch.randn(count, 1, 8, 8, generator=generator), px, mode="bicubic")
    fine = nn.functional.interpolate(torch.randn(count, 1, px // 2, px // 2, generator=generator), px, mode="bilinear")
    nuclei = torch.sigmoid(6 * (low + 0.5 * fine - 0.8))
    lumen = torch.sigmoid(6 * (-low - 1.2))
    grain = 1 + 0.08 * torch.randn(count, 1, px, px, generator=generator)
    eosin, hematoxylin = (torch.tensor(density).view(1, 3, 1, 1) for density in ((0.1, 0.5, 0.2), (0.8, 0.9, 0.35)))
    # Patches of one slide differ a little in stain.
    eosin, hematoxylin = (
        stain * (1 + 0.15 * torch.randn(count, 3, 1, 1, generator=generator)) for stain in (eosin, hematoxylin)
    )
    density = (eosin * (1 - nuclei) + hematoxylin * nuclei) * (1 - 0.95 * lumen) * grain + 0.03
    return ((-density).exp() * 255).round().clamp(0, 255).to(torch.uint8)


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
    return {name: getattr(metric, name).clone() for name in metric._defaults if name != "encoder_id"}


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
    """Weights like those that ship, with a random backbone, made for 64 px."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone = resnet18(weights=None)
    backbone.fc = nn.Identity()
    state = {key: value.half() if value.ndim == 4 else value for key, value in backbone.state_dict().items()}
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
        {"data": "noise", "license": "CC0-1.0"},
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


@pytest.fixture(scope="session")
def calibration(encoder) -> Calibration:
    """120 good patches of 40 groups of three."""
    images = tissue(120, seed=5)
    latents, log_det, statistics, _ = measure(encoder, images)
    groups = torch.arange(120) // 3
    stain = stain_of([images])
    flagged = torch.zeros(120, dtype=torch.bool)
    return Calibration(
        latents, log_det, statistics, flagged, groups, stain, encoder.name, encoder.weights_id, "good", px=64, mpp=0.5
    )


@pytest.fixture(scope="session")
def screener(encoder, calibration) -> PatchScreener:
    return PatchScreener(encoder, calibration=calibration, max_false_rejection=0.05)


def write_slide(path, pixels, mpp=0.25, levels=2):
    """An Aperio slide, as OpenSlide reads it, of ``(H, W, 3)`` uint8."""
    says = f" |MPP = {mpp}" if mpp else ""
    with tifffile.TiffWriter(path) as file:
        for level in range(levels):
            file.write(
                pixels[:: 2**level, :: 2**level].copy(),
                tile=(256, 256),
                photometric="rgb",
                compression="zlib",
                description=f"Aperio made for a test\n|AppMag = 40{says}" if level == 0 else "Aperio",
                metadata=None,
                subfiletype=int(level > 0),
            )
    return path


def slide_pixels(seed=0, px=1024):
    """Glass with 5 x 7 good patches on the left, blurred from the fourth row on, and green ink on the upper right.

    The patches have 64 px at 0.5 um/px, each pixel twice as large on level 0.
    """
    pixels = torch.full((3, px, px), 242, dtype=torch.uint8)
    patches = tissue(35, 64, seed + 40).unflatten(0, (7, 5)).permute(2, 0, 3, 1, 4).reshape(3, 448, 320)
    pixels[:, 128:, :640] = patches.repeat_interleave(2, 1).repeat_interleave(2, 2)
    pixels[:, px // 2 :, :640] = gaussian_blur(pixels[:, px // 2 :, :640], [33, 33], [8.0])
    pixels[:, 128:256, 768:896] = torch.tensor([30, 170, 110], dtype=torch.uint8).view(3, 1, 1)
    return pixels.permute(1, 2, 0).numpy()


@pytest.fixture(scope="session")
def slide_file(tmp_path_factory):
    return write_slide(tmp_path_factory.mktemp("slides") / "case-1.svs", slide_pixels())


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
