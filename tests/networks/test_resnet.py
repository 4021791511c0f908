import torch
from torch import nn
from torchvision.models import resnet18

from torchmetrics_rl2.networks.resnet import ResNet18


def torchvision_network():
    torch.manual_seed(0)
    network = resnet18(weights=None).eval()
    network.fc = nn.Identity()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
    return network


def error(found, expected):
    return float((found - expected).norm() / expected.norm())


@torch.no_grad()
def test_it_is_torchvisions_network():
    theirs, images = torchvision_network(), torch.randn(3, 3, 75, 64)
    ours = ResNet18.of(theirs.state_dict())
    assert list(ours.state_dict()) == list(theirs.state_dict()) == list(ResNet18.entries())
    assert error(ours(images), theirs(images)) < 1e-6


@torch.no_grad()
def test_folded_normalization_changes_rounding_alone():
    theirs, images = torchvision_network(), torch.randn(3, 3, 75, 64)
    folded = ResNet18.of(theirs.state_dict()).fold()
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    exact = theirs.double()(images.double())
    assert error(folded(images), exact) < 2e-6
    assert error(folded.double()(images.double()), exact) < 2e-7


def test_what_it_was_made_of_stays_as_it_was():
    state = torchvision_network().state_dict()
    before = {key: value.clone() for key, value in state.items()}
    ResNet18.of(state).fold()
    assert all(torch.equal(state[key], value) for key, value in before.items())
