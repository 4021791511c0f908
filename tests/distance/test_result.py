import json
import math
from dataclasses import replace

import pytest

from tests.distance.test_statistics import ID, latents
from torchmetrics_rl2 import Statistics, compare
from torchmetrics_rl2.distance.statistics import REFERENCE
from torchmetrics_rl2.distance.text import p_text, three_digits
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
        assert "p-value" not in result.details()
        side = {1: " on the generated side", 2: " on the real side", 0: ""}[(sides[0] is None) + 2 * (sides[1] is None)]
        assert f"assuming independent patches{side}" in result.details()
        assert result.to_dict()["p_value"] is None
        assert result.to_dict()["assumes_independence"] is True
    result = compare(with_groups, Statistics.of_latents(fake, each, **ID))
    assert f"p-value of no difference: {result.p_value:.2g}" in result.details()
    assert "with 40 generated and 40 real groups as units" in result.details()
    assert result.to_dict()["p_value"] == result.p_value


def test_a_value_outside_of_its_interval_says_why():
    sides = [Statistics.of_latents(latents(40, seed, d=200), **ID) for seed in range(2)]
    result = compare(*sides)
    assert result.value > result.interval[1]
    assert "RL2 itself lies outside, because small samples add to it" in result.details()


@pytest.mark.parametrize(
    ("fake", "sentence"),
    [
        (Statistics.of_latents(latents(3), **ID), "at least 4 images a side; the generated side has 3 images"),
        (
            Statistics.of_latents(latents(9), list("aaabbbccc"), **ID),
            "the generated side has 9 images in 3 group(s)",
        ),
        (Statistics.of_latents(latents(9) * math.nan, **ID), "there are NaN latents"),
        (Statistics(latent_sums(latents(9)), **ID), "ResNetL2(uncertainty=True) and 'rl2 stats'"),
        *(
            (Statistics.of_latents(latents(9) * size, groups, **ID), "no interval")
            for size in (1e80, 1e90, 1e160)
            for groups in (None, list("abcdefghi"))
        ),
    ],
)
def test_where_there_is_no_interval_it_says_why(fake, sentence):
    result = compare(Statistics.of_latents(latents(10), **ID), fake)
    assert (result.interval, result.p_value, result.variance_ratio) == (None, None, None)
    assert sentence in result.details()
    assert result.verdict == ""
    json.dumps(result.to_dict(), allow_nan=False)


def test_a_result_is_json_whatever_is_missing():
    copies = Statistics.of_latents(latents(1).repeat(9, 1), **ID)
    one = Statistics.of_latents(latents(9), ["a"] * 9, **ID)
    for result in (compare(copies, copies), compare(copies, one), compare(one, copies), compare(one, one)):
        json.dumps(result.to_dict(), allow_nan=False)
        assert str(result)
        assert result.details()


def test_the_verdict_says_whether_there_is_a_difference_beyond_chance():
    real = Statistics.of_latents(latents(40, d=20), **ID)
    for shift, verdict in ((0.0, "no difference beyond chance"), (0.45, "different"), (2.0, "clearly different")):
        result = compare(real, Statistics.of_latents(latents(40, seed=1, d=20) + shift, **ID))
        assert result.verdict == verdict
        assert str(result).endswith(f"x the real-against-real baseline at these sample sizes: {verdict}")
        assert result.to_dict()["verdict"] == verdict


def test_with_groups_the_verdict_is_that_of_their_test():
    """Patches of four slides a side differ by their slides alone: the interval of patches is sure, the test is not."""
    slide = latents(8, d=20).repeat_interleave(20, 0) * 2
    z, names = slide + latents(160, seed=1, d=20), [str(i // 20) for i in range(160)]
    halves = z[:80], z[80:]
    independent = compare(*(Statistics.of_latents(half, **ID) for half in halves))
    grouped = compare(*(Statistics.of_latents(half, names[i * 80 :][:80], **ID) for i, half in enumerate(halves)))
    assert independent.verdict == "clearly different"
    assert grouped.p_value > 0.05
    assert grouped.verdict == "no difference beyond chance"


def test_against_the_reference_of_weights_it_says_that_this_is_no_verdict_on_a_generator():
    reference = Statistics.of_latents(latents(40), source=REFERENCE, **ID)
    result = compare(reference, Statistics.of_latents(latents(40, seed=1) + 3, **ID))
    first, second = str(replace(result, reference_data="LC25000")).splitlines()
    assert first.endswith("against the reference data inside the weights, LC25000: clearly different")
    assert "no verdict on a generator" in second
    assert "--real" in second


@pytest.mark.parametrize(
    ("p_value", "text"),
    [(0.0, "< 0.001"), (1e-211, "< 0.001"), (0.00123, "0.0012"), (0.0499, "0.0499"), (0.0501, "0.05"), (1.0, "1")],
)
def test_p_values_are_never_0(p_value, text):
    assert p_text(p_value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(90.3557, "90.4"), (5.2, "5.20"), (0.68649, "0.686"), (1234.5, "1230"), (999.6, "1000"), (-3.21049, "-3.21"),
     (0, "0"), (1.2e-9, "1.2e-09"), (3.4e12, "3.4e+12"), (math.nan, "nan")],
)  # fmt: skip
def test_three_digits_are_enough(value, text):
    assert three_digits(value) == text


def test_an_outlier_share_that_says_nothing_is_not_printed():
    result = compare(Statistics.of_latents(latents(40), **ID), Statistics.of_latents(latents(40, seed=1), **ID))
    for share, said in ((0.004, ""), (0.3, "30.0 % lower: a.png"), (-0.06, "6.0 % higher: a.png")):
        details = replace(result, outlier_share=share, outliers=["a.png"]).details()
        assert ("furthest from the real mean (1 of 40)" in details) == bool(said)
        assert said in details


def test_below_the_baseline_and_different_says_why():
    real = Statistics.of_latents(latents(400, d=50), **ID)
    result = compare(real, Statistics.of_latents(0.01 * latents(400, seed=1, d=50) + 0.02, **ID))
    assert result.baseline_multiple < 1
    assert str(result).endswith(", below 1x because generated images vary less than real ones: different")


def test_scalars_are_all_numbers_that_are_known():
    real, fake = (Statistics.of_latents(latents(40, seed), **ID) for seed in range(2))
    result = compare(real, fake)
    found = result.scalars("val/")
    assert found["val/rl2"] == result.value
    assert (found["val/rl2_low"], found["val/rl2_high"]) == result.interval
    assert (found["val/variance_ratio_low"], found["val/variance_ratio_high"]) == result.variance_ratio_interval
    assert all(type(value) is float and key.startswith("val/") for key, value in found.items())
    assert "val/p_value" not in found  # of images taken as independent
    assert "val/domain_shift" not in found  # nothing is known of it
    each = [str(i) for i in range(40)]
    grouped = compare(*(Statistics.of_latents(latents(40, seed), each, **ID) for seed in range(2)))
    assert grouped.scalars()["p_value"] == grouped.p_value
    few = compare(*(Statistics.of_latents(latents(2, seed), **ID) for seed in range(2)))
    assert "rl2_low" not in few.scalars()


def test_an_interval_below_zero_is_that_of_copies():
    result = compare(*(Statistics.of_latents(latents(40, seed), **ID) for seed in range(2)))
    assert "copies" not in result.verdict
    assert replace(result, interval=(-5.0, -0.1)).verdict == "closer than chance allows, as copies of real images are"
    assert replace(result, copied=[("a", "b")] * 21).verdict == "generated images are copies of real ones"


def test_notebooks_show_a_table():
    result = compare(*(Statistics.of_latents(latents(40, seed), **ID, source=f"<{seed}>") for seed in range(2)))
    shown = result._repr_html_()
    assert shown.startswith("<table><tr><th>RL2</th><td>")
    assert "&lt;1&gt;" in shown
    assert "<1>" not in shown
    assert f"40 images, {'&lt;0&gt;'}" in shown
