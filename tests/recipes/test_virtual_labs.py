import io

import pytest
import torch
from PIL import Image
from torch import Generator
from torchvision.transforms.v2 import functional as TF

from tests.fixtures.images import tissue
from torchmetrics_rl2.pixels.damage import gaussian_blur


@pytest.fixture(scope="module")
def images():
    return tissue(8, 72, seed=3).float() / 255


def draws(recipes, seed=0):
    return recipes["virtual_labs"].Draws(torch.device("cpu"), seed)


@pytest.mark.parametrize("quality", [10, 50, 90])
def test_jpeg_is_that_of_libjpeg(recipes, images, quality):
    found = recipes["virtual_labs"].jpeg(images, torch.full((len(images),), float(quality)))
    for image, own in zip(images, found, strict=True):
        buffer = io.BytesIO()
        TF.to_pil_image((image * 255).byte()).save(buffer, "JPEG", quality=quality)
        theirs = TF.pil_to_tensor(Image.open(buffer)).float() / 255
        # Both round at several places; colors are also brought to full resolution in another way.
        assert (own - theirs).abs().mean() < 0.25 * (image - theirs).abs().mean() + 1 / 255


def test_focus_blurs_as_a_gaussian_does(recipes, images, monkeypatch):
    labs = recipes["virtual_labs"]
    monkeypatch.setattr(labs.Draws, "chosen", lambda self, share, *shape: torch.zeros(shape, dtype=torch.bool))
    found = labs.focus(images, torch.full((len(images),), 0.5), draws(recipes))
    expected = torch.stack([gaussian_blur(image, 0.3 * 13**0.5, Generator()) for image in images])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_what_is_not_damaged_stays_as_it_is(recipes, images):
    number = torch.tensor([0, 1, 0, 2, 0, 1, 0, 1])
    seen, severity = recipes["virtual_labs"].damage(images, number, draws(recipes))
    assert torch.equal(seen[number == 0], images[number == 0])
    assert ((severity > 0).sum(1) == number).all()
    assert all(not torch.equal(seen[i], images[i]) for i in range(8) if number[i])
    assert seen.min() >= 0
    assert seen.max() <= 1
    again, _ = recipes["virtual_labs"].damage(images, number, draws(recipes))
    assert torch.equal(seen, again)


def test_crops_of_a_laboratory_are_restained_alike_and_of_others_otherwise(recipes, images):
    one = images[:1].expand(8, -1, -1, -1)
    seen = recipes["virtual_labs"].restain(one, 2, draws(recipes, seed=4)).mean((2, 3))
    within = (seen[:4] - seen[:4].mean(0)).abs().max()
    assert (seen[:4].mean(0) - seen[4:].mean(0)).abs().max() > 2 * within
