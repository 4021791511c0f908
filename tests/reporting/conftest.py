from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torchvision.transforms.v2.functional import to_pil_image

from tests.fixtures.images import random_images, tissue
from tests.fixtures.weights import brightened
from torchmetrics_rl2 import LatentEncoder, compare, score
from torchmetrics_rl2.distance.statistics import Statistics
from torchmetrics_rl2.explaining.images import SeenImages
from torchmetrics_rl2.explaining.measuring import measure_signatures
from torchmetrics_rl2.explaining.run import explain
from torchmetrics_rl2.images import ImageReader, find_images
from torchmetrics_rl2.pixels import degrade

STEPS = tuple((name, s) for name in ("gaussian noise", "near blank") for s in (0.125, 0.5, 1.0))


@pytest.fixture(scope="session")
def three_kinds(tmp_path_factory):
    """Folders of images of three kinds: some real, some as real, some of them near blank."""
    folder = tmp_path_factory.mktemp("kinds")
    images = brightened(random_images(72, seed=4))
    sides = {"real": images[:24], "same": images[24:48], "blank": degrade(images[48:], "near blank", 0.5)}
    for side, side_images in sides.items():
        (folder / side).mkdir()
        for i, image in enumerate(side_images):
            to_pil_image(image).save(folder / side / f"{i:02}.png")
    return folder


@pytest.fixture(scope="session")
def explaining(weights_of_kinds, three_kinds):
    """An encoder of three kinds, with the signatures of two ladders."""
    encoder = LatentEncoder(weights_of_kinds)
    files = find_images(three_kinds / "real")
    found = measure_signatures(encoder.flow, encoder.features, files, ImageReader(), None, STEPS)
    return LatentEncoder(replace(weights_of_kinds, signatures=found))


@pytest.fixture(scope="session")
def scored(explaining, three_kinds):
    """Near blank images against real ones, with what the result was found from."""
    kept = []
    score(three_kinds / "blank", three_kinds / "real", weights=explaining, report=kept.append)
    return kept[0]


@pytest.fixture(scope="session")
def ten_thousand(scored, explaining, tmp_path_factory):
    """A score as if each side had 10,000 images, with long names."""
    folder = tmp_path_factory.mktemp("many")
    for i, image in enumerate(tissue(16, 224, seed=3)):
        to_pil_image(image).save(folder / f"{i}.png")
    sides, seen = {}, {}
    for number, side in enumerate(("real", "fake")):
        (folder / side).mkdir()
        of_side = SeenImages()
        of_side.names = [str(folder / side / f"{i:0100}.png") for i in range(10_000)]
        for i, name in enumerate(of_side.names):
            Path(name).symlink_to(folder / f"{i % 16}.png")
        latents = torch.randn(10_000, 512, generator=torch.Generator().manual_seed(number)) + 0.1 * number
        of_side.latents = [latents]
        sides[side], seen[side] = Statistics.of_latents(latents, kinds=explaining.kinds), of_side
    result = explain(compare(sides["real"], sides["fake"]), *sides.values(), explaining.signatures, seen)
    formats = {side: Counter(PNG=10_000) for side in sides}
    return replace(scored, result=result, sides=sides, seen=seen, formats=formats)
