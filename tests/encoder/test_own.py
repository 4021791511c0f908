import copy

import pytest
import torch
from torch import nn
from torchmetrics.wrappers import FeatureShare

from tests.conftest import Moments, random_images
from torchmetrics_rl2 import ResNetL2, RL2Error, audit, compute_statistics, score
from torchmetrics_rl2.encoder.own import OwnEncoder, latents_of
from torchmetrics_rl2.encoder.sharing import any_encoder_of
from torchmetrics_rl2.images import find_images, read_image


class Convolution(nn.Module):
    """As models of timm are: floats, a ``pretrained_cfg``, and dropout while training."""

    num_features = 4

    def __init__(self, config=None):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 8, 8), nn.Dropout(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        if config is not None:
            self.pretrained_cfg = config

    def forward(self, images):
        return self.layers(images)


CONFIG = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4), "input_size": (3, 224, 224)}


def load(folder):
    return torch.stack([read_image(path) for path in find_images(folder)])


def test_a_compiled_network_has_the_name_of_what_it_compiles():
    network = Moments()
    images = random_images(4)
    sides = [ResNetL2(one) for one in (network, torch.compile(network, backend="eager"))]
    for side in sides:
        side.update(images, real=True)
    assert len(sides[0].statistics(real=True) + sides[1].statistics(real=True)) == 8


def test_a_pretrained_cfg_is_honored_for_bytes_and_floats():
    images, network = random_images(5), Convolution(CONFIG)
    mean, std = (torch.tensor(CONFIG[name]).view(3, 1, 1) for name in ("mean", "std"))
    with torch.no_grad():
        expected = copy.deepcopy(network).eval().layers((images / 255 - mean) / std)
    torch.testing.assert_close(latents_of(network, network, images), expected)
    torch.testing.assert_close(latents_of(network, network, images / 255), expected)
    assert network.training
    values = []
    for normalize in (False, True):
        metric = ResNetL2(network, normalize=normalize)
        for part, real in ((images[:3], True), (images[3:], False)):
            metric.update(part / 255 if normalize else part, real=real)
        values.append(metric.compute())
    torch.testing.assert_close(values[0], (expected[:3].mean(0) - expected[3:].mean(0)).norm())
    torch.testing.assert_close(values[0], values[1])


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"mean": 0.5, "std": 0.5},
        {"mean": (0, 0, 0), "std": (1, 1, 0)},
        {"mean": (0.5,), "std": (0.5,)},
        {"mean": (0.5, 0.5, 0.5)},
    ],
)
def test_a_pretrained_cfg_that_says_no_pixels_is_refused(config):
    with pytest.raises(ValueError, match=r"Convolution.pretrained_cfg has no mean and std of three colors"):
        ResNetL2(Convolution(config))


def test_bytes_that_a_module_cannot_take_end_in_a_sentence():
    metric = ResNetL2(Convolution())
    with pytest.raises(
        RL2Error, match=r"Convolution cannot take uint8 images of shape \(2, 3, 32, 32\) \(RuntimeError: "
    ):
        metric.update(random_images(2, px=32), real=True)
    assert metric._update_count == 0


def test_what_is_no_latent_is_refused():
    class Classes(Convolution):
        num_features = 1280

    class Outputs(Convolution):
        def forward(self, images):
            return {"features": self.layers(images)}

    images = random_images(2)
    with pytest.raises(ValueError, match=r"shape \(2, 1280\) from Classes, but got \(2, 4\). A model of timm .*num_cl"):
        latents_of(network := Classes(CONFIG), network, images)
    with pytest.raises(ValueError, match=r"from Outputs, but got dict"):
        latents_of(network := Outputs(CONFIG), network, images)


def test_score_statistics_and_audit_take_what_the_metric_takes(patches, tmp_path):
    network = Convolution(CONFIG)
    metric = ResNetL2(network, uncertainty=True)
    metric.update(load(patches / "a"), real=True)
    metric.update(load(patches / "bright"), real=False)
    found = score(patches / "bright", patches / "a", weights=network)
    assert found.value == pytest.approx(float(metric.compute()), rel=1e-5)
    assert (found.weights, found.weights_id, found.domain_shift) == ("Convolution", None, None)
    assert compute_statistics(patches / "a", weights=network).sums.sum.shape == (4,)
    with pytest.raises(RL2Error, match="Convolution is a module and holds no reference data; give real images"):
        score(patches / "a", weights=network)
    result = audit(network, patches, ladders=["gaussian blur"], limit=24)
    (ladder,) = result.ladders
    assert [one.auc for one in ladder.severities] == [one.auc_gaussian for one in ladder.severities]
    assert "Convolution (no weights_id)" in str(result)
    assert result.to_dict()["weights_id"] is None
    network.weights_id = "ours, epoch 3"
    assert compute_statistics(patches / "a", weights=network).weights_id == "ours, epoch 3"


def test_an_encoder_of_weights_stays_one(encoder):
    assert any_encoder_of(encoder) is encoder
    assert isinstance(any_encoder_of(Moments()), OwnEncoder)
    with pytest.raises(ValueError, match="expects an encoder with an integer num_features"):
        any_encoder_of(nn.Identity())


def test_timm_models_are_taken():
    timm = pytest.importorskip("timm")
    images = random_images(2, px=64)
    network = timm.create_model("resnet10t", num_classes=0)
    metric = ResNetL2(network)
    metric.update(images, real=True)
    metric.update(images, real=False)
    assert metric.compute() == 0
    with pytest.raises(ValueError, match="num_classes=0"):
        ResNetL2(timm.create_model("resnet10t")).update(images, real=True)


def test_other_architectures_are_named_where_a_resnet_is_needed(tmp_path):
    from torchmetrics_rl2.weights.backbone import load_backbone

    torch.save(Convolution().state_dict(), tmp_path / "vit.pt")
    with pytest.raises(RL2Error, match=r"is of another architecture: its entries are layers.0.bias, layers.0.weight"):
        load_backbone(tmp_path / "vit.pt")


def test_whatever_a_module_raises_is_in_the_sentence():
    class Mapped(Convolution):
        def forward(self, images):
            return {}["pixel_values"]

    with pytest.raises(RL2Error, match=r"The encoder Mapped cannot take .* \(KeyError: 'pixel_values'\)"):
        ResNetL2(Mapped()).update(random_images(2), real=True)


@pytest.mark.parametrize("width", [True, 0, -1, 2.0, None])
def test_no_width_is_refused(width):
    network = Convolution()
    network.num_features = width
    with pytest.raises(ValueError, match="num_features is"):
        ResNetL2(network)


def test_the_width_of_the_head_of_a_timm_model_counts():
    network = Convolution(CONFIG)
    network.num_features, network.head_hidden_size = 288, 4
    assert ResNetL2(network).num_features == 4


def test_metrics_that_share_a_module_with_a_pretrained_cfg_call_it_once():
    class Counting(Convolution):
        calls = 0

        def forward(self, images):
            type(self).calls += 1
            return super().forward(images)

    network = Counting(CONFIG)
    shared = FeatureShare({name: ResNetL2(network, debiased=name == "b") for name in "ab"})
    shared.update(random_images(3), real=True)
    assert Counting.calls == 1
