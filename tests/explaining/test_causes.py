from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Generator

from torchmetrics_rl2 import Statistics
from torchmetrics_rl2.distance.kinds import Kinds
from torchmetrics_rl2.explaining.causes import Look, explain_look
from torchmetrics_rl2.pixels import LADDERS
from torchmetrics_rl2.weights import Signatures

D = 24
AXES = {"gaussian blur": 0, "jpeg": 1, "eosin": 2, "gaussian noise": 3}
KINDS = Kinds(9 * torch.eye(D)[22:], torch.full((2,), 0.5).log(), ("fat", "gland"))


def shift_of(ladder, severity, length=20.0):
    """Each ladder has its own axis, along which it goes as the root of the severity, the other way if negative."""
    sign = 1 if severity > 0 else -1
    return sign * length * abs(severity) ** 0.5 * torch.eye(D, dtype=torch.float64)[AXES[ladder]]


def signatures(length=20.0, variance=0.0):
    steps = [(ladder, s) for ladder in AXES for s in LADDERS[ladder].severities]
    steps += [("eosin", -s) for s in LADDERS["eosin"].severities]
    shifts = torch.stack([shift_of(*step, length) for step in steps])
    ladders, severities = zip(*steps, strict=True)
    return Signatures(ladders, severities, shifts, torch.full((len(steps),), variance), 48)


def with_pair(known, first, second, both):
    """Signatures that know also what the second damage after the first shifts."""
    rows = list(zip(known.ladders, known.severities, strict=True))
    pair = rows.index(first), rows.index(second)
    return replace(known, pairs=(pair,), interactions=(both - shift_of(*first) - shift_of(*second))[None])


def side(seed, shift=0.0, n=60, kinds=None, groups=None):
    z = torch.randn(n, D, generator=Generator().manual_seed(seed), dtype=torch.float64) + shift
    return Statistics.of_latents(z, groups, kinds)


@pytest.mark.parametrize(
    ("ladder", "severity"), [("gaussian blur", 0.2), ("jpeg", 0.6), ("eosin", -0.4), ("eosin", 0.7)]
)
def test_damage_is_named_with_its_amount(ladder, severity):
    found = explain_look(side(1), side(2, shift_of(ladder, severity)), signatures())
    (cause,) = found.causes
    assert (cause.damage, cause.family, cause.unit) == (ladder, LADDERS[ladder].family, LADDERS[ladder].unit)
    assert cause.severity == pytest.approx(severity, rel=0.15)
    assert cause.amount == pytest.approx(LADDERS[ladder].amount(cause.severity))
    assert cause.interval[0] < cause.amount < cause.interval[1]
    assert cause.share == found.explained > 0.95
    assert cause.confusable == ()


def test_chance_is_no_part_of_what_is_left_unexplained():
    """Of few images and a weak shift most of the squared length is chance."""
    explained = [
        explain_look(side(2 * i, n=8), side(2 * i + 1, shift_of("jpeg", 0.1), n=8), signatures()).explained or 0
        for i in range(100)
    ]
    assert np.median(explained) == pytest.approx(1, abs=0.05)  # and 0.88 of the squared length as it is


def test_intervals_cover_as_often_as_they_say():
    covered = 0
    for i in range(200):
        cause = explain_look(side(2 * i), side(2 * i + 1, shift_of("jpeg", 0.5)), signatures()).causes[0]
        low, high = cause.interval
        covered += low <= LADDERS["jpeg"].amount(0.5) <= high
    assert 0.9 <= covered / 200 <= 0.99


def test_few_images_behind_a_signature_widen_the_interval():
    sides = side(1), side(2, shift_of("jpeg", 0.5))
    narrow, wide = (explain_look(*sides, signatures(variance=value)).causes[0].interval for value in (0.0, 9.0))
    assert wide[1] - wide[0] > 3 * (narrow[1] - narrow[0])


def test_two_damages_of_different_families_are_two():
    found = explain_look(side(1), side(2, shift_of("jpeg", 0.5) + shift_of("eosin", 0.25)), signatures())
    assert [cause.damage for cause in found.causes] == ["jpeg", "eosin"]
    assert sum(cause.share for cause in found.causes) == pytest.approx(found.explained, abs=0.1)
    assert [cause.severity for cause in found.causes] == pytest.approx([0.5, 0.25], rel=0.25)
    assert "and" in str(found)


NOISE, BLUR = ("gaussian noise", 0.125), ("gaussian blur", 0.25)
HIDING = 0.2 * shift_of(*NOISE) + 0.9 * shift_of(*BLUR) + 4 * torch.eye(D, dtype=torch.float64)[12]


def test_two_damages_that_are_no_sum_are_found_as_they_were_measured():
    """A blur that leaves little of the noise before it: as a sum, both are of other amounts."""
    moved = side(2, HIDING, n=400)
    found = explain_look(side(1, n=400), moved, with_pair(signatures(), NOISE, BLUR, HIDING))
    assert {cause.damage: cause.severity for cause in found.causes} == pytest.approx(dict([NOISE, BLUR]), rel=0.15)
    assert found.explained > 0.98
    assert sum(cause.share for cause in found.causes) == pytest.approx(found.explained, abs=0.02)
    by_sum = {cause.damage: cause.severity for cause in explain_look(side(1, n=400), moved, signatures()).causes}
    assert by_sum.get(NOISE[0], 0.0) < 0.5 * NOISE[1]


def test_intervals_of_two_damages_cover_as_often_as_they_say():
    known, covered = with_pair(signatures(), NOISE, BLUR, HIDING), []
    for i in range(60):
        found = explain_look(side(2 * i), side(2 * i + 1, HIDING), known).causes
        covered += [
            cause.interval[0] <= LADDERS[name].amount(severity) <= cause.interval[1]
            for cause in found
            for name, severity in (NOISE, BLUR)
            if cause.damage == name
        ]
    assert len(covered) > 80
    assert 0.88 <= np.mean(covered) <= 1


def test_one_damage_is_not_taken_for_two_where_two_were_measured():
    known = with_pair(signatures(), NOISE, BLUR, HIDING)
    found = [explain_look(side(2 * i), side(2 * i + 1, shift_of(*BLUR)), known).causes for i in range(40)]
    assert sum([cause.damage for cause in causes] == ["gaussian blur"] for causes in found) >= 39


@pytest.mark.parametrize(
    ("eosin", "noise", "misfit", "named"),
    [
        (0.5, 0.5, 20, {"gaussian noise", "eosin"}),
        (0.18, 0.5, 15, {"gaussian noise"}),
        (0.5, 0.4, 25, {"gaussian noise"}),
    ],
    ids=["plain to see", "hardly seen", "much is left"],
)
def test_a_weak_damage_is_named_beside_a_strong_one_that_misfits(eosin, noise, misfit, named):
    """It takes a seventh or a tenth of what the noise leaves, as noise in other tissue leaves much."""
    known = signatures(60)
    weak = torch.tensor([0.2 if ladder == "eosin" else 1.0 for ladder in known.ladders])
    shift = shift_of("gaussian noise", noise, 60) + 0.2 * shift_of("eosin", eosin, 60)
    shift[12] = misfit
    found = explain_look(side(1, n=400), side(2, shift, n=400), replace(known, shifts=known.shifts * weak[:, None]))
    assert {cause.damage for cause in found.causes} == named


@pytest.mark.parametrize(("severity", "named"), [(0.025, []), (0.04, ["gaussian noise"])])
def test_damage_far_below_what_a_person_sees_is_no_cause(severity, named):
    """Real tissue of sharper scanners differs by a noise of less than 1 %."""
    assert LADDERS["gaussian noise"].visible == 0.125
    found = explain_look(side(1, n=400), side(2, shift_of("gaussian noise", severity), n=400), signatures())
    assert [cause.damage for cause in found.causes] == named
    assert found.explained > 0.9
    assert named or found.closest.damage == "gaussian noise"


def test_what_no_damage_explains_is_said_to_be_so():
    direction = torch.zeros(D, dtype=torch.float64)
    direction[10:14], direction[1] = 8, 4
    found = explain_look(side(1), side(2, direction), signatures())
    assert found.causes == []
    assert found.closest.damage == "jpeg"
    assert found.explained == found.closest.share < 0.4
    assert str(found).startswith("Look: no known damage that a person sees explains it; the closest, jpeg of quality ")


def test_no_look_beyond_chance_is_not_explained():
    sides = [side(1), side(1)]
    assert "no larger than chance" in explain_look(*sides, signatures()).withheld["causes"]


def test_groups_of_the_same_images_do_not_say_what_chance_adds():
    """As a loader that repeats its images, each time as another group: their means do not vary."""
    z = torch.randn(2, D, generator=Generator().manual_seed(1), dtype=torch.float64).repeat(4, 1)
    names = [f"slide {i // 2}" for i in range(8)]
    sides = [Statistics.of_latents(z + shift, names) for shift in (0, shift_of("jpeg", 0.5))]
    found = explain_look(*sides, signatures())
    assert found.causes == []
    assert "what chance adds is not known" in found.withheld["causes"]


@pytest.mark.parametrize("measured", [True, False], ids=["pairs measured", "sums"])
def test_damage_that_moves_nothing_is_in_no_pair(measured):
    """Such as a stain that the images do not have."""
    known = signatures()
    moves = torch.tensor([float(ladder != "eosin") for ladder in known.ladders], dtype=torch.float64)
    known = replace(known, shifts=known.shifts * moves[:, None])
    if measured:
        known = with_pair(known, ("eosin", 0.5), ("jpeg", LADDERS["jpeg"].severities[1]), 0 * shift_of("jpeg", 0.5))
    found = explain_look(side(1), side(2, shift_of("jpeg", 0.5)), known)
    assert [cause.damage for cause in found.causes] == ["jpeg"]


def test_content_is_left_to_the_kinds():
    content = 30 * (torch.eye(D, dtype=torch.float64)[22] - torch.eye(D, dtype=torch.float64)[23])
    moved = shift_of("jpeg", 0.5) + content
    known = signatures()
    leaky = Signatures(known.ladders, known.severities, known.shifts + content / 3, known.variances, 48)
    found = explain_look(side(1, kinds=KINDS), side(2, moved, kinds=KINDS), leaky)
    assert found.causes[0].damage == "jpeg"
    assert found.causes[0].severity == pytest.approx(0.5, rel=0.15)
    assert found.explained > 0.95


def test_groups_are_the_units_of_an_interval():
    names = [f"slide {i // 10}" for i in range(60)]
    both = [side(1, groups=names), side(2, shift_of("jpeg", 0.5), groups=names)]
    assert Look.of(*both).freedom == 5
    assert explain_look(*both, signatures()).causes[0].damage == "jpeg"


def test_damage_that_explains_as_much_is_named_too():
    known = signatures()
    twin = Signatures(
        known.ladders + tuple("defocus disc" for name in known.ladders if name == "gaussian blur"),
        known.severities + LADDERS["defocus disc"].severities,
        torch.cat([known.shifts, known.shifts[: len(LADDERS["gaussian blur"].severities)]]),
        torch.zeros(len(known.ladders) + len(LADDERS["defocus disc"].severities)),
        48,
    )
    (cause,) = explain_look(side(1), side(2, shift_of("gaussian blur", 0.25)), twin).causes
    assert len(cause.confusable) == 1
    assert {cause.damage, cause.confusable[0].partition(" of ")[0]} == {"gaussian blur", "defocus disc"}


def test_the_closest_damage_explains_what_it_does_alone():
    """Two together would explain 36 % of it, which is too little to name them."""
    shift = shift_of("jpeg", 0.5) + shift_of("eosin", 0.5)
    shift[10] = 26.7
    found = explain_look(side(1, n=400), side(2, shift, n=400), signatures())
    assert found.causes == []
    assert found.explained == found.closest.share == pytest.approx(0.18, abs=0.03)
