import pytest
import torch

from tests.explaining.test_causes import D, shift_of, side, signatures
from torchmetrics_rl2.explaining.causes import explain_look
from torchmetrics_rl2.explaining.measuring import VISIBLE
from torchmetrics_rl2.explaining.own import CANDIDATES, COARSE, FINE, explain_by_own, measure_of
from torchmetrics_rl2.images import ImageReader
from torchmetrics_rl2.pixels import LADDERS
from torchmetrics_rl2.weights import Signatures


@pytest.fixture
def measured():
    """What was asked for, and a laboratory whose signatures are twice as long as those of the weights."""
    asked, known = [], signatures(length=40.0)
    rows = {step: i for i, step in enumerate(zip(known.ladders, known.severities, strict=True))}

    def measure(steps, count):
        asked.append((list(steps), count))
        found = [step for step in steps if step in rows]
        ladders, severities = zip(*found, strict=True)
        shifts = known.shifts[[rows[step] for step in found]]
        return Signatures(ladders, severities, shifts, torch.zeros(len(found)), count)

    return measure, asked


def test_a_look_is_explained_by_signatures_of_the_own_images(measured):
    measure, asked = measured
    found = explain_by_own(side(1), side(2, shift_of("eosin", -0.5, 40.0)), measure)
    assert [cause.damage for cause in found.causes] == ["eosin"]
    assert found.causes[0].severity == pytest.approx(-0.5, rel=0.1)
    passes = sum((len(steps) + 1) * count for steps, count in asked)
    assert passes <= 128
    assert ("eosin", 0.5) not in asked[1][0]  # the direction is known by then


def test_signatures_of_few_images_have_to_explain_most_of_it(measured):
    other = torch.zeros(D, dtype=torch.float64)
    other[10] = 24.0
    found = explain_by_own(side(1), side(2, shift_of("jpeg", 0.5, 40.0) + other), measured[0])
    assert found.causes == []
    assert 0.4 < found.explained < 0.7


def test_less_than_half_of_what_a_person_sees_is_not_named_out_of_the_domain(measured):
    """Sharper or paler laboratories are as far as that."""
    fake = side(2, shift_of("eosin", -0.2, 40.0))
    found = explain_by_own(side(1), fake, measured[0])
    assert (found.causes, found.closest.damage) == ([], "eosin")
    known = signatures(length=40.0)
    assert [cause.damage for cause in explain_look(side(1), fake, known).causes] == ["eosin"]


def test_no_three_ladders_take_more_than_128_passes():
    longest = sorted((len(ladder.severities) for ladder in LADDERS.values()), reverse=True)[:CANDIDATES]
    assert (len(VISIBLE) + 1) * COARSE + (sum(longest) + 1) * FINE <= 128


def test_statistics_alone_have_no_images_to_measure(encoder):
    assert measure_of(encoder, [], ImageReader()) is None
