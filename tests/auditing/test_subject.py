import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms.v2.functional import to_pil_image

from tests.conftest import random_images
from torchmetrics_rl2 import RL2Error
from torchmetrics_rl2.auditing.meter import Meter
from torchmetrics_rl2.auditing.subject import Subject, second_half
from torchmetrics_rl2.images import ImageReader
from torchmetrics_rl2.pixels import handcrafted_statistics


@given(st.lists(st.sampled_from("abcdefgh"), min_size=2, max_size=40), st.integers(0, 5))
def test_halves_share_no_unit_and_are_balanced(units, seed):
    second = second_half(units, seed).tolist()
    sides = {unit: {half for name, half in zip(units, second, strict=True) if name == unit} for unit in units}
    assert all(len(side) == 1 for side in sides.values())
    largest = max(map(units.count, units))
    assert abs(sum(second) - (len(units) - sum(second))) <= largest
    assert second == second_half(units, seed).tolist()


def test_images_are_drawn_by_the_seed_and_grouped(patches):
    subject = Subject.read(patches, "parent", ImageReader(), 15, 0)
    assert subject.images.shape == (15, 3, 64, 64)
    assert len(set(subject.units)) == 3
    assert subject.groups == subject.units
    again, other = (Subject.read(patches, "parent", ImageReader(), 15, seed) for seed in (0, 1))
    assert torch.equal(subject.images, again.images)
    assert not torch.equal(subject.images, other.images)
    assert Subject.read(patches, None, ImageReader(), 15, 0).groups is None


def test_tiles_of_a_file_are_one_unit_and_large_files_give_fields(tmp_path):
    for i, image in enumerate(random_images(9, px=128)):
        to_pil_image(image).save(tmp_path / f"{i}.png")
    subject = Subject.read(tmp_path, None, ImageReader(tile=64), 30, 0)
    assert len(subject.images) == 30
    assert len(set(subject.units)) <= 9
    assert subject.groups == subject.units
    assert subject.fields is not None
    assert subject.fields.images.shape[-1] == 128
    half = dict(zip(subject.units, subject.second.tolist(), strict=True))
    assert all(half[unit] == bool(side) for unit, side in zip(subject.fields.units, subject.fields.second, strict=True))
    assert subject.fields.middle(90).shape[-2:] == (90, 90)
    assert Subject.read(tmp_path, None, ImageReader(tile=128), 30, 0).fields is None


def test_too_few_images_or_units_and_mixed_sizes_get_a_sentence(patches, tmp_path):
    with pytest.raises(RL2Error, match="at least 8 images of at least two units, but .* has 8 of 1"):
        Subject.read(patches / "a", "parent", ImageReader(), 20, 0)
    (tmp_path / "same").mkdir()
    for i in range(9):
        to_pil_image(random_images(1)[0]).save(tmp_path / "same" / f"{i}.png")
    with pytest.warns(UserWarning, match="8 of 9 images"), pytest.raises(RL2Error, match="are all the same"):
        Subject.read(tmp_path / "same", None, ImageReader(), 20, 0)
    (tmp_path / "nine.txt").write_text(
        "\n".join(map(str, [*(patches / "a").glob("*"), next((patches / "b").glob("*"))]))
    )
    with pytest.raises(RL2Error, match="leave 1 images in one of them; expected at least 4"):
        Subject.read(tmp_path / "nine.txt", "parent", ImageReader(), 20, 0)
    tmp_path = tmp_path / "sizes"
    tmp_path.mkdir()
    for i, image in enumerate(random_images(8)):
        to_pil_image(image[:, : 40 + i // 4]).save(tmp_path / f"{i}.png")
    with pytest.raises(RL2Error, match="images of one size, but got 64 x 40 and 64 x 41 px. Cut tiles, with --tile"):
        Subject.read(tmp_path, None, ImageReader(), 20, 0)


def test_what_is_measured_is_what_the_encoder_says(encoder):
    images = random_images(5)
    told = []
    meter = Meter(encoder, lambda *report: told.append(report), 2)
    measured = meter.measure(images)
    meter.reach(1)
    latents, log_det = encoder.encode(images)
    assert torch.equal(measured.latents, latents)
    assert torch.equal(measured.likelihood, encoder.flow.log_likelihood(latents, log_det))
    assert torch.equal(measured.features, encoder.features(images))
    assert torch.allclose(measured.handcrafted, handcrafted_statistics(images.float() / 255))
    assert told == [("audit", 0, 2, 5), ("audit", 1, 2, 0)]


def test_copies_are_of_one_unit_and_in_one_half(tmp_path):
    for i, image in enumerate(random_images(8, seed=1).repeat(2, 1, 1, 1)):
        to_pil_image(image).save(tmp_path / f"{i:02}.png")
    with pytest.warns(UserWarning, match="8 of 16 images repeat others pixel for pixel"):
        subject = Subject.read(tmp_path, None, ImageReader(), 120, 0)
    assert len(set(subject.units)) == 8
    assert all(bool(subject.second[i] == subject.second[i + 8]) for i in range(8))


def test_a_copied_file_that_is_cut_has_its_fields_in_the_half_of_the_first(tmp_path):
    images = random_images(20, px=128, seed=1)
    images[1] = images[0]
    for i, image in enumerate(images):
        to_pil_image(image).save(tmp_path / f"{i:02}.png")
    with pytest.warns(UserWarning, match="4 of 80 images repeat others"):
        subject = Subject.read(tmp_path, None, ImageReader(tile=64), 120, 0)
    assert len(set(subject.units)) == len(set(subject.fields.units)) == 19


def test_kinds_go_with_their_images(patches, tmp_path):
    subject = Subject.read(patches, None, ImageReader(tile=32), 30, 0, "parent")
    bright = subject.images.float().mean((1, 2, 3)) > 160
    assert [kind == "bright" for kind in subject.kinds] == bright.tolist()
    assert Subject.read(patches, None, ImageReader(), 15, 0).kinds is None
    table = tmp_path / "kinds.csv"
    table.write_text("path,kind\na/00.png,x\n")
    with pytest.raises(RL2Error, match="has no kind for 23 of 24 images"):
        Subject.read(patches, None, ImageReader(), 15, 0, table)
