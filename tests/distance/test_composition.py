from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Generator

from torchmetrics_rl2 import Statistics, compare
from torchmetrics_rl2.auditing.draws import Population
from torchmetrics_rl2.distance.composition import (
    combined,
    composition_p_values,
    content_p_values,
    degrees_of_freedom,
    t_square_exceeds,
)
from torchmetrics_rl2.distance.kinds import Kinds
from torchmetrics_rl2.distance.parts import KindShare

K = 3


def normal(seed, n, shift=0.0, scale=1.0):
    draws = np.random.default_rng(seed)
    return shift + scale * draws.normal(size=(n, K)) @ np.diag([9.0, 3.0, 1.0])


def moments(x, y):
    variances = tuple(np.cov(side.T) / len(side) for side in (x, y))
    return x.mean(0) - y.mean(0), variances, (len(x), len(y))


def p_value(x, y, limit=0.0):
    difference, variances, counts = moments(x, y)
    nu = degrees_of_freedom(variances, counts)
    return float(t_square_exceeds(difference, sum(variances), nu, np.float64(limit)))


def test_in_one_dimension_it_is_the_test_of_welch():
    x, y = normal(0, 12)[:, :1], normal(1, 30, scale=0.3)[:, :1] + 2
    difference, variances = x.mean(0) - y.mean(0), (np.var(x, ddof=1) / 12, np.var(y, ddof=1) / 30)
    both = tuple(np.full((1, 1), variance) for variance in variances)
    nu = degrees_of_freedom(both, (12, 30))
    found = t_square_exceeds(difference, sum(both), nu, np.float64(0))
    assert float(found) == pytest.approx(stats.ttest_ind(x[:, 0], y[:, 0], equal_var=False).pvalue)


def test_of_equal_covariances_it_is_that_of_hotelling():
    x = normal(0, 20)
    y = x[::-1] * -1 + [1.0, 2.0, 0.5]
    pooled = np.cov(x.T)
    square = 10 * (x.mean(0) - y.mean(0)) @ np.linalg.solve(pooled, x.mean(0) - y.mean(0))
    expected = stats.f.sf(square * (38 - K + 1) / 38 / K, K, 38 - K + 1)
    assert p_value(x, y) == pytest.approx(expected)


@pytest.mark.parametrize(("sizes", "scale"), [((30, 30), 1.0), ((40, 15), 0.4), ((15, 200), 1.0)])
def test_it_holds_its_level(sizes, scale):
    found = [p_value(normal(2 * i, sizes[0]), normal(2 * i + 1, sizes[1], scale=scale)) for i in range(1000)]
    assert 0.03 < np.mean(np.array(found) < 0.05) < 0.07


def test_a_shift_within_the_limit_is_not_found_in_any_direction():
    for direction in np.eye(K):
        found = [p_value(normal(2 * i, 50, direction), normal(2 * i + 1, 50), limit=1.0) for i in range(300)]
        assert np.mean(np.array(found) < 0.05) < 0.07


def test_without_enough_units_or_spread_there_is_none():
    x, y = normal(0, 3), normal(1, 4)
    assert np.isnan(p_value(x, y))
    assert np.isnan(p_value(normal(0, 30) * [1, 1, 0], normal(1, 30) * [1, 1, 0]))
    assert combined(np.float64(0.3), np.float64(np.nan)) == 0.3


def test_the_combination_sees_what_either_sees_and_holds_its_level():
    draws = np.random.default_rng(0)
    first = draws.uniform(size=20_000)
    for second in (draws.uniform(size=20_000), first, 1 - first):
        assert 0.03 < np.mean(combined(first, second) < 0.05) < 0.06
    assert combined(np.array(1e-4), np.array(1.0)) < 1e-3
    assert combined(np.array(1.0), np.array(1e-4)) < 1e-3
    assert combined(np.array(0.0), np.array(0.5)) < 1e-12
    assert combined(np.array(1.0), np.array(0.8)) == 0.8


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
@pytest.mark.filterwarnings("error")
def test_where_images_do_not_vary_or_are_not_finite_length_decides(value):
    broken = np.full((K, K), value), np.full((K, K), value)
    found = composition_p_values(np.float64(0.2), np.full(K, value), broken, (9, 9), np.float64(0))
    assert float(found) == 0.2


def test_of_several_pairs_one_that_is_broken_leaves_the_others():
    difference, variances, counts = moments(normal(0, 30), normal(1, 30, 2.0))
    alone = composition_p_values(np.float64(0.2), difference, variances, counts, np.float64(0.1))
    both = [np.stack([variance, np.full((K, K), np.nan)]) for variance in variances]
    found = composition_p_values(
        np.array([0.2, 0.3]), np.stack([difference, difference]), (both[0], both[1]), counts, np.array([0.1, 0.1])
    )
    assert found == pytest.approx([float(alone), 0.3])


MEANS = torch.tensor([[30.0, 0, 0], [30, 6, 0], [-30, 0, 0], [-30, 0, 6]], dtype=torch.float64)
KINDS = Kinds(MEANS, torch.full((4,), 0.25).log(), ("a", "b", "c", "d"))


def tissue(seed, shares, n=60):
    """Two organs far apart, with two kinds each that are close."""
    generator = Generator().manual_seed(seed)
    rows = torch.multinomial(torch.tensor(shares), n, replacement=True, generator=generator)
    return MEANS[rows] + torch.randn(n, 3, generator=generator, dtype=torch.float64)


def sides(seed, shares, groups=False):
    names = [str(i // 2) for i in range(60)] if groups else None
    return [
        Statistics.of_latents(tissue(2 * seed + i, own), names, KINDS) for i, own in enumerate(((0.25,) * 4, shares))
    ]


@pytest.mark.parametrize("groups", [False, True])
def test_a_missing_kind_is_found_that_length_hardly_shows(groups):
    """How many are of either organ, by chance, moves the mean by more than the missing kind does."""
    found = [compare(*sides(i, (1 / 3, 0, 1 / 3, 1 / 3), groups)) for i in range(100)]
    differs = np.mean(["content" in result.verdict for result in found])
    by_length = np.mean([result.content.interval[0] > result.content.limit for result in found])
    assert differs > 0.8
    assert by_length < 0.5
    nulls = [compare(*sides(1000 + i, (0.25,) * 4, groups)) for i in range(200)]
    assert np.mean(["content" in result.verdict for result in nulls]) < 0.09


def test_a_population_has_the_p_values_of_a_comparison():
    latents = torch.cat([tissue(0, (0.25,) * 4), tissue(1, (0.5, 0, 0.25, 0.25))])
    draws = np.random.default_rng(0)
    real, fake = (draws.integers(0, 120, size=(20, 40)) for _ in range(2))
    tests = Population(latents, KINDS).tests(real, fake)
    for i in range(20):
        one, other = (Statistics.of_latents(latents[rows[i]], kinds=KINDS) for rows in (real, fake))
        expected = compare(one, other).content.p_value
        assert tests.p_values["content"][i] == pytest.approx(expected, rel=1e-6)


def test_details_say_why_content_differs_where_its_interval_does_not():
    found = [compare(*sides(i, (1 / 3, 0, 1 / 3, 1 / 3))) for i in range(30)]
    unseen = [one.content.interval[0] <= one.content.limit and "content" in one.verdict for one in found]
    assert [("by its direction more than by its length" in one.details()) for one in found] == unseen
    assert 5 < sum(unseen) < 30


def test_no_kind_is_called_different_where_content_is_not_judged():
    kind = KindShare("a", 0.0, (0.0, 0.1), 1.0, (0.9, 1.0), True)
    result = replace(compare(*sides(0, (0.25,) * 4)), kinds=[kind])
    assert ", differs" in result.details()
    unsure = replace(result.content, interval=(1.0, 2.0), limit=9.0, p_value=1.0)
    assert ", differs" not in replace(result, content=unsure).details()


def test_a_second_p_value_counts_by_its_weight():
    draws = np.random.default_rng(0)
    first, second = draws.uniform(size=20_000), draws.uniform(size=20_000)
    for weight in (0.1, 0.5):
        assert 0.03 < np.mean(combined(first, second, weight) < 0.05) < 0.06
    assert combined(np.array(0.2), np.array(0.4), 0.0) == pytest.approx(0.2)
    assert combined(np.array(0.02), np.array(0.5), 0.1) < combined(np.array(0.02), np.array(0.5), 1.0)


def test_where_look_differs_by_much_length_decides():
    difference, variances, counts = moments(normal(0, 40, 1.0), normal(1, 40))
    for limit, near in ((0.0, 1), (300.0, 2)):
        nu = degrees_of_freedom(variances, counts)
        of_t = t_square_exceeds(difference, sum(variances), nu, np.float64(limit))
        found = composition_p_values(np.float64(0.04), difference, variances, counts, np.float64(limit))
        assert float(found) == pytest.approx([float(combined(np.float64(0.04), of_t)), 0.04][near - 1], rel=1e-3)


WIDE = torch.cat([MEANS.float(), torch.zeros(4, 5)], 1)
FIRST_LOOK = torch.eye(8)[3]
CARRIED = torch.zeros(4, 8)
CARRIED[0, 3] = 0.01  # of the difference of the first kind's mean, for each unit of the first look
ALONG = 0.01 * (WIDE[0] - WIDE.mean(0))
CARRYING = Kinds(WIDE, torch.full((4,), 0.25).log(), ("a", "b", "c", "d"), carried=CARRIED)


def seen_sides(seed, shares=(0.25,) * 4, look=0.0, kinds=CARRYING, groups=False, along=ALONG):
    """Tissue in eight dimensions, whose generated side is damaged by a look that carries content along."""
    noise = torch.randn(120, 5, generator=Generator().manual_seed(seed + 500), dtype=torch.float64)
    latents = torch.cat([torch.cat([tissue(2 * seed, (0.25,) * 4), tissue(2 * seed + 1, shares)]), noise], 1)
    latents[60:] += look * (FIRST_LOOK + along)
    names = [str(i // 2) for i in range(60)] if groups else None
    return [Statistics.of_latents(side, names, kinds) for side in (latents[:60], latents[60:])]


@pytest.mark.parametrize("groups", [False, True])
def test_content_that_look_carries_along_is_no_other_tissue(groups):
    """A shift of content of a third of look, beyond its limit."""

    def found(look, **others):
        results = [compare(*seen_sides(i, look=look, groups=groups, **others)) for i in range(60)]
        return np.mean(["content" in result.verdict for result in results])

    assert found(200.0) < 0.1
    assert found(200.0, kinds=replace(CARRYING, carried=None)) > 0.9
    assert found(30.0, shares=(0.5, 0.5, 0, 0)) > 0.9


@pytest.mark.parametrize("has_moments", [False, True])
def test_what_is_carried_is_part_of_the_limit(has_moments):
    sides = seen_sides(0, look=40.0)
    if not has_moments:
        sides = [replace(side, sums=replace(side.sums, second_moment=None)) for side in sides]
    result = compare(*sides)
    means = [side.sums.sum / side.sums.count for side in sides]
    difference = (means[0] - means[1]).numpy()
    share = 0.15 + abs(difference[3]) * float(ALONG.norm()) / np.linalg.norm(difference[3:])
    assert result.content.limit == pytest.approx(share * result.look.debiased, rel=1e-6)
    assert 0.3 < share < 0.6
    assert (result.content.p_value is None) == (not has_moments)


def test_the_limit_is_no_smaller_where_tissue_hides_what_is_carried():
    """The kinds that are missing move content against what the look carries along."""
    shares = (0.0, 0.2, 0.4, 0.4)
    result = compare(*seen_sides(0, shares, look=60.0))
    assert result.content.debiased < float(60 * ALONG.norm())
    assert result.content.limit > 0.15 * result.look.debiased


def test_content_that_look_hides_is_not_said_to_be_the_same():
    """A look so large that no composition could be found beside it, which moves no content here."""
    still = replace(CARRYING, carried=None)
    found = [compare(*seen_sides(i, look=160.0, kinds=still, along=0 * ALONG)) for i in range(20)]
    same = [result for result in found if result.content.interval[0] <= 0]
    assert len(same) > 15
    assert not any(result.is_judged("content") for result in same)
    assert all("content cannot be judged" in str(result) for result in same)
    judged = [compare(*seen_sides(i, look=1.0, kinds=still, along=0 * ALONG)).is_judged("content") for i in range(20)]
    assert sum(judged) > 15


@pytest.mark.parametrize("scale", [1e80, 1e150])
def test_latents_whose_fourth_powers_are_beyond_float64_have_no_p_value(scale):
    sides = [tissue(i, (0.25,) * 4) * scale for i in range(2)]
    result = compare(*(Statistics.of_latents(side, kinds=KINDS) for side in sides))
    assert result.content.p_value is None
    assert result.content.value > 0


@pytest.mark.parametrize("groups", [False, True])
def test_statistics_of_a_file_have_the_same_p_value(tmp_path, groups):
    sides = [replace(side, weights_id="ab" * 32) for side in seen_sides(3, (0.4, 0.2, 0.2, 0.2), 20.0, groups=groups)]
    sides[0].save(tmp_path / "real.safetensors")
    loaded = Statistics.load(tmp_path / "real.safetensors")
    torch.testing.assert_close(loaded.kinds.axes @ loaded.kinds.basis.T, CARRYING.axes @ CARRYING.basis.T)
    found = compare(loaded, sides[1]).content
    assert found.p_value == pytest.approx(compare(*sides).content.p_value, rel=1e-6)


def test_a_population_knows_what_is_carried():
    latents = torch.cat(
        [torch.randn(90, 8, generator=Generator().manual_seed(0)).double() + WIDE[torch.arange(90) % 4]]
    )
    latents[45:] += 5 * (FIRST_LOOK + ALONG)
    draws = np.random.default_rng(0)
    real, fake = draws.integers(0, 45, size=(10, 30)), draws.integers(45, 90, size=(10, 30))
    tests = Population(latents, CARRYING).tests(real, fake)
    for i in range(10):
        sides = (Statistics.of_latents(latents[rows[i]], kinds=CARRYING) for rows in (real, fake))
        assert tests.p_values["content"][i] == pytest.approx(compare(*sides).content.p_value, rel=1e-6)


@pytest.mark.parametrize(("sizes", "limit"), [((8, 30), 0.0), ((20, 12), 4.0), ((40, 40), 30.0)])
def test_length_and_weight_are_those_of_the_formulas(sizes, limit):
    """Against the formulas by hand: an F with Satterthwaite's degrees of freedom, and the weight of T squared."""
    x, y = normal(3, sizes[0], 1.1 * limit / 3**0.5), normal(4, sizes[1], scale=0.6)
    difference, (first, second), (n, m) = moments(x, y)
    squares = [
        (size - 1) ** 2 / ((size + 1) * (size - 2)) * ((one**2).sum() - one.trace() ** 2 / (size - 1))
        for one, size in ((first, n), (second, m))
    ]
    noise = first.trace() + second.trace()
    freedom = noise**2 / (squares[0] + squares[1] + 2 * (first * second).sum())
    assert 1 < freedom < K
    nu = freedom * noise**2 / (first.trace() ** 2 / (n - 1) + second.trace() ** 2 / (m - 1))
    ratio, beyond = difference @ difference / noise, freedom * limit**2 / noise
    of_length = stats.ncf.sf(ratio, freedom, nu, beyond) if limit else stats.f.sf(ratio, freedom, nu)
    both = first + second
    of_t = t_square_exceeds(difference, both, degrees_of_freedom((first, second), (n, m)), np.float64(limit))
    weight = 1 / (1 + limit**2 / np.linalg.eigvalsh(both)[0] / K)
    found = content_p_values(difference, (first, second), (n, m), np.float64(limit))
    assert float(found) == pytest.approx(float(combined(of_length, of_t, weight)), rel=1e-6)
    assert 1e-4 < float(found) < 0.9


def test_content_that_does_not_vary_differs_beyond_its_limit_alone():
    still = np.zeros((K, K)), np.zeros((K, K))
    shift = np.array([0.0, 3.0, 4.0])
    found = [float(content_p_values(shift, still, (9, 9), np.float64(limit))) for limit in (0.0, 4.9, 5.1)]
    assert found == [0, 0, 1]
