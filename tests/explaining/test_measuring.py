import pytest
import torch
from torchvision.transforms.v2.functional import to_pil_image

from tests.conftest import random_images
from torchmetrics_rl2.explaining.measuring import DENSE, ORDER, PAIRS, STEPS, VISIBLE, measure_signatures
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


def test_of_two_kinds_the_second_comes_after_the_first(files, encoder):
    """On a quarter of the images, here one; what each shifts of the same ones is taken off."""
    pairs = [(SOME[1], SOME[0]), (SOME[1], ("jpeg", 0.5))]
    wanted = (*SOME, ("jpeg", 0.5))
    found = measure_signatures(
        encoder.flow, encoder.features, [*files, *files], ImageReader(batch_size=4), None, wanted, 8, pairs
    )
    # Without coarser magnification, the third is JPEG.
    assert found.pairs == ((1, 0), (1, 2))
    images = torch.stack([read_image(files[0])])

    def encoded(*steps):
        damaged = images
        for step in steps:
            damaged = degrade(damaged, *step)
        return encoder(damaged).double()

    for row, (first, second) in enumerate(pairs):
        by_hand = encoded(first, second) - encoded(first) - encoded(second) + encoded()
        assert torch.allclose(found.interactions[row], by_hand[0], rtol=1e-4, atol=1e-4)


def test_severities_lie_twice_as_dense_as_those_of_an_audit():
    assert set(STEPS) < set(DENSE)
    assert len(DENSE) == 2 * len(STEPS)
    blur = [severity for ladder, severity in DENSE if ladder == "gaussian blur"]
    assert [LADDERS["gaussian blur"].amount(s) for s in blur] == pytest.approx(
        [0.25, 0.5, 0.5**0.5, 1, 2**0.5, 2, 8**0.5, 4]
    )


def test_pairs_are_of_two_families_in_the_order_in_which_damage_comes_about():
    swapped = {("noise", "focus"), ("impulse", "focus")}
    for (first, a), (second, b) in PAIRS:
        families = LADDERS[first].family, LADDERS[second].family
        assert families in swapped or ORDER.index(families[0]) < ORDER.index(families[1])
        assert {(first, a), (second, b)} <= set(VISIBLE)
    assert set(ORDER) == {ladder.family for ladder in LADDERS.values()}
    assert len(set(PAIRS)) == len(PAIRS) < 200


def test_every_ladder_is_wanted_in_both_directions():
    assert {ladder for ladder, _ in STEPS} == {ladder for ladder, _ in VISIBLE} == set(LADDERS)
    assert ("eosin", -1.0) in STEPS
    assert len(VISIBLE) == len(LADDERS) + sum(ladder.signed for ladder in LADDERS.values())
