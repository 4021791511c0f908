from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Generator

from torchmetrics_rl2 import Statistics, compare
from torchmetrics_rl2.distance import Kinds
from torchmetrics_rl2.distance.differences import difference
from torchmetrics_rl2.planning.power import Difference, Pilot, least_length, least_units

D = 24
SCALES = torch.linspace(0.3, 2.0, D, dtype=torch.float64)
KINDS = Kinds(
    4 * torch.eye(D)[:3], torch.log(torch.tensor([0.3, 0.3, 0.4])), ["one", "two", "three"], leaks=(0.15, 0.1)
)


def latents(n, generator):
    return SCALES * torch.randn(n, D, generator=generator, dtype=torch.float64)


@pytest.fixture(scope="module")
def pilot():
    return latents(3000, Generator().manual_seed(1))


def shifted(axis, length):
    vector = torch.zeros(D, dtype=torch.float64)
    vector[axis] = length
    return vector


def found(part, result):
    if part == "whole":
        return result.interval[0] > 0
    return f"{part} differs" in result.verdict or f"{part} clearly differs" in result.verdict


@pytest.mark.parametrize(
    ("part", "axis", "length", "n"), [("whole", 0, 1.05, 60), ("look", D - 1, 1.9, 40), ("content", 0, 0.4, 40)]
)
def test_power_is_that_of_the_verdict_on_drawn_images(pilot, part, axis, length, n):
    kinds = None if part == "whole" else KINDS
    chance = Pilot(Statistics.of_latents(pilot, kinds=kinds), kinds)
    vector = shifted(axis, length)
    expected = chance.power(chance.shift(vector), part, n)
    assert 0.4 < expected < 0.95
    generator, hits = Generator().manual_seed(0), 0
    for _ in range(150):
        sides = (latents(n, generator), latents(n, generator) + vector)
        hits += found(part, compare(*(Statistics.of_latents(z, kinds=kinds) for z in sides)))
    assert hits / 150 == pytest.approx(expected, abs=0.1)


def test_with_groups_power_is_that_of_the_test(pilot):
    generator = Generator().manual_seed(0)

    def slides(n):
        means = 0.8 * latents(n, generator)
        return (means[:, None] + latents(6 * n, generator).view(n, 6, D)).flatten(0, 1), [
            str(i) for i in range(n) for _ in range(6)
        ]

    chance = Pilot(Statistics.of_latents(*slides(600)), None)
    vector = shifted(0, 1.6)
    expected = chance.power(chance.shift(vector), "whole", 15)
    assert 0.3 < expected < 0.95
    hits = 0
    for _ in range(150):
        real, fake = slides(15), latents(90, generator) * 1.28 + vector
        sides = Statistics.of_latents(*real), Statistics.of_latents(fake, [str(i) for i in range(90)])
        hits += compare(*sides).p_value < 0.05
    assert hits / 150 == pytest.approx(expected, abs=0.1)


def test_a_small_pilot_says_much_the_same_as_a_large_one(pilot):
    large = Pilot(Statistics.of_latents(pilot), None)
    small = [Pilot(Statistics.of_latents(z), None) for z in pilot.split(40)[:10]]
    vector = shifted(0, 1.2)
    powers = [one.power(one.shift(vector), "whole", 60) for one in small]
    assert np.mean(powers) == pytest.approx(large.power(large.shift(vector), "whole", 60), abs=0.08)


def test_a_shift_where_real_images_vary_is_harder_to_find(pilot):
    """At a power below one half it is easier; above it, noise along the shift loses draws."""
    chance = Pilot(Statistics.of_latents(pilot), None)
    still, restless = (chance.shift(shifted(axis, 2.5)) for axis in (0, D - 1))
    assert chance.power(still, "whole", 40) > chance.power(restless, "whole", 40) > 0.5


def test_more_images_find_smaller_shifts(pilot):
    chance = Pilot(Statistics.of_latents(pilot), None)
    shift = chance.by_chance("whole")
    few, many = (least_length(lambda length, n=n: chance.power(shift, "whole", n, length), 0.8) for n in (50, 200))
    assert many == pytest.approx(few / 2, rel=0.05)
    assert chance.power(shift, "whole", 50, few) == pytest.approx(0.8, abs=0.01)


def test_the_least_number_is_the_least():
    assert least_units(lambda n: n >= 137) == 137
    assert least_units(lambda n: True) == 4
    assert least_units(lambda n: n > 10_000_000) is None


def test_a_difference_of_two_generators_needs_as_many_as_find_it():
    generator = Generator().manual_seed(0)
    real = latents(200, generator)
    pilots = [latents(3000, generator) + shifted(0, length) for length in (2.0, 2.4)]
    planned = Difference.of(*(Statistics.of_latents(z) for z in (real, *pilots)))
    n = planned.needed(planned.value, 0.8)
    assert 10 < n < 2000
    hits = 0
    for _ in range(120):
        fakes = [latents(n, generator) + shifted(0, length) for length in (2.0, 2.4)]
        hits += difference(*(Statistics.of_latents(z).units for z in (real, *fakes))).p_value < 0.05
    assert 0.7 <= hits / 120 <= 0.9


def test_few_real_images_bound_what_any_number_of_generated_ones_finds():
    generator = Generator().manual_seed(0)
    real = Statistics.of_latents(latents(8, generator))
    fakes = [Statistics.of_latents(latents(50, generator) + shifted(D - 1, length)) for length in (3.0, -3.1)]
    planned = Difference.of(real, *fakes)
    assert planned.needed(0.01, 0.8) is None


@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_the_least_length_is_as_precise_at_any_scale(scale):
    assert least_length(lambda length: float(length >= 3 * scale), 0.8) == pytest.approx(3 * scale, rel=1e-5)


def test_where_no_length_is_needed_it_is_zero():
    assert least_length(lambda _: 1.0, 0.8) == 0


def test_power_of_content_beside_look_is_that_of_the_verdict(pilot):
    """The look carries content along, away from the tissue that is missing."""
    carried = torch.zeros(3, D)
    carried[0, D - 1] = 0.02
    kinds = replace(KINDS, carried=carried)
    chance = Pilot(Statistics.of_latents(pilot, kinds=kinds), kinds)
    vector = shifted(0, 0.9) + shifted(D - 1, 2.0)
    expected = chance.power(chance.shift(vector), "content", 40)
    assert 0.4 < expected < 0.95
    generator, hits = Generator().manual_seed(0), 0
    for _ in range(150):
        sides = (latents(40, generator), latents(40, generator) + vector)
        hits += found("content", compare(*(Statistics.of_latents(z, kinds=kinds) for z in sides)))
    assert hits / 150 == pytest.approx(expected, abs=0.1)
