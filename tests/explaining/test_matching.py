from dataclasses import replace

import numpy as np
import pytest
import torch

from torchmetrics_rl2.distance.statistics import Statistics
from torchmetrics_rl2.explaining.causes import explain_look
from torchmetrics_rl2.explaining.matching import matches
from torchmetrics_rl2.weights.signatures import Signatures


@pytest.fixture
def sides():
    """Generated images are the real ones, shifted along the first axis by 3, less some of their own noise."""
    z = torch.randn(200, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    shift = torch.tensor([3.0, 0, 0, 0, 0, 0], dtype=torch.float64)
    return Statistics.of_latents(z[:100]), Statistics.of_latents(z[100:] + shift)


@pytest.fixture
def signatures():
    shifts = torch.tensor([[2.0, 0, 0, 0, 0, 0], [4, 0, 0, 0, 0, 0], [0, 2, 0, 0, 0, 0], [0, -2, 0, 0, 0, 0]])
    ladders = ("gaussian blur", "gaussian blur", "brightness", "brightness")
    return Signatures(ladders, (0.5, 1.0, 1.0, -1.0), shifts.double(), torch.full((4,), 0.01), 8)


def test_the_best_match_is_what_explains(sides, signatures):
    found, explained = matches(*sides, signatures), explain_look(*sides, signatures)
    assert [match.damage for match in found] == ["gaussian blur", "brightness"]
    assert found[0].share == pytest.approx(explained.explained, rel=1e-9)
    assert found[0].best == pytest.approx(explained.causes[0].severity, rel=1e-9)
    assert found[0].amount in str(explained.causes[0])


def test_a_curve_begins_near_nothing_and_peaks_at_the_best(sides, signatures):
    for match in matches(*sides, signatures):
        start = match.shares[list(match.severities).index(0)]
        assert start == pytest.approx(0, abs=1e-9)
        assert match.shares.max() <= match.share + 1e-9
        assert len(match.severities) == len(match.amounts) == len(match.shares)
    blur = matches(*sides, signatures)[0]
    assert np.interp(blur.best, blur.severities, blur.shares) == pytest.approx(blur.share, abs=0.01)


def test_sides_that_are_the_same_have_no_matches(sides, signatures):
    assert matches(sides[0], replace(sides[0]), signatures) == []
