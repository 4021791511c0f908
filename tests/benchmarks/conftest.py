import json
from pathlib import Path

import pytest
import torch
from torch import Generator
from torchvision.transforms.v2.functional import to_pil_image

from tests.conftest import random_images
from tests.fixtures.scripts import imported

FOLDER = Path(__file__).parents[2] / "benchmarks" / "paper"
NAMES = ("experiment", "inception", "blur_by_z_level", "ladders", "artifacts_by_likelihood", "stability", "power")


def pytest_collection_modifyitems(items):
    """Who installs the package runs no benchmarks."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="package")
def paper():
    """The scripts as modules."""
    with imported(FOLDER, NAMES) as found:
        yield found


@pytest.fixture
def run(paper, weights_file, capsys):
    """Runs a script's main and returns what it prints with --json."""

    def run(script, *arguments):
        paper[script].main([*map(str, arguments), "--weights", str(weights_file), "--device", "cpu", "--json"])
        return json.loads(capsys.readouterr().out)

    return run


def tissue(count, seed=0, px=64):
    """Something smooth with speckle, so that blur and noise both change it."""
    coarse = torch.rand(count, 3, px // 8, px // 8, generator=Generator().manual_seed(seed))
    smooth = torch.nn.functional.interpolate(coarse, (px, px), mode="bilinear")
    return ((0.7 * smooth + 0.3 * random_images(count, px, seed).float() / 255) * 255).to(torch.uint8)


def save(images, folder, name="patch {}.png"):
    folder.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(images):
        to_pil_image(image).save(folder / name.format(i))
    return folder
