import numpy as np
import pytest
import torch
from scipy import stats
from torch import Generator

from torchmetrics_rl2 import Statistics
from torchmetrics_rl2.distance.differences import chances_to_be_closest, difference


def latents(n, d=40, seed=0, shift=0.0, scale=1.0):
    generator = Generator().manual_seed(seed)
    z = scale * torch.randn(n, d, generator=generator, dtype=torch.float64)
    z[:, 0] += shift
    return z


def units_of(z, groups=None):
    return Statistics.of_latents(z, groups).units


def squared_trace(z):
    """Trace of the squared covariance without bias, by the sum over pairs of pairs of rows (Chen and Qin 2010)."""
    n = len(z)
    inner = z @ z.T
    off = inner - np.diag(np.diag(inner))
    two = (off**2).sum() / (n * (n - 1))
    rows = off.sum(1)
    three = ((rows**2).sum() - (off**2).sum()) / (n * (n - 1) * (n - 2))
    total = off.sum()
    four = (total**2 - 4 * (rows**2).sum() + 2 * (off**2).sum()) / (n * (n - 1) * (n - 2) * (n - 3))
    return two - 2 * three + four


def by_hand(real, one, other):
    """The formulas of the module, in NumPy and with no shared code."""
    sides = [side.numpy() for side in (real, one, other)]
    v = [np.cov(side.T) / len(side) for side in sides]
    m = [side.mean(0) for side in sides]
    t = [((m[0] - m[i]) ** 2).sum() - np.trace(v[0]) - np.trace(v[i]) for i in (1, 2)]
    squares = [squared_trace(side) / len(side) ** 2 for side in sides]
    at_zero = 2 * squares[1] + 2 * squares[2] + 4 * np.trace(v[0] @ (v[1] + v[2]))
    parts = [(m[1] - m[2]) @ v[0] @ (m[1] - m[2]), *((m[0] - m[i]) @ v[i] @ (m[0] - m[i]) for i in (1, 2))]
    freedom = sum(parts) ** 2 / sum(p**2 / (len(side) - 1) for p, side in zip(parts, sides, strict=True))
    return t[0] - t[1], max(4 * sum(parts) - at_zero, at_zero) ** 0.5, freedom


@pytest.mark.parametrize("shift", [0.0, 0.5, 5.0])
def test_difference_and_interval_are_those_of_the_formulas(shift):
    real, one, other = latents(20), latents(25, seed=1, shift=shift, scale=2.0), latents(30, seed=2)
    value, error, freedom = by_hand(real, one, other)
    found = difference(units_of(real), units_of(one), units_of(other))
    assert found.value == pytest.approx(value, rel=1e-9)
    assert found.standard_error == pytest.approx(error, rel=1e-8)
    half = stats.t.isf(0.025, freedom) * error
    assert found.interval == pytest.approx((value - half, value + half), rel=1e-8)
    assert found.p_value == pytest.approx(2 * stats.t.sf(abs(value) / error, freedom), rel=1e-6)
    wider = difference(units_of(real), units_of(one), units_of(other), level=0.001)
    assert wider.interval[1] - value == pytest.approx(stats.t.isf(0.0005, freedom) * error, rel=1e-8)


def test_the_other_way_round_only_the_sign_changes():
    units = [units_of(latents(20, seed=seed, shift=seed)) for seed in range(3)]
    found, back = difference(*units), difference(units[0], units[2], units[1])
    assert back.value == -found.value
    assert back.interval == pytest.approx((-found.interval[1], -found.interval[0]))
    assert back.p_value == pytest.approx(found.p_value)


def test_several_pairs_widen_the_interval_and_multiply_the_p_value():
    units = [units_of(latents(30, seed=seed, shift=0.3 * seed)) for seed in range(3)]
    one, six = difference(*units), difference(*units, tests=6)
    assert six.p_value == pytest.approx(min(1.0, 6 * one.p_value))
    assert six.interval[0] < one.interval[0]
    assert six.interval[1] > one.interval[1]


def test_intervals_cover_the_truth_and_tests_keep_their_level():
    """Two generators far from the real images in different directions, as far or not."""
    generator, covered, rejected = Generator().manual_seed(0), 0, 0
    scales = torch.linspace(0.2, 2.0, 40, dtype=torch.float64)
    for _ in range(400):
        real, one, other, same = (
            scales * torch.randn(25, 40, generator=generator, dtype=torch.float64) for _ in "1234"
        )
        one[:, 0] += 2
        other[:, 39] += 1
        same[:, 1] -= 2
        units = [units_of(side) for side in (real, one, other, same)]
        low, high = difference(units[0], units[1], units[2]).interval
        covered += low <= 3 <= high
        rejected += difference(units[0], units[1], units[3]).p_value < 0.05
    assert 0.93 <= covered / 400 <= 0.975
    assert 0.025 <= rejected / 400 <= 0.07


def test_the_noise_of_shared_real_images_cancels():
    """Six real images say little of where two generators lie, and much of which is closer: they lie the same way."""
    real, one, other = latents(6), latents(400, seed=1, shift=8, scale=0.2), latents(400, seed=2, shift=9, scale=0.2)
    units = [units_of(side) for side in (real, one, other)]
    separate = sum(2 * 8.5 * np.sqrt(float(units[0].covariance[0, 0]) / 6) for _ in range(2))
    assert difference(*units).standard_error < separate / 2
    assert difference(*units).p_value < 0.01


def test_groups_are_units():
    means = latents(12, seed=5)
    z, names = means.repeat_interleave(10, 0), [str(i) for i in range(12) for _ in range(10)]
    real, other = latents(50), latents(50, seed=2, shift=1)
    grouped = difference(units_of(real), units_of(z, names), units_of(other))
    by_mean = difference(units_of(real), units_of(means), units_of(other))
    assert grouped.interval == pytest.approx(by_mean.interval, rel=1e-8)


def test_generators_that_repeat_one_image_have_no_noise_of_their_own():
    one = units_of(torch.ones(6, 40, dtype=torch.float64))
    found = difference(units_of(latents(30)), one, one)
    assert (found.value, found.standard_error, found.p_value) == (0.0, 0.0, 1.0)


def test_chances_add_up_and_follow_the_distance():
    real = units_of(latents(60))
    sets = [units_of(latents(60, seed=seed + 1, shift=shift)) for seed, shift in enumerate((0.1, 0.15, 3.0))]
    chances = chances_to_be_closest(real, sets)
    assert sum(chances) == pytest.approx(1)
    assert chances[2] < 0.001
    assert min(chances[:2]) > 0.05
    assert chances_to_be_closest(real, sets) == chances


def test_chance_of_two_is_that_of_their_difference():
    """With two sets the joint draws must agree with the interval of the pair."""
    real, one, other = (
        units_of(latents(300, seed=seed, shift=shift)) for seed, shift in ((0, 0), (1, 2.0), (2, -2.05))
    )
    found = difference(real, one, other)
    expected = stats.norm.sf(found.value / found.standard_error)
    assert chances_to_be_closest(real, [one, other])[0] == pytest.approx(expected, abs=0.01)
