from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.auditing.test_checks import subject_of
from torchmetrics_rl2.auditing import content
from torchmetrics_rl2.auditing.content import LADDERS, Composition
from torchmetrics_rl2.auditing.draws import Population
from torchmetrics_rl2.distance.kinds import Kinds

FEATURES = 16


def kinds_apart(count=2, distance=12.0):
    """Kinds whose means lie on the first axes."""
    means = distance * torch.eye(count, FEATURES)
    return Kinds(means, torch.full((count,), 1 / count).log(), [f"kind {k}" for k in range(count)])


def latents_of(kinds, labels, seed=0):
    noise = torch.randn(len(labels), FEATURES, generator=torch.Generator().manual_seed(seed))
    return noise + kinds.means[torch.tensor(labels)]


def composition_of(labels, kinds=None, named=None, units=None, seed=0):
    kinds = kinds or kinds_apart(max(labels) + 1)
    subject = replace(subject_of(len(labels), units), kinds=named)
    return Composition(subject, latents_of(kinds, labels), kinds, seed)


def ladders_of(composition):
    return [ladder for ladder in map(composition.ladder, LADDERS) if ladder]


class Recorder:
    """A population that keeps what was drawn."""

    drawn = None

    def __init__(self, latents, kinds):
        self.population = Population(latents, kinds)

    def tests(self, real, fake):
        Recorder.drawn.append((real, fake))
        return self.population.tests(real, fake)


@pytest.fixture(autouse=True)
def _fewer_repeats(monkeypatch):
    monkeypatch.setattr(content, "REPEATS", 60)


@pytest.fixture
def drawn(monkeypatch):
    monkeypatch.setattr(content, "Population", Recorder)
    monkeypatch.setattr(Recorder, "drawn", [])
    return Recorder.drawn


def test_kinds_far_apart_are_told_apart_by_content():
    composition = composition_of([0, 1] * 30)
    assert composition.counts == {"kind 0": 30, "kind 1": 30}
    found = ladders_of(composition)
    assert [ladder.name for ladder in found] == list(LADDERS)
    missing, mixture, one, repeats = found
    assert missing.verdict == one.verdict == mixture.verdict == "detects"
    # 40 points of 60 images are seen in almost all draws, ten in few, and more in larger sets.
    rising = [step.draws[-1].content for step in mixture.steps]
    assert rising == sorted(rising)
    assert rising[0] < 0.5 < 0.9 < rising[2]
    assert [draws.n for draws in mixture.steps[1].draws] == [25, 40, 50]
    assert mixture.steps[1].draws[0].content < mixture.steps[1].draws[2].content
    assert repeats.steps[-1].draws[-1].varies_less > repeats.steps[0].draws[-1].varies_less
    assert composition.withheld == [
        "content and cross-talk at 100 images a side: as many units are needed, and there are 60",
    ]


def test_what_content_does_not_span_it_is_blind_to():
    """Labels that have nothing to do with the kinds of the weights."""
    composition = composition_of([0, 1] * 30, named=["left", "left", "right", "right"] * 15)
    assert composition.counts == {"left": 30, "right": 30}
    found = ladders_of(composition)
    assert [ladder.verdict for ladder in found[:3]] == ["blind"] * 3
    assert max(found[0].power.values()) <= 0.12


def test_cross_talk_is_of_the_part_that_damage_moves():
    along, across = torch.eye(FEATURES)[0] - torch.eye(FEATURES)[1], torch.eye(FEATURES)[2]
    composition = composition_of([0, 1] * 30)
    (nothing,) = composition.of_nothing()
    assert (nothing.wrong, nothing.cause, nothing.n) == ("nothing", "nothing", 50)
    assert max(nothing.look, nothing.content, nothing.whole) <= 0.1
    (look,) = composition.of_damage("of look", "visible", composition.clean + 3 * across)
    assert (look.wrong, look.cause, look.at, look.look) == ("of look", "damage", "visible", 1)
    assert look.content <= 0.1
    # Chance in content drowns it there.
    assert look.whole < 0.8
    (content,) = composition.of_damage("of content", "weakest", composition.clean + 12 * along)
    assert (content.at, content.content, content.look <= 0.1) == ("weakest", 1, True)


def test_sets_are_drawn_as_they_are_called(drawn, monkeypatch):
    monkeypatch.setattr(content, "SIZES", (25,))
    labels = [0] * 20 + [1] * 12 + [2] * 8
    ladders_of(composition_of(labels, named=["abc"[k] for k in labels]))
    kind = np.array(labels)
    shares = [[float((kind[rows] == k).mean()) for k in range(3)] for _, rows in drawn]
    expected = [
        *([0, 0.6, 0.4], [0.5 / 0.7, 0, 0.2 / 0.7], [0.5 / 0.8, 0.3 / 0.8, 0]),
        *([0.6, 0.24, 0.16], [0.7, 0.18, 0.12], [0.9, 0.06, 0.04]),
        *([1, 0, 0], [0, 1, 0], [0, 0, 1]),
    ]
    assert np.allclose(shares[:9], expected, atol=0.02)
    assert [share == 0 for row in shares[:9] for share in row] == [share == 0 for row in expected for share in row]
    for (real, fake), count in zip(drawn[9:], (20, 10, 5), strict=True):
        assert {len(set(rows)) for rows in fake.tolist()} == {count}
        assert np.allclose([float((kind[real] == k).mean()) for k in range(3)], [0.5, 0.3, 0.2], atol=0.02)
        # Composition varies on both sides as that of random samples does.
        assert np.std((kind[real] == 0).mean(1)) == pytest.approx(np.sqrt(0.5 * 0.5 / 25), rel=0.3)


def test_the_largest_kind_falls_where_it_cannot_rise(drawn, monkeypatch):
    monkeypatch.setattr(content, "SIZES", (25,))
    labels = [0] * 35 + [1] * 5
    ladders = ladders_of(composition_of(labels, named=["most" if k == 0 else "few" for k in labels]))
    assert [step.name for step in ladders[1].steps] == ["most 88 to 78 %", "most 88 to 68 %", "most 88 to 48 %"]
    assert (np.array(labels)[drawn[4][1]] == 0).mean() == pytest.approx(0.475, abs=0.02)


def test_draws_are_those_of_the_seed():
    one, same, other = (composition_of([0, 1] * 20, seed=seed) for seed in (0, 0, 1))
    other.clean = one.clean
    assert ladders_of(one) == ladders_of(same)
    blurred = [
        each.of_damage("blur", "visible", each.clean + 0.3 * torch.eye(FEATURES)[3]) for each in (one, same, other)
    ]
    assert blurred[0] == blurred[1] != blurred[2]


def test_images_of_one_kind_can_only_be_repeated():
    composition = composition_of([0] * 40 + [1] * 3)
    (ladder,) = ladders_of(composition)
    assert ladder.name == "images repeated"
    assert [step.name for step in ladder.steps] == [f"{k} images repeated" for k in (20, 10, 5)]
    assert composition.withheld[1:] == [
        "content of kind 1: fewer than 4 images are of this kind",
        "content by kind: the images are of 1 kind(s), and two are needed",
    ]


def test_power_by_units_is_withheld_where_images_are_in_groups():
    composition = composition_of([0, 1] * 60, units=[f"slide {i // 3}" for i in range(120)])
    found = ladders_of(composition)
    assert {draws.n for ladder in found for step in ladder.steps for draws in step.draws} == {40}
    assert "power of content: images are drawn one by one" in composition.withheld[1]


def test_too_few_units_leave_the_kinds_alone():
    composition = composition_of([0, 1] * 12)
    assert composition.counts == {"kind 0": 12, "kind 1": 12}
    damaged = composition.of_damage("blur", "visible", composition.clean)
    assert [*ladders_of(composition), *composition.of_nothing(), *damaged] == []
    assert composition.withheld == [
        "content and cross-talk at 25, 40, 50, 100 images a side: as many units are needed, and there are 24"
    ]
