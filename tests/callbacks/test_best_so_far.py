import math
from dataclasses import replace

import pytest
import torch
from torch import Generator

from torchmetrics_rl2 import Statistics
from torchmetrics_rl2.callbacks.best_so_far import BestSoFar
from torchmetrics_rl2.distance.differences import difference


def units_of(shift, n=60, seed=0):
    latents = torch.randn(n, 8, generator=Generator().manual_seed(seed), dtype=torch.float64)
    latents[:, 0] += shift
    return Statistics.of_latents(latents).units


REAL = units_of(0, seed=100)


def follow(best, shifts, start=0):
    """What is said of validations whose generators are that far away."""
    found = []
    for i, shift in enumerate(shifts, start):
        generated = units_of(shift, seed=i)
        found.append(best.judge(f"epoch {i}", REAL, generated))
        best.take(found[-1], generated)
    return found


def levels(best, count):
    """Those that the next comparisons get."""
    generated = units_of(3)
    found = []
    for _ in range(count):
        found.append(best._next_level())
        best.take(best.judge("", REAL, generated), generated)
    return found


def started(planned=50, level=0.05):
    best = BestSoFar(level, planned)
    follow(best, [3])
    return best


def test_half_of_the_level_is_spent_as_planned_and_all_of_it_never():
    spent = levels(started(planned=20), 400)
    assert sum(spent[:20]) == pytest.approx(0.025)
    assert spent[:2] == pytest.approx([0.05 / 21, 0.05 * (2 / 22 - 1 / 21)])
    assert spent == sorted(spent, reverse=True)
    assert 0.047 < sum(spent) < 0.05


def test_the_first_is_kept_and_costs_nothing():
    best = BestSoFar(0.05, 50)
    (first,) = follow(best, [3])
    assert (first.is_better, first.than, first.without_gain) == (True, None, 0)
    assert levels(best, 1) == pytest.approx([0.05 / 51])


def test_what_is_kept_is_below_beyond_chance_at_the_level_of_its_comparison():
    kept, new = units_of(3, seed=0), units_of(2.6, seed=1)
    p_value = difference(REAL, new, kept).p_value / 2
    # Level l * 50 / (51 * 52) in the second comparison; with the whole level, or two-sided, both would be kept.
    for factor, is_better in ((0.95, False), (1.05, True)):
        best = BestSoFar(factor * p_value * 51 * 52 / 50, 50)
        follow(best, [3])
        levels(best, 1)
        assert best.judge("", REAL, new).is_better is is_better


def test_later_ones_are_compared_with_the_last_that_was_better():
    near, same, further = follow(started(), [1, 1, 2], start=1)
    assert near.is_better
    assert near.gain == pytest.approx(1 - 1 / 9, abs=0.1)
    assert (same.is_better, same.than, same.without_gain) == (False, "epoch 1", 1)
    assert (further.is_better, further.than, further.without_gain) == (False, "epoch 1", 2)
    assert further.gain < -1


def test_the_smallest_gain_that_is_found_is_found_in_four_of_five():
    """Of generators closer by just that much; the level of the comparison is 0.05 / 51."""
    kept, found, trials = units_of(3, n=200, seed=1), 0, 200
    best = BestSoFar(0.05, 50)
    best.take(best.judge("", REAL, kept), kept)
    judged = best.judge("", REAL, units_of(2.6, n=200, seed=2))
    apart = REAL.mean - kept.mean
    square = float(apart.square().sum()) - REAL.mean_variance - kept.mean_variance
    target = math.sqrt(square * (1 - judged.detectable) + REAL.mean_variance)
    for seed in range(trials):
        drawn = units_of(0, n=200, seed=10 + seed)
        generated = replace(drawn, mean=drawn.mean + REAL.mean - apart / apart.norm() * target)
        found += best.judge("", REAL, generated).is_better
    assert 0.7 < found / trials < 0.9


def test_where_the_best_is_at_distance_zero_nothing_better_can_be_found():
    generated = replace(units_of(0), mean=REAL.mean)
    best = BestSoFar(0.05, 50)
    best.take(best.judge("", REAL, generated), generated)
    judged = best.judge("", REAL, units_of(0, seed=5))
    assert (judged.is_better, math.isnan(judged.gain), judged.detectable) == (False, True, math.inf)


def test_nan_counts_as_no_comparison_and_is_never_kept():
    nan = replace(units_of(3), mean=torch.full((8,), torch.nan, dtype=torch.float64))
    best = BestSoFar(0.05, 50)
    for _ in range(2):
        judged = best.judge("", REAL, nan)
        best.take(judged, nan)
        assert not judged.is_better
    (first,) = follow(best, [3])
    assert first.than is None
    best.take(best.judge("", REAL, nan), nan)
    assert levels(best, 1) == pytest.approx([0.05 / 51])


def test_a_state_goes_on_where_it_was():
    one, other = started(), BestSoFar(0.05, 50)
    follow(one, [1, 1.2], start=1)
    other.load_state_dict(one.state_dict())
    assert follow(one, [1, 0.1], start=3) == follow(other, [1, 0.1], start=3)
    assert one.state_dict()["spent"] == other.state_dict()["spent"] == pytest.approx(0.05 * 4 / 54)


def test_another_plan_after_a_resume_spends_no_more_than_the_level():
    one, other = started(planned=5), BestSoFar(0.05, 1000)
    spent = levels(one, 20)
    other.load_state_dict(one.state_dict())
    later = levels(other, 600)
    assert set(later[:10]) == {0.0}
    assert sum(spent) + sum(later) < 0.05


def test_a_plateau_is_left_by_chance_less_often_than_the_level_in_many_trainings():
    """With 5 % in each comparison it would be most of them."""
    left = 0
    for training in range(20):
        draws = [units_of(3, n=40, seed=training * 30 + i) for i in range(30)]
        best = BestSoFar(0.05, 30)
        for draw in draws:
            judged = best.judge("", REAL, draw)
            best.take(judged, draw)
            left += judged.is_better and judged.than is not None
    assert left <= 3
