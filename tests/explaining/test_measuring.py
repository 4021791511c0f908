import pytest
import torch
from torchvision.transforms.v2.functional import to_pil_image

from tests.conftest import random_images
from torchmetrics_rl2.explaining.measuring import STEPS, VISIBLE, measure_signatures
from torchmetrics_rl2.images import ImageReader, read_image
from torchmetrics_rl2.pixels import LADDERS, degrade

SOME = (("gaussian blur", 0.25), ("brightness", -0.5), ("magnification", -0.5))


@pytest.fixture
def files(tmp_path):
    for i, image in enumerate(random_images(6)):
        to_pil_image(image).save(tmp_path / f"{i}.png")
    return sorted(tmp_path.glob("*.png"))


def test_signatures_are_mean_shifts_of_the_same_images(files, encoder):
    found = measure_signatures(encoder.flow, encoder.features, files, ImageReader(batch_size=2), None, SOME)
    # A coarser magnification has fewer pixels, and is left out.
    assert list(zip(found.ladders, found.severities, strict=True)) == list(SOME[:2])
    assert found.images == 6
    images = torch.stack([read_image(path) for path in files])
    for row, (ladder, severity) in enumerate(SOME[:2]):
        shifts = (encoder(degrade(images, ladder, severity)) - encoder(images)).double()
        assert torch.allclose(found.shifts[row], shifts.mean(0), rtol=1e-4, atol=1e-4)
        along = shifts @ (shifts.mean(0) / shifts.mean(0).norm())
        assert float(found.variances[row]) == pytest.approx(float(along.var() / 6), rel=1e-3)


def test_so_many_files_are_taken_and_of_each_the_first_tile(files, encoder):
    reader = ImageReader(tile=32)
    found = measure_signatures(encoder.flow, encoder.features, [*files, *files], reader, None, SOME[:1], 3)
    assert found.images == 3
    tiles = torch.stack([read_image(path)[:, :32, :32] for path in files[::2]])
    shift = (encoder(degrade(tiles, *SOME[0])) - encoder(tiles)).double().mean(0)
    assert torch.allclose(found.shifts[0], shift, rtol=1e-4, atol=1e-4)


def test_of_one_image_the_shift_is_as_uncertain_as_it_is_long(files, encoder):
    """Such as one real file that is cut into tiles: intervals of causes would else be NaN."""
    found = measure_signatures(encoder.flow, encoder.features, files[:1], ImageReader(), None, SOME)
    assert found.variances.sqrt().tolist() == pytest.approx(found.shifts.norm(dim=1).tolist(), rel=1e-5)


def test_every_ladder_is_wanted_in_both_directions():
    assert {ladder for ladder, _ in STEPS} == {ladder for ladder, _ in VISIBLE} == set(LADDERS)
    assert ("eosin", -1.0) in STEPS
    assert len(VISIBLE) == len(LADDERS) + sum(ladder.signed for ladder in LADDERS.values())
