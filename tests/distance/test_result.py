import json
import math

import pytest

from tests.test_statistics import ID, latents
from torchmetrics_rl2 import Statistics, compare
from torchmetrics_rl2.functional import latent_sums


def test_without_groups_no_p_value_is_printed():
    real, fake = latents(40), latents(40, seed=1)
    each = [str(i) for i in range(40)]
    with_groups = Statistics.of_latents(real, each, **ID)
    for sides in ((real, None), (None, real), (real, real)):
        result = compare(
            with_groups if sides[0] is None else Statistics.of_latents(sides[0], **ID),
            Statistics.of_latents(fake, each, **ID) if sides[1] is None else Statistics.of_latents(sides[1], **ID),
        )
        assert "p-value" not in str(result)
        side = {1: " on the generated side", 2: " on the real side", 0: ""}[(sides[0] is None) + 2 * (sides[1] is None)]
        assert f"assumes independent patches{side}" in str(result)
        assert result.to_dict()["p_value"] is None
        assert result.to_dict()["assumes_independence"] is True
    result = compare(with_groups, Statistics.of_latents(fake, each, **ID))
    assert f"p-value of no difference {result.p_value:.2g}" in str(result)
    assert "of 40 generated and 40 real groups" in str(result)
    assert result.to_dict()["p_value"] == result.p_value


def test_a_value_outside_of_its_interval_says_why():
    sides = [Statistics.of_latents(latents(40, seed, d=200), **ID) for seed in range(2)]
    result = compare(*sides)
    assert result.value > result.interval[1]
    assert "RL2 itself is outside: chance adds to it" in str(result)


@pytest.mark.parametrize(
    ("fake", "sentence"),
    [
        (Statistics.of_latents(latents(3), **ID), "at least 4 images a side, but the generated side has 3 images"),
        (
            Statistics.of_latents(latents(9), list("aaabbbccc"), **ID),
            "but the generated side has 9 images in 3 group(s)",
        ),
        (Statistics.of_latents(latents(9) * math.nan, **ID), "there are NaN latents"),
        (Statistics(latent_sums(latents(9)), **ID), "ResNetL2(uncertainty=True) and 'rl2 stats'"),
        *(
            (Statistics.of_latents(latents(9) * size, groups, **ID), "No interval")
            for size in (1e80, 1e90, 1e160)
            for groups in (None, list("abcdefghi"))
        ),
    ],
)
def test_where_there_is_no_interval_it_says_why(fake, sentence):
    result = compare(Statistics.of_latents(latents(10), **ID), fake)
    assert (result.interval, result.p_value, result.variance_ratio) == (None, None, None)
    assert sentence in str(result)
    json.dumps(result.to_dict(), allow_nan=False)


def test_a_result_is_json_whatever_is_missing():
    copies = Statistics.of_latents(latents(1).repeat(9, 1), **ID)
    one = Statistics.of_latents(latents(9), ["a"] * 9, **ID)
    for result in (compare(copies, copies), compare(copies, one), compare(one, copies), compare(one, one)):
        json.dumps(result.to_dict(), allow_nan=False)
        assert str(result)
