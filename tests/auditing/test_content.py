from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.auditing.test_checks import subject_of
from torchmetrics_rl2.auditing import content
from torchmetrics_rl2.auditing.content import LADDERS, Damaged, content_fields, content_ladders
from torchmetrics_rl2.auditing.draws import Population
from torchmetrics_rl2.auditing.meter import Meter
from torchmetrics_rl2.distance.kinds import Kinds

FEATURES = 16


def kinds_apart(count=2, distance=12.0):
    """Kinds whose means lie on the first axes."""
    means = distance * torch.eye(count, FEATURES)
    return Kinds(means, torch.full((count,), 1 / count).log(), [f"kind {k}" for k in range(count)])


def latents_of(kinds, labels, seed=0):
    noise = torch.randn(len(labels), FEATURES, generator=torch.Generator().manual_seed(seed))
    return noise + kinds.means[torch.tensor(labels)]


def meter(total=0, told=None):
    return Meter(None, None if told is None else lambda *report: told.append(report), total)


def found_on(labels, kinds=None, named=None, damage=(), units=None, seed=0):
    kinds = kinds or kinds_apart(max(labels) + 1)
    clean = latents_of(kinds, labels)
    subject = replace(subject_of(len(labels), units), kinds=named)
    damaged = [Damaged(name, "visible", clean + shift) for name, shift in damage]
    withheld = []
    return content_fields(subject, clean, damaged, kinds, seed, meter(), withheld), withheld


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
    found, withheld = found_on([0, 1] * 30)
    assert found["kinds"] == {"kind 0": 30, "kind 1": 30}
    assert [ladder.name for ladder in found["content"]] == list(LADDERS)
    missing, mixture, one, repeats = found["content"]
    assert missing.verdict == one.verdict == mixture.verdict == "detects"
    # 40 points of 60 images are seen in almost all draws, ten in few, and more in larger sets.
    rising = [step.draws[-1].content for step in mixture.steps]
    assert rising == sorted(rising)
    assert rising[0] < 0.5 < 0.9 < rising[2]
    assert [draws.n for draws in mixture.steps[1].draws] == [25, 40, 50]
    assert mixture.steps[1].draws[0].content < mixture.steps[1].draws[2].content
    assert repeats.steps[-1].draws[-1].varies_less > repeats.steps[0].draws[-1].varies_less
    assert withheld == [
        "content and cross-talk at 100 images a side: as many units are needed, and there are 60",
    ]


def test_what_content_does_not_span_it_is_blind_to():
    """Labels that have nothing to do with the kinds of the weights."""
    found, _ = found_on([0, 1] * 30, named=["left", "left", "right", "right"] * 15)
    assert found["kinds"] == {"left": 30, "right": 30}
    assert [ladder.verdict for ladder in found["content"][:3]] == ["blind"] * 3
    assert max(found["content"][0].power.values()) <= 0.12


def test_cross_talk_is_of_the_part_that_damage_moves():
    along, across = torch.eye(FEATURES)[0] - torch.eye(FEATURES)[1], torch.eye(FEATURES)[2]
    found, _ = found_on([0, 1] * 30, damage=[("of look", 3 * across), ("of content", 12 * along)])
    nothing, *of_content, look, both = found["cross_talk"]
    assert (nothing.wrong, nothing.cause, nothing.n) == ("nothing", "nothing", 50)
    assert max(nothing.look, nothing.content, nothing.whole) <= 0.1
    assert {row.cause for row in of_content} == {"content", "repeats"}
    assert (look.wrong, look.at, look.look) == ("of look", "visible", 1)
    assert look.content <= 0.1
    # Chance in content drowns it there.
    assert look.whole < 0.8
    assert (both.content, both.look <= 0.1) == (1, True)


def test_sets_are_drawn_as_they_are_called(drawn):
    labels = [0] * 20 + [1] * 12 + [2] * 8
    content_ladders(
        latents_of(kinds_apart(3), labels), ["abc"[k] for k in labels], kinds_apart(3), [25], 0, meter(), []
    )
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


def test_the_largest_kind_falls_where_it_cannot_rise(drawn):
    labels = [0] * 35 + [1] * 5
    ladders = content_ladders(
        latents_of(kinds_apart(), labels),
        ["most" if k == 0 else "few" for k in labels],
        kinds_apart(),
        [25],
        0,
        meter(),
        [],
    )
    assert [step.name for step in ladders[1].steps] == ["most 88 to 78 %", "most 88 to 68 %", "most 88 to 48 %"]
    assert (np.array(labels)[drawn[4][1]] == 0).mean() == pytest.approx(0.475, abs=0.02)


def test_draws_are_those_of_the_seed():
    damage = [("blur", 0.3 * torch.eye(FEATURES)[3])]
    one, same, other = (found_on([0, 1] * 20, damage=damage, seed=seed)[0] for seed in (0, 0, 1))
    assert one == same
    assert one["cross_talk"] != other["cross_talk"]


def test_images_of_one_kind_can_only_be_repeated():
    found, withheld = found_on([0] * 40 + [1] * 3)
    assert [ladder.name for ladder in found["content"]] == ["images repeated"]
    assert [step.name for step in found["content"][0].steps] == [f"{k} images repeated" for k in (20, 10, 5)]
    assert withheld[1:] == [
        "content of kind 1: fewer than 4 images are of this kind",
        "content by kind: the images are of 1 kind(s), and two are needed",
    ]


def test_power_by_units_is_withheld_where_images_are_in_groups():
    found, withheld = found_on([0, 1] * 60, units=[f"slide {i // 3}" for i in range(120)])
    assert {draws.n for ladder in found["content"] for step in ladder.steps for draws in step.draws} == {40}
    assert "power of content: images are drawn one by one" in withheld[1]


def test_too_few_units_leave_the_kinds_alone_and_progress_goes_on():
    kinds, told, withheld = kinds_apart(), [], []
    clean = latents_of(kinds, [0, 1] * 12)
    fields = content_fields(
        subject_of(24), clean, [Damaged("blur", "visible", clean)], kinds, 0, meter(5, told), withheld
    )
    assert fields == {"kinds": {"kind 0": 12, "kind 1": 12}}
    assert told[-1][1:3] == (5, 5)
    assert withheld == [
        "content and cross-talk at 25, 40, 50, 100 images a side: as many units are needed, and there are 24"
    ]


def test_progress_is_told_of_each_ladder_and_each_damage():
    kinds, told = kinds_apart(), []
    clean = latents_of(kinds, [0, 1] * 13)
    content_fields(subject_of(26), clean, [Damaged("blur", "visible", clean)], kinds, 0, meter(5, told), [])
    assert [report[1] for report in told] == [1, 2, 3, 4, 5]
