from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Generator

from torchmetrics_rl2 import RL2Error
from torchmetrics_rl2.distance import find_copies
from torchmetrics_rl2.distance.copies import _p_values, _permutation_p_value, excess


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=Generator().manual_seed(seed))


@pytest.fixture
def sides():
    """Generated, training and held-out images of one distribution."""
    return list(normal(3, 100, 16))


def test_copies_are_found_and_named_with_their_training_image(sides):
    fake, train, held_out = sides
    fake[:12] = train[40:52] + 0.02 * fake[:12]
    names = {"fake_names": [f"gen/{i}" for i in range(100)], "train_names": [f"train/{i}" for i in range(100)]}
    found = find_copies(fake, train, held_out, **names)
    assert found.count == 12
    assert {(pair.image, pair.nearest) for pair in found.pairs} == {(f"gen/{i}", f"train/{i + 40}") for i in range(12)}
    assert all(pair.is_copy and pair.relative_distance < 0.1 for pair in found.pairs)
    assert found.share == 0.12
    assert 0.03 < found.interval[0] < 0.12 < found.interval[1] < 0.22
    assert str(found).startswith("Copies: 12 of 100 generated images are closer to a training image than held-out ones")
    assert found.details().splitlines()[2].endswith(", a copy")


def test_one_copy_among_a_hundred_is_found_by_a_hundred_held_out_images(sides):
    """A rank among a hundred is at least 1/101, which a false discovery rate of 5 % never calls one of a hundred."""
    fake, train, held_out = sides
    fake[7] = train[3] + 0.01 * fake[7]
    found = find_copies(fake, train, held_out)
    assert (found.count, found.pairs[0].image, found.pairs[0].nearest) == (1, "7", "3")
    assert "Copies: 1 of 100 generated images is closer" in str(found)


def test_others_of_the_same_distribution_are_no_copies_at_the_level():
    found = []
    for seed in range(60):
        fake, train, held_out = normal(130, 8, seed=seed).split([50, 40, 40])
        found.append(find_copies(fake, train, held_out))
    assert np.mean([one.count > 0 for one in found]) <= 0.12
    assert np.mean([one.p_value < 0.05 for one in found]) <= 0.12
    assert "No copies found" in str(found[0])


def test_a_shift_of_all_images_makes_no_copies_and_hides_none(sides):
    fake, train, held_out = sides
    moved = fake + 3
    assert find_copies(moved, train, held_out).count == 0
    moved = train[:100] + 0.05 * fake + 3
    assert find_copies(moved, train, held_out).count > 90


def test_a_set_that_is_closer_as_a_whole_is_told_without_a_single_copy(sides):
    fake, train, held_out = sides
    found = find_copies(0.45 * train + 0.55 * fake, train, held_out)
    assert found.p_value < 0.01
    found = replace(found, count=0)
    assert str(found).startswith("No single copy found, but as a whole generated images are closer to training images")


def test_other_views_find_what_one_hides(sides):
    fake, train, held_out = sides
    hidden = train + 2 * fake
    alone = find_copies(hidden, train, held_out)
    views = [[hidden, train + 0.05 * fake], [train, train], [held_out, held_out]]
    found, turned = find_copies(*views), find_copies(*(view[::-1] for view in views))
    assert alone.count == 0
    assert found.count > 90
    assert turned == found


def test_the_next_nearest_are_of_other_groups_than_the_nearest(sides):
    """Thirty files of each training image: the next nearest of a copy are copies too."""
    fake, train, held_out = sides
    fake[:20] = train[:20] + 0.05 * fake[:20]
    several = train.repeat_interleave(30, 0) + 0.05 * normal(3000, 16, seed=1)
    groups = [str(i // 30) for i in range(3000)]
    alone, grouped = (find_copies(fake, several, held_out, train_groups=of) for of in (None, groups))
    assert grouped.count == 20
    assert grouped.pairs[0].relative_distance < 0.2
    assert alone.pairs[0].relative_distance > 0.5
    # Of a single group there are no others, and it counts as none.
    one = find_copies(fake, several, held_out, train_groups=["slide"] * 3000)
    assert one == alone


def test_tissue_that_is_alike_in_itself_makes_no_copies():
    """Half of the real images are of a kind in which the nearest image is much nearer than the next ones."""

    def real(count, seed):
        z = normal(count, 24, seed=seed)
        z[: count // 2, 3:] *= 0.02
        z[: count // 2, 0] += 6
        z[count // 2 :, 1] += 6
        return z

    found = [find_copies(real(100, seed)[:50], real(200, seed + 50), real(100, seed + 100)) for seed in range(12)]
    assert sum(one.count for one in found) <= 3
    assert np.mean([one.p_value < 0.05 for one in found]) <= 0.7  # 1 without regard to the place


def test_groups_are_the_units_of_test_and_interval(sides):
    fake, train, held_out = sides
    fake[:50] = train[:50] + 0.05 * fake[:50]
    groups = [str(i // 25) for i in range(100)]
    images = find_copies(fake, train, held_out)
    one_side = find_copies(fake, train, held_out, fake_groups=groups)
    grouped = find_copies(fake, train, held_out, fake_groups=groups, held_out_groups=groups)
    assert (images.units, one_side.units, grouped.units) == ("images", "images", "groups")
    assert one_side.p_value == images.p_value < 0.001
    assert grouped.p_value > 0.05  # of four groups against four, two are copies
    assert grouped.interval[0] < images.interval[0]
    assert grouped.interval[1] > images.interval[1]
    assert grouped.count == images.count


def test_images_in_groups_of_one_are_images():
    values, units = np.random.default_rng(0).random((2, 30)), np.arange(30)
    whole = _permutation_p_value(*values, units, units)
    assert whole == pytest.approx(_permutation_p_value(*values, units[::-1], units), abs=0.02)
    assert _permutation_p_value(values[0] - 1, values[1], units, units) == 1e-4


def test_p_values_are_ranks_above_the_closest_held_out_image_and_fall_below_it():
    held_out = np.linspace(0.5, 1.5, 99)
    found = _p_values(np.array([2.0, 1.0, 0.5, 0.49, 0.3, 0.1, 0.0]), held_out)
    assert found[:3] == pytest.approx([1, 0.51, 0.02])
    assert (np.diff(found) < 0).all()
    assert found[3] <= 0.01
    assert found[5] < 1e-5
    # Held-out images that are copies themselves leave nothing to call one.
    assert _p_values(np.array([0.0]), np.append(held_out, [0.0, 0.0]))[0] == pytest.approx(3 / 102)


def test_the_interval_is_that_of_a_difference_of_shares():
    hits = np.arange(100) < 20, np.arange(100) < 5
    units = np.arange(100), np.arange(100)
    share, (low, high) = excess(hits, units)
    assert share == pytest.approx(0.15)
    assert (low, high) == pytest.approx((0.0576, 0.2436), abs=2e-3)  # Newcombe's method 10
    none = np.zeros(100, dtype=bool)
    assert excess((none, none), units) == (0, (0, pytest.approx(0.037, abs=1e-3)))


@pytest.mark.parametrize(("n_train", "n_held_out"), [(19, 20), (20, 19)])
def test_too_few_images_are_refused(n_train, n_held_out):
    with pytest.raises(RL2Error, match=f"with 5 generated, {n_train} training and {n_held_out} held-out images; exp"):
        find_copies(normal(5, 4), normal(n_train, 4), normal(n_held_out, 4))
