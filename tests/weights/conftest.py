import pytest
import torch
from torchvision.models import resnet18


@pytest.fixture(scope="session")
def network():
    """A ResNet-18 of torchvision's, of which somebody has a checkpoint."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return resnet18(weights=None).eval()
