import math
from dataclasses import replace

import pytest
import torch
from torch import Generator

from torchmetrics_rl2 import Statistics, compare
from torchmetrics_rl2.distance.between_groups import between_groups, group_distances
from torchmetrics_rl2.distance.kinds import Kinds
from torchmetrics_rl2.distance.statistics import REFERENCE

KINDS = Kinds(torch.eye(3, 8) * 4, torch.full((3,), -math.log(3)), ("a", "b", "c"))


def labs(apart, count=6, images=40, seed=0, kinds=None, **described):
    """Statistics of laboratories whose means lie so far from their common mean."""
    generator = Generator().manual_seed(seed)
    directions = torch.nn.functional.normalize(torch.randn(count, 8, generator=generator, dtype=torch.float64), dim=1)
    latents = torch.randn(count * images, 8, generator=generator, dtype=torch.float64)
    latents += apart * directions.repeat_interleave(images, 0)
    names = [f"laboratory {i // images}" for i in range(count * images)]
    return Statistics.of_latents(latents, names, kinds, **described), latents.view(count, images, 8)


def test_each_group_is_measured_against_all_others_by_hand():
    statistics, latents = labs(3.0)
    found = group_distances(statistics)
    for row, distance in enumerate(found):
        own, others = latents[row], torch.cat([latents[:row], latents[row + 1 :]])
        noise = own.var(0).sum() / len(own)
        means = others.view(5, 40, 8).mean(1)
        # Groups of one size: the variance of their mean is that of the means of groups.
        noise += means.var(0).sum() / 5
        square = (own.mean(0) - others.flatten(0, -2).mean(0)).square().sum() - noise
        assert distance == pytest.approx(math.copysign(math.sqrt(abs(square)), square), rel=1e-9)


def test_the_range_is_of_the_whole_and_of_both_parts():
    statistics, _ = labs(3.0, kinds=KINDS, settings={"groups": "laboratories"})
    found = between_groups(statistics)
    assert found.units == "laboratories"
    assert found.count == 6
    for part, low_middle_high in (("content", found.content), ("look", found.look)):
        distances = sorted(group_distances(statistics.part(part)))
        assert low_middle_high == (distances[0], (distances[2] + distances[3]) / 2, distances[5])
    assert found.whole[2] > max(found.look[2], found.content[2]) > 0


def test_groups_of_few_images_have_no_distance_and_few_groups_no_range():
    statistics, _ = labs(3.0)
    few = Statistics.of_latents(torch.randn(7, 8, generator=Generator().manual_seed(1)).double(), ["small"] * 7)
    assert between_groups(statistics + few).count == 6
    assert between_groups(labs(3.0, count=4)[0]) is None
    assert between_groups(Statistics.of_latents(torch.randn(50, 8, generator=Generator().manual_seed(1)))) is None


def test_a_result_against_the_reference_says_where_it_lies():
    reference, _ = labs(3.0, source=REFERENCE, settings={"groups": "laboratories"}, kinds=KINDS)
    near = Statistics.of_latents(torch.randn(60, 8, generator=Generator().manual_seed(2)).double(), kinds=KINDS)
    low, _, high = between_groups(reference).whole
    assert low > 0
    for shift, said in (
        (0.0, "closer than real images of any of the 6 laboratories"),
        (50.0, "further than real images"),
    ):
        moved = Statistics.of_latents(
            torch.randn(60, 8, generator=Generator().manual_seed(2)).double() + shift, kinds=KINDS
        )
        result = compare(reference, moved)
        assert said in str(result)
        assert result.to_dict()["between_groups"]["whole"] == pytest.approx(list(between_groups(reference).whole))
    middle = torch.zeros(8, dtype=torch.float64)
    middle[5] = (low + high) / 2
    spread = torch.randn(400, 8, generator=Generator().manual_seed(3), dtype=torch.float64)
    reached = compare(reference, Statistics.of_latents(spread + middle, kinds=KINDS))
    assert low < reached.debiased < high
    assert "as far as real images of some of the 6 laboratories" in str(reached)
    assert compare(replace(reference, source="slides"), near).between_groups is None


def test_of_one_generated_image_nothing_is_said():
    reference, _ = labs(3.0, source=REFERENCE, kinds=KINDS)
    one = Statistics.of_latents(torch.randn(1, 8, generator=Generator().manual_seed(2)).double(), kinds=KINDS)
    result = compare(reference, one)
    assert math.isnan(result.debiased)
    assert "Debiased" not in str(result)
