from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2.functional import pil_to_tensor, resize

from torchmetrics_rl2.images import tensors
from torchmetrics_rl2.images.tensors import resized, to_tensor

NOISE = np.random.default_rng(0).integers(0, 256, (97, 131, 3), dtype=np.uint8)


def test_pixels_are_those_of_torchvision():
    image = Image.fromarray(NOISE)
    assert torch.equal(to_tensor(image), pil_to_tensor(image))
    assert to_tensor(image).is_contiguous()


@pytest.mark.parametrize("size", [(48, 65), (97, 131), (224, 224), (1, 1), (300, 33), (96, 131)])
def test_resized_pixels_are_those_of_torchvision_to_the_bit(size):
    image = Image.fromarray(NOISE)
    assert torch.equal(resized(to_tensor(image), size), resize(pil_to_tensor(image), list(size), antialias=True))


def test_no_reader_of_images_imports_torchvision():
    room = Path(tensors.__file__).parent
    assert [path.name for path in room.glob("*.py") if "import torchvision" in path.read_text()] == []
    assert [path.name for path in room.glob("*.py") if "from torchvision" in path.read_text()] == []
