from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Generator

from tests.explaining.test_causes import BLUR, HIDING, NOISE, D, shift_of, signatures, with_pair
from torchmetrics_rl2.explaining.curves import Curves, Point
from torchmetrics_rl2.explaining.pairs import nearest_pair, on_grid, pairs_of
from torchmetrics_rl2.pixels import LADDERS


@pytest.fixture
def measured():
    (pair,) = pairs_of(Curves(with_pair(signatures(), NOISE, BLUR, HIDING), None))
    return pair


def at(severity):
    return np.array(severity)


def test_a_pair_shifts_as_it_was_measured(measured):
    assert measured.points == (Point(*NOISE), Point(*BLUR))
    assert measured.left == pytest.approx((0.2, 0.9))
    assert np.allclose(measured.shift(at([NOISE[1], BLUR[1]])), HIDING, atol=1e-9)


def test_without_one_a_pair_is_the_other(measured):
    assert np.allclose(measured.shift(at([NOISE[1], 1e-12])), shift_of(*NOISE), atol=0.05)
    assert np.allclose(measured.shift(at([1e-12, BLUR[1]])), shift_of(*BLUR), atol=0.05)


def test_a_stronger_blur_leaves_less_noise(measured):
    """Twice as long, the root of two: 0.2 to that power is left, of a noise as it was measured."""
    noise, _ = measured.parts(at([NOISE[1], 4 * BLUR[1]]))
    axis = shift_of(*NOISE).numpy() / np.linalg.norm(shift_of(*NOISE))
    assert noise @ axis == pytest.approx(0.2 ** np.sqrt(2) * np.linalg.norm(shift_of(*NOISE)), rel=1e-3)


def test_parts_add_up_and_slopes_are_those_of_the_shift(measured):
    severities, step = at([0.2, 0.4]), np.array([1e-6, 0])
    assert np.allclose(sum(measured.parts(severities)), measured.shift(severities))
    by_hand = (measured.shift(severities + step) - measured.shift(severities - step)) / 2e-6
    assert np.allclose(measured.slopes(severities)[:, 0], by_hand, rtol=1e-3)


@pytest.mark.parametrize("severities", [(0.125, 0.25), (0.25, 0.125), (0.06, 0.5)])
def test_the_nearest_pair_is_the_one_that_shifted(measured, severities):
    pair, found, apart = nearest_pair([measured], measured.shift(at(severities)))
    assert pair is measured
    assert found == pytest.approx(severities, rel=0.01)
    assert apart < 1e-3


def test_distances_by_products_are_those_by_hand():
    """Of curves that bend, so that the rest is across neither everywhere."""
    known = with_pair(signatures(), NOISE, BLUR, HIDING)
    shifts, interactions, difference = (
        torch.randn(n, D, generator=Generator().manual_seed(n), dtype=torch.float64) for n in (len(known.ladders), 1, 2)
    )
    (pair,) = pairs_of(Curves(replace(known, shifts=shifts, interactions=interactions), None))
    found, ((first, _), (second, _)) = on_grid(pair, difference[0].numpy()), pair.grids()
    assert found.shape == (len(first), len(second))
    for a, b in ((0, 0), (10, 25), (31, 3), (20, 20)):
        by_hand = np.square(difference[0].numpy() - pair.shift(at([first[a], second[b]]))).sum()
        assert found[a, b] == pytest.approx(by_hand, rel=1e-9)


def test_pairs_that_were_not_measured_are_sums_of_two_families():
    pairs = pairs_of(Curves(signatures(), None))
    # Three ladders in one direction and eosin in two.
    assert len(pairs) == 3 + 3 * 2
    for pair in pairs:
        first, second = pair.points
        assert LADDERS[first.ladder].family != LADDERS[second.ladder].family
        by_hand = shift_of(first.ladder, first.severity) + shift_of(second.ladder, second.severity)
        assert np.allclose(pair.shift(at([first.severity, second.severity])), by_hand)


def test_one_ladder_has_no_pair():
    known = signatures()
    rows = [i for i, ladder in enumerate(known.ladders) if ladder == "jpeg"]
    alone = type(known)(("jpeg",) * len(rows), known.severities[4:8], known.shifts[rows], known.variances[rows], 48)
    assert pairs_of(Curves(alone, None)) == []
