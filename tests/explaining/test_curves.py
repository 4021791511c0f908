import numpy as np
import pytest
import torch

from tests.explaining.test_causes import AXES, KINDS, D, shift_of, signatures
from torchmetrics_rl2.explaining.curves import Curve, Curves, Point
from torchmetrics_rl2.pixels import LADDERS
from torchmetrics_rl2.weights import Signatures

SEVERITIES = np.array([0.0, 0.05, 0.1, 0.2, 0.4, 0.8])


def bend(severities):
    """A quarter of a circle, as a curve bends through latent space."""
    angle = 2 * np.asarray(severities, dtype=float)
    return np.stack([1 - np.cos(angle), np.sin(angle), 0.3 * np.sin(2 * angle)], -1)


def curve(severities=SEVERITIES, variance=0.0):
    return Curve(severities, bend(severities), np.full(len(severities), variance) * (severities != 0))


def test_curves_go_through_no_damage_and_what_was_measured():
    curves = Curves(signatures(), None)
    assert set(curves.of) == set(AXES)
    for found in curves.of.values():
        assert np.allclose(found(0.0), 0)
        assert (found.grid != 0).all()
        assert (np.diff(found.grid) > 0).all()
        assert np.allclose(found.places, found(found.grid))
    for ladder, severity in (("eosin", -0.5), ("eosin", 0.5), ("jpeg", LADDERS["jpeg"].severities[1])):
        assert np.allclose(curves.of[ladder](severity), shift_of(ladder, severity), atol=1e-9)


def test_the_slope_is_that_of_the_curve():
    found = curve()
    for severity in (0.03, 0.1, 0.33):
        step = 1e-6
        by_hand = (found(severity + step) - found(severity - step)) / (2 * step)
        assert np.allclose(found.slope(severity), by_hand, rtol=1e-4, atol=1e-4)


def test_a_severity_between_those_measured_is_as_uncertain_as_it_is_off():
    """What leaving one out tells is of the size of the error that is really there."""
    found, off, said = curve(), [], []
    for severity in np.sqrt(SEVERITIES[1:-1] * SEVERITIES[2:]):
        grid = np.linspace(0.7 * severity, 1.4 * severity, 4001)
        nearest = grid[np.square(found(grid) - bend(severity)).sum(1).argmin()]
        off.append(abs(nearest - severity))
        said.append(np.sqrt(found.variance(severity)))
    assert 0.5 < np.sqrt(np.mean(np.square(said))) / np.sqrt(np.mean(np.square(off))) < 4


def test_a_curve_that_is_measured_denser_is_known_better():
    dense = np.unique([*SEVERITIES, *np.sqrt(SEVERITIES[1:-1] * SEVERITIES[2:]), 0.025])
    assert curve(dense).variance(0.3) < curve().variance(0.3) / 4


def test_few_images_make_a_severity_uncertain():
    known, slope = curve(variance=0.01), np.square(curve().slope(0.2)).sum()
    assert known.variance(0.2) - curve().variance(0.2) == pytest.approx(0.01 / slope, rel=1e-6)


def test_a_severity_that_moves_nothing_is_unknown():
    """A blur of a tenth of a pixel leaves every pixel as it was."""
    found = Curve(SEVERITIES, bend(np.where(SEVERITIES > 0.1, SEVERITIES, 0)), np.zeros(len(SEVERITIES)))
    assert found.variance(0.03) == np.inf


def test_two_severities_have_nothing_to_be_left_out():
    assert curve(SEVERITIES[:2]).variance(0.03) == 0


def test_the_nearest_severity_is_found_on_both_sides_of_no_damage():
    curves = Curves(signatures(), None)
    for severity in (-0.3, 0.6):
        found, apart = curves.nearest(shift_of("eosin", severity).numpy())["eosin"]
        assert found == pytest.approx(severity, rel=0.02)
        assert apart < 0.1


def test_content_is_left_out_of_signatures_and_of_pairs():
    known, content = signatures(), torch.eye(D, dtype=torch.float64)[22] - torch.eye(D, dtype=torch.float64)[23]
    leaky = Signatures(
        known.ladders, known.severities, known.shifts + content, known.variances, 48, ((0, 5),), content[None]
    )
    curves = Curves(leaky, KINDS)
    assert np.allclose(curves.of["jpeg"](0.5), shift_of("jpeg", 0.5), atol=0.2)
    first, second = (Point(known.ladders[i], known.severities[i]) for i in (0, 5))
    assert np.allclose(curves.measured[first, second], 0)
