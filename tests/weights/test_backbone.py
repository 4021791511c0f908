from urllib.error import URLError

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import resnet18, resnet34

from torchmetrics_rl2 import RL2Error
from torchmetrics_rl2.weights import load_backbone


@pytest.fixture(scope="module")
def state(network):
    return network.state_dict()


def test_a_state_dict_loses_its_classifier_and_nothing_else(state, tmp_path):
    torch.save(state, tmp_path / "r.pth")
    save_file(state, tmp_path / "r.safetensors")
    expected = {key: value for key, value in state.items() if not key.startswith("fc.")}
    for name in ("r.pth", "r.safetensors"):
        backbone = load_backbone(tmp_path / name)
        assert backbone.name == name
        assert list(backbone.state_dict) == list(expected)
        assert all(value.equal(expected[key]) for key, value in backbone.state_dict.items())


def test_a_state_dict_in_half_precision_becomes_one_that_can_be_written(state, tmp_path):
    torch.save({key: value.half() for key, value in state.items()}, tmp_path / "half.pth")
    kept = load_backbone(tmp_path / "half.pth").state_dict
    assert {value.dtype for key, value in kept.items() if "num_batches" in key} == {torch.int64}
    assert kept["conv1.weight"].dtype == torch.float16


def test_weights_lend_their_backbone(weights, weights_file):
    backbone = load_backbone(str(weights_file))
    assert backbone.preprocessing == weights.preprocessing
    assert all(value.equal(weights.backbone[key]) for key, value in backbone.state_dict.items())


def test_a_file_in_the_working_directory_does_not_shadow_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lung-colon").write_bytes(b"other weights")
    assert load_backbone("lung-colon").name.startswith("lung-colon@")


@pytest.fixture
def imagenet(monkeypatch, tmp_path):
    """Where torchvision's file is kept."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    return tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth"


def test_imagenet_says_what_to_do_without_a_network(imagenet, monkeypatch):
    def unreachable(*args, **kwargs):
        raise URLError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)
    with pytest.raises(RL2Error, match="no route.*resnet18-f37072fd.pth elsewhere and give that file"):
        load_backbone("imagenet")
    monkeypatch.setenv("TORCHMETRICS_RL2_OFFLINE", "1")
    with pytest.raises(RL2Error, match="network is switched off. Put https://.* at .*resnet18-f37072fd.pth"):
        load_backbone("imagenet")


def test_a_file_in_the_place_of_imagenet_has_to_be_torchvisions(imagenet, state):
    imagenet.parent.mkdir(parents=True)
    torch.save(state, imagenet)
    with pytest.raises(RL2Error, match="expected one that begins with f37072fd. Remove it"):
        load_backbone("imagenet")


def test_other_files_are_refused(state, tmp_path):
    torch.save(resnet34(weights=None).state_dict(), tmp_path / "r34.pth")
    with pytest.raises(RL2Error, match="not the state dict of a torchvision ResNet-18: 9"):
        load_backbone(tmp_path / "r34.pth")
    torch.save(state | {"feat_extract.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(RL2Error, match="not the state dict of a torchvision ResNet-18: 1"):
        load_backbone(tmp_path / "other.pth")
    torch.save({key: value.to("meta") for key, value in state.items()}, tmp_path / "meta.pth")
    with pytest.raises(RL2Error, match="not the state dict"):
        load_backbone(tmp_path / "meta.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(RL2Error, match="holds a list"):
        load_backbone(tmp_path / "list.pth")
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(RL2Error, match="no state dict"):
        load_backbone(tmp_path / "text.pth")
    torch.save(resnet18(weights=None), tmp_path / "module.pth")
    with pytest.raises(RL2Error, match="without running code"):
        load_backbone(tmp_path / "module.pth")
    with pytest.raises(RL2Error, match="no weights named"):
        load_backbone("imagnet")
