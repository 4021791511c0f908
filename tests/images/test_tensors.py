from hashlib import sha256
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
def test_resized_pixels_are_those_of_torchvision_to_the_bit(size, monkeypatch):
    # On other CPUs some versions of torchvision resize floats, and round differently.
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "AVX2")
    image = Image.fromarray(NOISE)
    assert torch.equal(resized(to_tensor(image), size), resize(pil_to_tensor(image), list(size), antialias=True))


def test_resized_pixels_are_the_same_on_every_cpu():
    found = resized(torch.from_numpy(NOISE).permute(2, 0, 1), (48, 65))
    assert sha256(found.permute(1, 2, 0).numpy().tobytes()).hexdigest()[:12] == "8199e74c5ee7"


def test_no_reader_of_images_imports_torchvision():
    room = Path(tensors.__file__).parent
    assert [path.name for path in room.glob("*.py") if "import torchvision" in path.read_text()] == []
    assert [path.name for path in room.glob("*.py") if "from torchvision" in path.read_text()] == []
