import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Generator

from torchmetrics_rl2 import Statistics
from torchmetrics_rl2.distance import uncertainty as module
from torchmetrics_rl2.distance.uncertainty import distinct_units, f_exceeds, group_units, image_units, uncertainty
from torchmetrics_rl2.functional import LatentSums, latent_sums


def latents(n, d=5, seed=0, shift=0.0):
    """Correlated, skewed and off-center."""
    generator = Generator().manual_seed(seed)
    mix = torch.randn(d, d, generator=Generator().manual_seed(99), dtype=torch.float64)
    return torch.randn(n, d, generator=generator, dtype=torch.float64).exp() @ mix + 3 + shift


def units_of(z, groups=None):
    return Statistics.of_latents(z, groups).units


def squared_trace_by_brute_force(z):
    """Mean over all quadruples of different rows of ((a - b)'(c - d))^2 / 4, which is unbiased by construction."""
    found = [((z[a] - z[b]) @ (z[c] - z[d])) ** 2 / 4 for a, b, c, d in itertools.permutations(range(len(z)), 4)]
    return float(np.mean(found))


def test_units_of_images_are_what_numpy_finds():
    z = latents(7)
    units, raw = units_of(z), z.numpy()
    np.testing.assert_allclose(units.mean, raw.mean(0))
    np.testing.assert_allclose(units.covariance, np.cov(raw.T), rtol=1e-9)
    assert units.squared_trace == pytest.approx(squared_trace_by_brute_force(raw), rel=1e-8)
    assert units.total_variance == pytest.approx(np.trace(np.cov(raw.T)), rel=1e-9)
    distances = ((raw - raw.mean(0)) ** 2).sum(1)
    assert units.variance_of_total == pytest.approx(distances.var(ddof=1) / 7, rel=1e-8)


def test_groups_of_one_image_are_images():
    z = latents(9)
    images, groups = units_of(z), units_of(z, [str(i) for i in range(9)])
    torch.testing.assert_close(groups.covariance, images.covariance)
    assert groups.squared_trace == pytest.approx(images.squared_trace, rel=1e-8)
    assert groups.total_variance == pytest.approx(images.total_variance, rel=1e-9)
    assert groups.variance_of_total == pytest.approx(images.variance_of_total, rel=1e-8)


def test_groups_of_one_size_are_their_means():
    z = latents(24)
    names = [f"slide {i // 4}" for i in range(24)]
    groups, means = units_of(z, names), units_of(z.view(6, 4, 5).mean(1))
    torch.testing.assert_close(groups.covariance, means.covariance)
    assert groups.squared_trace == pytest.approx(means.squared_trace, rel=1e-8)
    assert groups.total_variance > means.total_variance


def test_groups_of_different_sizes_vary_as_the_jackknife_says():
    z, sizes = latents(20), [1, 2, 3, 6, 8]
    names = [str(i) for i, size in enumerate(sizes) for _ in range(size)]
    without = torch.stack([z[[name != left for name in names]].mean(0) for left in map(str, range(5))])
    off = without - z.mean(0)
    torch.testing.assert_close(units_of(z, names).covariance / 5, 4 / 5 * off.T @ off)


def test_a_group_with_most_of_the_images_does_not_pass_for_a_difference():
    generator, rejected = Generator().manual_seed(0), 0
    names = [f"{i}" for i in range(10) for _ in range(100 if i == 0 else 10)]
    for _ in range(200):
        sides = []
        for _ in range(2):
            means = torch.randn(10, 16, generator=generator)[[int(name) for name in names]]
            sides.append(units_of(means + torch.randn(len(names), 16, generator=generator), names))
        rejected += uncertainty(*sides).p_value < 0.05
    assert rejected <= 16


@pytest.mark.parametrize("groups", [False, True])
def test_a_generator_that_repeats_one_image_has_no_spread(groups):
    names = [str(i) for i in range(7)] if groups else None
    real = units_of(latents(20, d=64))
    for seed in range(20):
        one = 30 * torch.randn(1, 64, generator=Generator().manual_seed(seed))
        found = uncertainty(real, units_of(one.repeat(7, 1), names))
        assert found.variance_ratio == 0
        assert all(map(math.isnan, found.variance_ratio_interval))
        assert found.p_value < 1e-6


def by_hand(real, fake):
    """The formulas of the module, in NumPy and with no shared code."""
    n, m = len(real), len(fake)
    v = np.cov(real.T) / n + np.cov(fake.T) / m
    d = real.mean(0) - fake.mean(0)
    square, noise = d @ d, np.trace(v)
    noise_square = (
        squared_trace_by_brute_force(real) / n**2
        + squared_trace_by_brute_force(fake) / m**2
        + 2 * np.sum(np.cov(real.T) * np.cov(fake.T)) / n / m
    )
    f = noise**2 / noise_square
    nu = noise**2 / ((np.trace(np.cov(real.T)) / n) ** 2 / (n - 1) + (np.trace(np.cov(fake.T)) / m) ** 2 / (m - 1))
    return square, noise, noise_square, d @ v @ d / square, f, nu


@pytest.mark.parametrize("shift", [0.0, 1.0, 50.0])
def test_test_and_interval_are_those_of_the_formulas(shift):
    generator = Generator().manual_seed(0)
    real, fake = (torch.randn(n, 5, generator=generator, dtype=torch.float64) for n in (8, 9))
    fake = 2 * fake + shift
    square, noise, noise_square, along, f, nu = by_hand(real.numpy(), fake.numpy())
    assert noise**2 / 5 < noise_square < noise**2
    found = uncertainty(units_of(real), units_of(fake))
    assert found.p_value == pytest.approx(stats.f.sf(square / noise, f, f * nu), rel=1e-6)
    assert found.debiased * abs(found.debiased) == pytest.approx(square - noise, rel=1e-8)
    t = stats.t.ppf(0.975, nu)
    for end in found.interval:
        shifted = end * abs(end)
        sd = math.sqrt(2 * noise_square + 4 * along * max(shifted, 0))
        assert abs(square - noise - shifted) == pytest.approx(t * sd, rel=1e-6)
    assert found.interval[0] < found.debiased < found.interval[1]
    assert found.standard_error == pytest.approx((found.interval[1] - found.interval[0]) / 2 / t, rel=1e-9)
    assert stats.ncf.sf(stats.f.ppf(0.95, f, f * nu), f, f * nu, found.detectable**2 * f / noise) == pytest.approx(0.8)


@pytest.mark.parametrize("limit", [1e-3, 0.5, 3.0, 300.0])
def test_a_limit_is_the_noncentrality_of_the_test(limit):
    generator = Generator().manual_seed(0)
    real, fake = (torch.randn(n, 5, generator=generator, dtype=torch.float64) for n in (8, 9))
    fake = 2 * fake + limit * torch.eye(5, dtype=torch.float64)[0]
    square, noise, _, _, f, nu = by_hand(real.numpy(), fake.numpy())
    found, without = uncertainty(units_of(real), units_of(fake), limit), uncertainty(units_of(real), units_of(fake))
    least = f * limit**2 / noise
    assert found.p_value == pytest.approx(stats.ncf.sf(square / noise, f, f * nu, least), rel=1e-6)
    assert found.p_value > without.p_value
    critical = stats.ncf.ppf(0.95, f, f * nu, least)
    assert stats.ncf.sf(critical, f, f * nu, found.detectable**2 * f / noise) == pytest.approx(0.8, abs=1e-6)
    assert found.detectable > max(limit, without.detectable * (1 - 1e-6))
    assert (found.interval, found.debiased) == (without.interval, without.debiased)


def test_a_limit_of_nothing_changes_nothing():
    sides = units_of(latents(20)), units_of(latents(25, seed=1, shift=1.0))
    assert uncertainty(*sides, limit=0.0) == uncertainty(*sides)
    almost = uncertainty(*sides, limit=1e-9)
    assert almost.p_value == pytest.approx(uncertainty(*sides).p_value, rel=1e-6)
    assert almost.detectable == pytest.approx(uncertainty(*sides).detectable, rel=1e-6)


@pytest.mark.parametrize("limit", [0.3, 2.0])
def test_at_a_shift_equal_to_the_limit_one_in_twenty_is_rejected(limit, monkeypatch):
    monkeypatch.setattr(module, "_detectable", lambda *_: 0.0)  # slow, and of no use to the level
    generator, p_values = Generator().manual_seed(7), []
    shift = torch.zeros(16, dtype=torch.float64)
    shift[3] = limit
    for _ in range(400):
        real, fake = (torch.randn(n, 16, generator=generator, dtype=torch.float64) for n in (40, 30))
        p_values.append(uncertainty(units_of(real), units_of(fake + shift), limit).p_value)
    # Of 400 draws 5, 20 and 50 % have standard errors of 1.1, 2 and 2.5 %.
    shares = [float(np.mean(np.array(p_values) < level)) for level in (0.05, 0.2, 0.5)]
    assert shares == pytest.approx([0.05, 0.2, 0.5], abs=0.05)
    assert 0.02 <= shares[0] <= 0.08


def test_variance_ratio_has_the_interval_of_its_logarithm():
    real, fake = latents(40, seed=1), latents(30, seed=2) * 0.7
    found = uncertainty(units_of(real), units_of(fake))
    variances = [np.trace(np.cov(side.numpy().T)) for side in (real, fake)]
    assert found.variance_ratio == pytest.approx(variances[1] / variances[0], rel=1e-9)
    low, high = found.variance_ratio_interval
    assert math.sqrt(low * high) == pytest.approx(found.variance_ratio, rel=1e-9)
    parts = [
        ((side - side.mean(0)).square().sum(1).var() / len(side)).item() / variance**2
        for side, variance in zip((real, fake), variances, strict=True)
    ]
    nu = sum(parts) ** 2 / (parts[0] ** 2 / 39 + parts[1] ** 2 / 29)
    assert math.log(high / low) / 2 == pytest.approx(stats.t.ppf(0.975, nu) * math.sqrt(sum(parts)), rel=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [1, 40])
def test_level_and_coverage_hold_with_more_dimensions_than_images(rank, monkeypatch):
    """A quick version of benchmarks/calibration.py; 400 repeats have a standard error of 1.1 %."""
    generator, d = Generator().manual_seed(rank), 64
    scales = torch.ones(d, dtype=torch.float64)
    scales[rank:] = 0.01
    shift = torch.zeros(d, dtype=torch.float64)
    shift[0] = 0.7

    def draw():
        return torch.randn(30, d, generator=generator, dtype=torch.float64) * scales

    solve, rejected, covered, found_with_power = module._detectable, 0, 0, 0
    for _ in range(400):
        monkeypatch.setattr(module, "_detectable", solve)
        null = uncertainty(units_of(draw()), units_of(draw()))
        monkeypatch.setattr(module, "_detectable", lambda *_: 0.0)  # slow, and of no use to the others
        shifted = uncertainty(units_of(draw()), units_of(draw() + shift))
        rejected += null.p_value < 0.05
        covered += shifted.interval[0] <= 0.7 <= shifted.interval[1]
        direction = torch.randn(d, generator=generator, dtype=torch.float64) * scales
        moved = draw() + null.detectable * direction / direction.norm()
        found_with_power += uncertainty(units_of(draw()), units_of(moved)).p_value < 0.05
    assert 0.02 < rejected / 400 < 0.08
    assert 0.92 < covered / 400 < 0.98
    assert 0.74 < found_with_power / 400 < 0.86


def test_images_that_are_all_the_same_are_certain():
    same, other = torch.ones(5, 3), torch.full((5, 3), 2.0)
    assert uncertainty(units_of(same), units_of(same)).p_value == 1
    found = uncertainty(units_of(same), units_of(other))
    assert (found.p_value, found.detectable, found.standard_error) == (0, 0, 0)
    assert found.interval == (math.sqrt(3), math.sqrt(3))
    assert math.isnan(found.variance_ratio)
    for limit, p_value in ((1.7, 0), (1.8, 1)):  # around their distance
        within = uncertainty(units_of(same), units_of(other), limit)
        assert (within.p_value, within.detectable) == (p_value, limit)


def test_a_spread_beyond_what_rounding_allows_has_no_interval():
    nearly_one = 30 + 1e-9 * latents(7)
    found = uncertainty(units_of(latents(20)), units_of(nearly_one))
    assert all(map(math.isnan, found.variance_ratio_interval))


def test_the_effective_dimension_stays_between_one_and_all():
    """The unbiased estimate of the squared trace may leave what is possible, even below 0."""
    for seed in range(200):
        found = uncertainty(*(units_of(latents(4, d=3, seed=2 * seed + i)) for i in range(2)))
        assert 0 <= found.p_value <= 1
        assert found.interval[0] <= found.debiased <= found.interval[1]
        assert math.isfinite(found.detectable)


def test_latents_far_from_the_origin_lose_no_digits():
    z = latents(50)
    near, far = image_units(latent_sums(z, True)), image_units(latent_sums(z + 1e3, True))
    torch.testing.assert_close(far.covariance, near.covariance, rtol=1e-6, atol=1e-6)
    assert far.variance_of_total == pytest.approx(near.variance_of_total, rel=1e-3)


def test_sums_of_groups_are_enough():
    z = latents(12)
    parts = [latent_sums(part) for part in z.split(3)]
    stacked = LatentSums(
        torch.stack([part.sum for part in parts]),
        torch.stack([part.square_sum for part in parts]),
        torch.stack([part.count for part in parts]),
    )
    torch.testing.assert_close(group_units(stacked).mean, z.mean(0))


def test_distinct_images_are_groups_of_their_copies():
    """The oracle has a row for every image; this one only for those that there are several of."""
    z, copies = latents(30), torch.tensor([1] * 22 + [2, 2, 3, 7, 1, 4, 2, 1])
    copied = z.repeat_interleave(copies, 0)
    expected = group_units(LatentSums(z * copies[:, None], z.square().sum(1) * copies, copies))
    several = copies > 1
    repeated = LatentSums((z * copies[:, None])[several], (z.square().sum(1) * copies)[several], copies[several])
    found = distinct_units(latent_sums(copied, second_moment=True), repeated)
    assert found.count == expected.count == 30
    for name in ("mean", "covariance"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=1e-9, atol=1e-9)
    for name in ("squared_trace", "total_variance", "variance_of_total", "mean_variance"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-8), name


def test_f_is_that_of_its_distribution_however_large_the_limit():
    rng = np.random.default_rng(0)
    freedom, nu, least = np.exp(rng.uniform([[0], [1], [-2]], [[6], [9], [18]], (3, 200)))
    ratio = (1 + least / freedom) * np.exp(0.1 * rng.normal(size=200))
    found = f_exceeds(ratio, freedom, nu, least)
    assert found == pytest.approx(stats.ncf.sf(ratio, freedom, freedom * nu, least), abs=1e-9)
    assert 0.1 < found.mean() < 0.9
    central = f_exceeds(ratio, freedom, nu, np.zeros(200))
    assert central == pytest.approx(stats.f.sf(ratio, freedom, freedom * nu), rel=1e-9)


def test_far_below_its_mean_f_is_exceeded_for_sure_and_never_nan():
    least = np.linspace(2000.0, 9000.0, 5000)  # scipy's noncentral F is NaN at some of these
    for freedom, nu in ((2.0, 15.0), (30.0, 4000.0)):
        for share in (0.02, 0.1, 0.3):
            found = f_exceeds(share * (1 + least / freedom), np.full(5000, freedom), np.full(5000, nu), least)
            assert found.min() > 0.99
    assert math.isnan(f_exceeds(math.nan, 2.0, 15.0, 3000.0))


def test_a_limit_that_many_images_make_narrow_has_a_detectable_shift():
    for least in (4190.0, 4390.754672473499, 4560.0):
        assert least < module._detectable(30.0, 4000.0, least) < 1.2 * least


def test_sides_closer_than_independent_ones_can_be_have_an_interval_around_their_distance():
    generator = Generator().manual_seed(0)
    for _ in range(100):
        # Few units that differ, as classes do, and a side that has each of them in the same shares.
        real = torch.randn(5, 25, generator=generator, dtype=torch.float64)
        fake = real.mean(0) + 0.1 * torch.randn(60, 25, generator=generator, dtype=torch.float64)
        found = uncertainty(units_of(real), units_of(fake + 0.1 * (real[0] - real.mean(0))))
        low, high = found.interval
        assert low < found.debiased < high
        assert found.standard_error > 0
