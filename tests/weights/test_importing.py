import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tests.conftest import perturbed_flow, random_images
from torchmetrics_rl2 import LatentEncoder, RL2Error
from torchmetrics_rl2.networks import Preprocessing
from torchmetrics_rl2.weights import import_weights, read_weights


def features_of(network, inputs):
    with torch.no_grad():
        return nn.Sequential(*list(network.children())[:-1])(inputs).flatten(1)


class CNNModel(nn.Module):
    """TIAToolbox's: torchvision's network without pooling and classifier, as a sequence."""

    def __init__(self, network):
        super().__init__()
        self.feat_extract = nn.Sequential(*list(network.children())[:-2])
        self.classifier = nn.Linear(512, 9)


def test_a_checkpoint_of_torchvision_gives_its_features(network, tmp_path):
    torch.save(network.state_dict(), tmp_path / "r.pth")
    import_weights(tmp_path / "r.pth", tmp_path / "w.safetensors", card={"license": "CC0-1.0"})
    images = random_images(2)
    preprocessing = Preprocessing()
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (preprocessing.mean, preprocessing.std))
    expected = features_of(network, (images / 255 - mean) / std)
    assert torch.allclose(LatentEncoder.load(tmp_path / "w.safetensors")(images), expected, rtol=1e-4, atol=1e-5)
    assert read_weights(tmp_path / "w.safetensors").card == {
        "data": "backbone imported from r.pth",
        "license": "CC0-1.0",
    }


@pytest.mark.parametrize("kind", ["pth", "safetensors"])
def test_a_checkpoint_of_tiatoolbox_gives_its_features_of_plain_pixels(network, tmp_path, kind):
    path = tmp_path / f"resnet18-kather100k.{kind}"
    state = CNNModel(network).state_dict()
    torch.save(state, path) if kind == "pth" else save_file(state, path)
    made = import_weights(path, tmp_path / "w.safetensors", px=224, mpp=0.5)
    assert made.preprocessing == Preprocessing((0.0,) * 3, (1.0,) * 3, 224, 0.5)
    images = random_images(2)
    encoder = LatentEncoder.load(tmp_path / "w.safetensors")
    with pytest.warns(UserWarning, match="224 x 224"):
        latents = encoder(images)
    assert torch.allclose(latents, features_of(network, images / 255), rtol=1e-4, atol=1e-5)
    other = import_weights(path, tmp_path / "imagenet.safetensors", pixels="imagenet")
    assert other.preprocessing == Preprocessing()


def test_a_flow_comes_along(network, tmp_path):
    torch.save(network.state_dict(), tmp_path / "r.pth")
    flow = perturbed_flow(512, layers=2, hidden=16, scale_bound=0.5)
    torch.save({"config": flow.config, "state_dict": flow.state_dict()}, tmp_path / "flow.pt")
    import_weights(tmp_path / "r.pth", tmp_path / "w.safetensors", flow=tmp_path / "flow.pt")
    encoder = LatentEncoder.load(tmp_path / "w.safetensors")
    with torch.no_grad():
        expected = flow(encoder.features(random_images(2)))[0]
    assert torch.allclose(encoder(random_images(2)), expected, rtol=1e-5, atol=1e-5)


def test_wrong_input_is_a_sentence_and_leaves_no_file(network, tmp_path):
    checkpoint, small = tmp_path / "r.pth", perturbed_flow(8, layers=1, hidden=4)
    torch.save(network.state_dict(), checkpoint)
    torch.save({"config": small.config, "state_dict": small.state_dict()}, tmp_path / "small.pt")
    torch.save(small.state_dict(), tmp_path / "bare.pt")
    for options, sentence in (
        ({"flow": tmp_path / "none.pt"}, "There is no file .*none.pt; expected a flow"),
        ({"flow": tmp_path / "bare.pt"}, "is no flow .*Expected what torch.save wrote"),
        ({"flow": tmp_path / "small.pt"}, "a flow of 8 features; those of a ResNet-18 are 512"),
        ({"flow": checkpoint}, "is no flow"),
        ({"pixels": "uint8"}, "Pixels are imagenet or unit, but got 'uint8'"),
        ({"mpp": -1}, "mpp between 0 and 100"),
        ({"px": 0}, "px of at least 1"),
    ):
        with pytest.raises(RL2Error, match=sentence):
            import_weights(checkpoint, tmp_path / "w.safetensors", **options)
    with pytest.raises(RL2Error, match="is a .safetensors file, but got"):
        import_weights(checkpoint, tmp_path / "w.pth")
    assert not (tmp_path / "w.safetensors").exists()
