import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from sklearn.covariance import ledoit_wolf

from torchmetrics_rl2.networks import Gaussian
from torchmetrics_rl2.quality.good_density import GoodDensity, GoodScores, Standard


def patches(counts, apart=6.0, d=6, seed=0):
    """Numbers of kinds that are apart, and their kinds, shuffled."""
    generator = torch.Generator().manual_seed(seed)
    kinds = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    kinds = kinds[torch.randperm(len(kinds), generator=generator)]
    centers = torch.randn(len(counts), d, generator=generator) * apart
    return centers[kinds] + torch.randn(len(kinds), d, generator=generator) * torch.arange(1, d + 1), kinds


def mixture(fitted, kinds, judged):
    """The density by NumPy, SciPy and scikit-learn, up to a constant."""
    names, counts = np.unique(kinds, return_counts=True)
    rows = np.searchsorted(names, kinds)
    scaled = (fitted - fitted.mean(0)) / fitted.std(0)
    means, centers = (np.stack([x[kinds == k].mean(0) for k in names]) for x in (fitted, scaled))
    share = np.ones((1, 1))
    if (k := len(names)) > 1:
        n = counts.sum()
        within = np.square(scaled - centers[rows]).sum() / (n - k)
        between = (counts @ np.square(centers)).sum() / (k - 1) - within
        between = max(between, 1e-12) * (k - 1) / (n - np.square(counts).sum() / n)
        share = (counts / (counts + within / between))[:, None]
    means = share * means + (1 - share) * fitted.mean(0)
    residuals = fitted - means[rows]
    center, sd = residuals.mean(0), residuals.std(0, ddof=1)
    precision = np.linalg.inv(ledoit_wolf((residuals - center) / sd)[0])
    z = (judged[:, None] - means - center) / sd
    return logsumexp(-0.5 * np.einsum("nki,ij,nkj->nk", z, precision, z) + np.log(counts / counts.sum()), axis=1)


@pytest.mark.parametrize("counts", [(40, 30, 20), (80, 3), (50,)])
def test_the_density_is_a_mixture_of_kinds_with_one_shrunk_covariance(counts):
    numbers, kinds = patches(counts)
    judged = torch.cat([numbers, patches((9,), seed=1)[0]])
    found = GoodDensity(numbers, kinds).log_prob(judged).double().numpy()
    expected = mixture(numbers.double().numpy(), kinds.numpy(), judged.double().numpy())
    np.testing.assert_allclose(np.ptp(found - expected), 0, atol=2e-3)


def test_of_one_kind_the_density_is_the_gaussian_of_before_to_the_last_digit():
    numbers, judged = patches((50,))[0], patches((9,), seed=1)[0]
    for kinds in (torch.zeros(50, dtype=torch.int64), torch.full((50,), 4)):
        assert torch.equal(GoodDensity(numbers, kinds).log_prob(judged), Gaussian(numbers).log_prob(judged))


def test_only_which_patches_are_of_one_kind_matters():
    numbers, kinds = patches((40, 30, 20))
    expected = GoodDensity(numbers, kinds).log_prob(numbers)
    torch.testing.assert_close(GoodDensity(numbers, torch.tensor([7, 2, 5])[kinds]).log_prob(numbers), expected)


@pytest.mark.parametrize(("apart", "kept"), [(0.0, (0, 0.3)), (0.7, (0.3, 0.9)), (10.0, (0.99, 1))])
def test_means_are_drawn_to_that_of_all_as_far_as_kinds_differ_by_chance(apart, kept):
    numbers = torch.randn(63, 200, generator=torch.Generator().manual_seed(0))
    kinds = torch.tensor([0] * 60 + [1] * 3)
    numbers[60:] += apart
    offset = GoodDensity(numbers, kinds)._offsets[1]
    own = numbers[60:].mean(0) - numbers.mean(0)
    share = offset / own
    torch.testing.assert_close(share, share[:1].expand(200))
    assert kept[0] <= float(share[0]) <= kept[1]


def test_patches_that_are_alone_in_their_kind_are_one_kind_together():
    numbers, kinds = patches((40, 1, 1, 1))
    together = GoodDensity(numbers, kinds.clamp(max=1))
    assert torch.equal(GoodDensity(numbers, kinds).log_prob(numbers), together.log_prob(numbers))
    of_one = GoodDensity(numbers, torch.zeros_like(kinds))
    assert torch.equal(GoodDensity(numbers, torch.arange(43)).log_prob(numbers), of_one.log_prob(numbers))


def test_scores_are_standardized_within_kinds():
    generator = torch.Generator().manual_seed(0)
    kinds = torch.arange(300) % 3
    parts = torch.randn(300, 2, generator=generator).double() * (1 + kinds[:, None]) - 100 * kinds[:, None]
    standard = Standard(parts, kinds)
    median, spread = lower_median(parts)
    for k in range(3):
        own = [10 / 11 * a + 1 / 11 * b for a, b in zip(lower_median(parts[kinds == k]), (median, spread), strict=True)]
        torch.testing.assert_close(standard(parts, kinds)[kinds == k], (parts[kinds == k] - own[0]) / own[1])
    torch.testing.assert_close(standard(parts, torch.full((300,), 9)), (parts - median) / spread)


def lower_median(parts):
    """Lower medians and median absolute deviations."""
    middle = (len(parts) - 1) // 2
    median = parts.sort(0).values[middle]
    return median, (parts - median).abs().sort(0).values[middle]


def scores(latents, statistics, kinds, two_sided=False):
    n = len(kinds)
    return GoodScores(latents, torch.zeros(n), statistics, kinds, list(range(n)), two_sided)


def test_a_rare_kind_far_from_the_others_is_not_the_first_to_go():
    first = {"with kinds": 0, "without kinds": 0}
    for seed in range(10):
        numbers, kinds = patches((54, 6), apart=0.0, d=37, seed=seed)
        numbers = numbers / torch.arange(1, 38)
        numbers[kinds == 1] += 8.0
        for name, given in (("with kinds", kinds), ("without kinds", torch.zeros_like(kinds))):
            found = scores(numbers[:, :12], numbers[:, 12:], given).of_good
            first[name] += int((kinds[found.argsort()[:6]] == 1).sum())
    assert first["with kinds"] < 25  # of 60
    assert first["without kinds"] > 45


def test_a_kind_that_varies_more_is_not_rejected_more():
    generator = torch.Generator().manual_seed(0)
    kinds = torch.arange(400) % 2
    numbers = torch.randn(400, 37, generator=generator) * (1 + 0.5 * kinds[:, None])
    worst = scores(numbers[:, :12], numbers[:, 12:], kinds).of_good.argsort()[:40]
    assert 12 < int((kinds[worst] == 1).sum()) < 28
    alike = scores(numbers[:, :12], numbers[:, 12:], torch.zeros_like(kinds)).of_good.argsort()[:40]
    assert (kinds[alike] == 1).all()


def test_other_patches_of_a_kind_score_as_its_good_ones_do():
    numbers, kinds = patches((120, 60, 20), d=37)
    further, theirs = patches((600, 300, 100), d=37)
    centers = torch.stack([numbers[kinds == k].mean(0) - further[theirs == k].mean(0) for k in range(3)])
    further = further + centers[theirs]
    good = scores(numbers[:, :12], numbers[:, 12:], kinds)
    found = good(further[:, :12], torch.zeros(len(further)), further[:, 12:], theirs)
    limit = good.of_good.sort().values[19]
    for k in range(3):
        assert 0.03 < float((found[theirs == k] <= limit).double().mean()) < 0.18
