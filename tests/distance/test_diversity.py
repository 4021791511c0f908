import numpy as np
import pytest
import torch
from torch import Generator

from torchmetrics_rl2 import RL2Error
from torchmetrics_rl2.distance import diversity, find_repeats
from torchmetrics_rl2.distance.diversity import _Near, _vectors, has_contrast


def images(count, seed=0):
    return torch.rand(count, 8, 8, generator=Generator().manual_seed(seed))


def turned(thumbnails, draws):
    """Each turned and mirrored by chance, with a little noise."""
    found = [one.rot90(int(draws.integers(4)), (0, 1)) for one in thumbnails]
    found = torch.stack([one.flip(1) if draws.integers(2) else one for one in found])
    return found + 0.03 * torch.from_numpy(draws.standard_normal(found.shape)).float()


def drawn(pool, count, draws):
    return turned(pool[draws.integers(len(pool), size=count)], draws)


def test_ten_images_repeated_are_ten_images_however_they_are_turned():
    draws = np.random.default_rng(0)
    names = [f"gen/{i}.png" for i in range(100)]
    found = find_repeats(turned(images(10).repeat(10, 1, 1), draws), images(100, 1), fake_names=names)
    assert (found.n, found.count, found.share, found.expected) == (100, 100, 1, 0)
    assert (found.distinct, found.distinct_real, found.is_lost, found.p_value) == (10, 100, True, 0.001)
    assert 0.6 < found.interval[0] < found.interval[1] == 1  # ten independent images, of which all are repeated
    first = found.repeats[0]
    assert (first.count, list(first.images[:3])) == (10, ["gen/0.png", "gen/10.png", "gen/20.png"])
    assert str(found) == (
        "Lost diversity: 100 of 100 generated images have a near-duplicate among the generated ones (expected: 0 %, as "
        "among real ones); all 100 look like 10 distinct images"
    )
    assert found.details().splitlines()[2] == "  10 images like gen/0.png, such as gen/10.png"


def test_near_duplicates_are_those_whose_correlation_is_high_in_one_of_eight_ways():
    draws = np.random.default_rng(1)
    sides = [0.75 * drawn(images(25), 40, draws) + 0.25 * images(40, seed) for seed in (1, 2)]
    expected = []
    for side in sides:
        views = [np.rot90(view, k) for one in side.numpy() for view in (one, one.T) for k in range(4)]
        near = np.corrcoef([view.ravel() for view in views])[::8].reshape(40, 40, 8).max(2) > 0.9
        expected.append((near & ~np.eye(40, dtype=bool)).any(1).mean())
    found = find_repeats(*sides)
    assert 0.1 < expected[0] < 0.9
    assert (found.share, found.expected) == (pytest.approx(expected[0]), pytest.approx(expected[1]))


def test_sides_that_repeat_alike_are_no_loss():
    found = []
    for seed in range(80):
        draws, pool = np.random.default_rng(seed), images(300, seed)
        found.append(find_repeats(*(drawn(pool, 60, draws) for _ in range(2))))
    assert 0.1 < np.mean([one.expected for one in found]) < 0.3
    assert np.mean([one.p_value < 0.05 for one in found]) <= 0.1
    assert np.mean([one.is_lost for one in found]) <= 0.05
    twins = images(30).repeat(2, 1, 1)
    both = find_repeats(twins, images(30, 1).repeat(2, 1, 1))
    assert (both.share, both.expected, both.is_lost, both.p_value) == (1, 1, False, 1)
    assert str(both).startswith("No lost diversity found: 60 of 60 generated images have a near-duplicate")


def test_few_repeats_are_told_and_are_no_loss():
    """Two pairs of 100 are beyond 1 in 20 of chance or not, but no generator is blamed for them."""
    fake = images(100)
    fake[:3] = fake[50:53]
    found = find_repeats(fake, images(100, 1))
    assert (found.count, found.distinct, found.is_lost) == (6, 97, False)
    assert found.interval[0] < 0.02


def test_the_p_value_is_the_share_of_exchanges_that_are_as_extreme():
    """Of twenty ways to call three of six images generated, one has all copies on that side."""
    fake, real = images(1).repeat(3, 1, 1), images(3, 1)
    near, units = _Near(_vectors(torch.cat([fake, real])), np.arange(6)), np.arange(3)
    assert near.permutation_p_value(units, units, np.random.default_rng(0)) == pytest.approx(1 / 20, abs=0.02)
    # Of six ways to call one pair of images of four generated ... there are two pairs a side, and one way to do so.
    pairs = torch.cat([images(1).repeat(4, 1, 1), images(4, 1)])
    grouped = _Near(_vectors(pairs), np.arange(8)).permutation_p_value(
        np.array([0, 0, 1, 1]), np.array([0, 0, 1, 1]), np.random.default_rng(0)
    )
    assert grouped == pytest.approx(1 / 6, abs=0.04)


def test_groups_are_the_units_if_both_sides_have_some():
    fake = images(50).repeat(2, 1, 1)
    groups = [str(i // 50) for i in range(100)]
    images_alone = find_repeats(fake, images(100, 1))
    one_side = find_repeats(fake, images(100, 1), fake_groups=groups)
    grouped = find_repeats(fake, images(100, 1), fake_groups=groups, real_groups=groups)
    assert (images_alone.units, one_side.units, grouped.units) == ("images", "images", "groups")
    assert one_side.p_value == images_alone.p_value == 0.001
    assert grouped.p_value > 0.05
    assert not grouped.is_lost
    assert "if images are independent" in one_side.details()
    assert "if images are independent" not in grouped.details()


def test_as_many_are_compared_of_both_sides(monkeypatch):
    """A hundred of a thousand real images have fewer near-duplicates than the thousand."""
    draws, pool = np.random.default_rng(0), images(400)
    whole, part = drawn(pool, 1000, draws), drawn(pool, 100, draws)
    found = find_repeats(part, whole)
    assert (found.n, found.n_fake, found.n_real) == (100, 100, 1000)
    assert (found.expected < 0.4, find_repeats(whole, whole).expected > 0.8) == (True, True)
    assert not found.is_lost
    monkeypatch.setattr(diversity, "MAX_IMAGES", 50)
    sampled = find_repeats(images(5).repeat(20, 1, 1), whole)
    assert (sampled.n, sampled.n_fake, sampled.distinct, sampled.is_lost) == (50, 100, 5, True)
    assert "50 of 50 sampled generated images" in str(sampled)


def test_the_interval_covers_the_share_of_repeated_images():
    """Copies come in pairs, so that their share varies by twice as much as of single images."""
    n, pool, covered = 100, 600, []
    expected = 1 - (1 - 1 / pool) ** (n - 1)
    for seed in range(100):
        draws = np.random.default_rng(seed)
        found = find_repeats(images(pool, seed)[draws.integers(pool, size=n)], images(n, 1000 + seed))
        covered.append(found.interval[0] <= expected <= found.interval[1])
    assert np.mean(covered) >= 0.93


def test_blocks_and_many_neighbors_change_nothing(monkeypatch):
    """Of 300 copies of one image 16 are kept each, and all are one."""
    draws = np.random.default_rng(0)
    sides = turned(images(1).repeat(300, 1, 1), draws), drawn(images(500, 1), 300, draws)
    expected = find_repeats(*sides)
    assert (expected.distinct, expected.count) == (1, 300)
    monkeypatch.setattr(diversity, "CELLS", 1000)
    assert find_repeats(*sides) == expected
    monkeypatch.setattr(diversity, "NEIGHBORS", 600)
    assert find_repeats(*sides) == expected


def test_what_is_reached_by_small_steps_is_one_image():
    steps = torch.linspace(0, 1, 30)[:, None, None]
    path = (1 - steps) * images(1) + steps * images(1, 1)
    found = find_repeats(torch.cat([path, images(10, 2)]), images(40, 3))
    assert (found.distinct, found.repeats[0].count, len(found.repeats)) == (11, 30, 1)


def test_images_of_almost_one_color_have_no_contrast():
    thumbnails = images(3)
    thumbnails[1] = 0.2 + 0.001 * thumbnails[1]
    assert has_contrast(thumbnails).tolist() == [True, False, True]


@pytest.mark.parametrize(("fake", "real"), [(19, 20), (20, 19)])
def test_too_few_images_are_refused(fake, real):
    with pytest.raises(RL2Error, match=f"with {fake} generated and {real} real images; expected at least 20 on each"):
        find_repeats(images(fake), images(real))
