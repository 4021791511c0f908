import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Generator

from tests.distance.test_statistics import ID
from torchmetrics_rl2 import Statistics, compare
from torchmetrics_rl2.distance import uncertainty as module
from torchmetrics_rl2.distance.strata import compare_strata, holm
from torchmetrics_rl2.distance.strata_result import StratumResult

D = 6
MEANS = {"gland": 3.0, "muscle": -2.0, "stroma": 0.5}


def draw(counts, seed=0, shifts=None, d=D):
    """Latents of each class, of unit variance about a mean of its own."""
    generator = Generator().manual_seed(seed)
    return {
        name: MEANS[name] + (shifts or {}).get(name, 0.0) + torch.randn(n, d, generator=generator, dtype=torch.float64)
        for name, n in counts.items()
    }


def of(latents, groups=False):
    return {
        name: Statistics.of_latents(z, [f"{name} {i // 2}" for i in range(len(z))] if groups else None)
        for name, z in latents.items()
    }


def whole(latents, groups=False):
    names = [f"{name} {i // 2}" for name, z in latents.items() for i in range(len(z))]
    return Statistics.of_latents(torch.cat([*latents.values()]), names if groups else None, **ID)


def result_of(real, fake, groups=False):
    names = sorted({*real, *fake})
    strata, split = compare_strata(of(real, groups), of(fake, groups), names)
    result = compare(whole(real, groups), whole(fake, groups))
    return replace(result, strata=strata, strata_by="classes", strata_split=split)


REAL = draw({"gland": 30, "muscle": 12, "stroma": 20})
FAKE = draw({"gland": 10, "muscle": 40, "stroma": 16}, seed=1, shifts={"stroma": 1.5})


@pytest.mark.parametrize("groups", [False, True])
def test_each_stratum_is_a_distance_of_its_own(groups):
    strata, _ = compare_strata(of(REAL, groups), of(FAKE, groups), sorted(REAL))
    for found in strata:
        alone = compare(of(REAL, groups)[found.name], of(FAKE, groups)[found.name])
        for name in ("n_real", "n_fake", "value", "debiased", "baseline", "baseline_multiple"):
            assert getattr(found, name) == getattr(alone, name)
        low, high = found.interval
        assert low < alone.interval[0] < alone.interval[1] < high  # it holds for three together
    assert [found.name for found in strata] == ["gland", "muscle", "stroma"]
    assert [found.differs for found in strata] == [False, False, True]


def test_the_split_is_what_numpy_finds_and_its_vectors_add_up():
    _, split = compare_strata(of(REAL), of(FAKE), sorted(REAL))
    real, fake = ({name: z.numpy() for name, z in side.items()} for side in (REAL, FAKE))
    n, m = (sum(map(len, side.values())) for side in (real, fake))
    mixture, within, square, debiased = np.zeros(D), np.zeros(D), 0.0, 0.0
    for name in real:
        p, q = len(real[name]) / n, len(fake[name]) / m
        apart = fake[name].mean(0) - real[name].mean(0)
        mixture += (q - p) * real[name].mean(0)
        within += q * apart
        square += q * apart @ apart
        noise = sum(side[name].var(0, ddof=1).sum() / len(side[name]) for side in (real, fake))
        debiased += q * (apart @ apart - noise)
    apart = np.concatenate([*fake.values()]).mean(0) - np.concatenate([*real.values()]).mean(0)
    np.testing.assert_allclose(mixture + within, apart, atol=1e-12)
    assert split.value == pytest.approx(compare(whole(REAL), whole(FAKE)).value, rel=1e-12)
    assert split.value == pytest.approx(np.linalg.norm(apart), rel=1e-12)
    assert split.mixture == pytest.approx(np.linalg.norm(mixture), rel=1e-12)
    assert split.within == pytest.approx(np.linalg.norm(within), rel=1e-12)
    assert split.conditional == pytest.approx(square**0.5, rel=1e-12)
    assert split.conditional_debiased == pytest.approx(debiased**0.5, rel=1e-9)
    assert (split.n_real, split.n_fake) == (n, m)


@pytest.mark.parametrize("groups", [False, True])
def test_the_debiased_conditional_distance_is_unbiased(groups, monkeypatch):
    """Slides of two patches that resemble each other, and a shift that is small next to chance."""
    monkeypatch.setattr(module, "_detectable", lambda *_: 0.0)
    shifts = {"gland": 0.3, "muscle": -0.2}
    counts = {"gland": 16, "muscle": 12, "stroma": 8}
    truth = D * (16 * 0.3**2 + 12 * 0.2**2) / 36
    found = []
    for seed in range(80):
        sides = [draw(counts, 2 * seed + side, shifts if side else None) for side in range(2)]
        if groups:
            for side, latents in enumerate(sides):
                slides = draw({name: n // 2 for name, n in counts.items()}, 1000 + 2 * seed + side)
                for name, z in latents.items():
                    z += (slides[name] - MEANS[name]).repeat_interleave(2, 0)
        _, split = compare_strata(*(of(latents, groups) for latents in sides), sorted(counts))
        found.append([split.conditional_debiased * abs(split.conditional_debiased), split.conditional**2])
    mean, error = np.mean(found, 0), np.std(found, 0) / len(found) ** 0.5
    assert abs(mean[0] - truth) < 3 * error[0]
    assert mean[1] - truth > 10 * error[1]


def test_holm_is_what_the_closed_test_finds():
    """Of all subsets that hold a hypothesis, the largest of Bonferroni's p-values; and by hand."""
    for p_values in ([0.01, 0.04, 0.03], [0.5, 0.2, 0.9, 0.001], [0.02], [0.03, 0.03, 0.01, 0.6], []):
        expected = []
        for i in range(len(p_values)):
            others = [p for j, p in enumerate(p_values) if j != i]
            subsets = ([p_values[i], *rest] for k in range(len(p_values)) for rest in itertools.combinations(others, k))
            expected.append(max(min(1.0, len(subset) * min(subset)) for subset in subsets))
        assert holm(p_values) == pytest.approx(expected, rel=1e-12)
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


def test_with_groups_adjusted_p_values_decide_and_without_there_are_none():
    grouped = result_of(REAL, FAKE, groups=True)
    alone = [compare(of(REAL, True)[name], of(FAKE, True)[name]).p_value for name in sorted(REAL)]
    assert [one.p_value for one in grouped.strata] == pytest.approx(holm(alone))
    assert [one.p_value < 0.05 for one in grouped.strata] == [one.differs for one in grouped.strata]
    assert "p-values are adjusted for their number" in grouped.details()
    independent = result_of(REAL, FAKE)
    assert [one.p_value for one in independent.strata] == [None] * 3
    assert [one.interval[0] > 0 for one in independent.strata] == [one.differs for one in independent.strata]
    assert "p-values need groups" in independent.details()


def test_the_least_of_several_p_values_is_no_difference_by_itself():
    counts = {"gland": 16, "muscle": 16, "stroma": 16}
    real, fake = draw(counts), draw(counts, seed=5, shifts={"stroma": 0.3})
    alone = min(compare(of(real, True)[name], of(fake, True)[name]).p_value for name in counts)
    result = result_of(real, fake, groups=True)
    assert alone < 0.05 < min(one.p_value for one in result.strata)
    assert "none of 3 differs beyond chance" in str(result)


@pytest.mark.parametrize("groups", [False, True])
def test_swapped_classes_are_seen_where_the_whole_is_blind(groups):
    drawn = draw({"gland": 30, "muscle": 30, "stroma": 30}, seed=2)
    swapped = {"gland": drawn["muscle"], "muscle": drawn["gland"], "stroma": drawn["stroma"]}
    result = result_of(draw({"gland": 30, "muscle": 30, "stroma": 30}), swapped, groups)
    assert result.verdict == "no difference beyond chance"
    assert [one.differs for one in result.strata] == [True, True, False]
    assert [one.closest for one in result.strata] == ["muscle", "gland", "stroma"]
    assert "But within classes: 2 of 3 differ: " in str(result)
    assert "closest to real muscle" in str(result)
    split = result.strata_split
    assert split.mixture == pytest.approx(0, abs=1e-12)
    assert split.within < 1
    assert split.conditional_debiased == pytest.approx((2 / 3 * D * 5**2) ** 0.5, rel=0.05)
    assert split.conditional_multiple > 10


def test_sums_alone_have_values_and_claim_nothing():
    bare = [
        {name: replace(one, sums=replace(one.sums, second_moment=None)) for name, one in side.items()}
        for side in (of(REAL), of(FAKE))
    ]
    strata, split = compare_strata(*bare, sorted(REAL))
    wanted = result_of(REAL, FAKE)
    assert vars(split) == pytest.approx(vars(wanted.strata_split), rel=1e-9)
    for found, tested in zip(strata, wanted.strata, strict=True):
        assert found.debiased == pytest.approx(tested.debiased, rel=1e-9)
        assert found == replace(tested, debiased=found.debiased, interval=None, differs=False)
    assert (strata[2].closest, wanted.strata[2].differs) == ("gland", True)
    result = replace(wanted, strata=strata)
    sentence = str(result).splitlines()[-1]
    assert sentence.startswith("Within classes, without intervals: stroma (")
    assert "closest" not in sentence + result.details()
    assert "differs" not in result.details()
    json.dumps(result.to_dict(), allow_nan=False)


def test_real_against_real_is_once_the_baseline():
    found = []
    for seed in range(5):
        sides = (of(draw({"gland": 40, "muscle": 20}, 2 * seed + side, d=100)) for side in range(2))
        found.append(compare_strata(*sides, ["gland", "muscle"])[1].conditional_multiple)
    assert np.mean(found) == pytest.approx(1, abs=0.03)


def test_what_only_one_side_has_or_too_little_of_is_withheld_and_not_split():
    real = REAL | {"fat": 100 + torch.zeros(9, D, dtype=torch.float64)}
    fake = {"gland": FAKE["gland"], "muscle": FAKE["muscle"][:3], "stroma": FAKE["stroma"], "nerve": FAKE["gland"] + 9}
    result = result_of(real, fake)
    reasons = {one.name: one.withheld for one in result.strata}
    assert reasons == {
        "fat": "only real images",
        "gland": "",
        "muscle": "3 generated images, at least 4 are needed",
        "nerve": "only generated images",
        "stroma": "",
    }
    assert next(one for one in result.strata if one.name == "muscle") == StratumResult(
        "muscle", 12, 3, withheld=reasons["muscle"]
    )
    both = [{name: side[name] for name in ("gland", "stroma")} for side in (real, fake)]
    alone = result_of(*both)
    assert result.strata_split == alone.strata_split
    assert [one for one in result.strata if not one.withheld] == alone.strata
    assert result.strata_split.value == pytest.approx(alone.value)
    assert "1 of 2 differs: stroma (" in str(result)
    assert str(result).endswith("; not compared: fat, muscle, nerve")
    assert "not compared: 3 generated images, at least 4 are needed" in result.details()
    assert "over the 2 classes compared (26 generated and 50 real images)" in result.details()
    few = result_of({name: z[:3] for name, z in REAL.items()}, FAKE)
    assert (few.strata_split, {one.value for one in few.strata}) == (None, {None})
    assert "Within classes: none has enough images on both sides" in str(few)
    for one in (result, few):
        json.dumps(one.to_dict(), allow_nan=False)


def test_units_and_not_images_are_to_be_enough():
    real, fake = of(REAL, True), of(FAKE)
    one_slide = {"gland": Statistics.of_latents(REAL["gland"], ["s"] * 30)}
    strata, _ = compare_strata(one_slide, {"gland": real["gland"]}, ["gland"])
    assert strata[0].withheld == "1 real group, at least 4 are needed"
    same = FAKE["gland"][:1]
    repeated = replace(
        Statistics.of_latents(same.repeat(9, 1)),
        repeated=Statistics.of_latents(same.repeat(9, 1), ["a"] * 9).groups,
        duplicates=(("b", "a"),) * 8,
    )
    strata, _ = compare_strata({"gland": fake["gland"]}, {"gland": repeated}, ["gland"])
    assert strata[0].withheld == "1 distinct generated image, at least 4 are needed"


@pytest.mark.parametrize("bad", [float("nan"), 1e90])
def test_a_stratum_with_nan_or_beyond_all_bounds_withholds_itself_alone(bad):
    fake = FAKE | {"muscle": FAKE["muscle"] * bad}
    result = result_of(REAL, fake)
    assert [one.withheld for one in result.strata] == ["", "some latents are NaN or too large", ""]
    assert result.strata_split.n_fake == 26
    json.dumps(result.to_dict(), allow_nan=False)


def test_real_images_that_are_all_the_same_have_no_multiple():
    result = result_of(REAL | {"gland": torch.ones(9, D, dtype=torch.float64)}, FAKE)
    gland = result.strata[0]
    assert (gland.baseline_multiple, gland.differs) == (None, True)
    assert result.strata_split.conditional_multiple is None
    assert "gland, " in str(result) or str(result).endswith("gland")
    json.dumps(result.to_dict(), allow_nan=False)


def test_the_table_is_aligned_and_says_what_is_known():
    lines = result_of(REAL, FAKE, groups=True).details().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("Within classes"))
    head, *rows = lines[start + 1 : start + 5]
    assert head.split() == ["real", "generated", "RL2", "multiple", "debiased", "interval", "p"]
    assert [row.split()[0] for row in rows] == ["gland", "muscle", "stroma"]
    ends = {row.index("x") for row in rows}
    assert len(ends) == 1
    assert rows[0].endswith("1")
    assert rows[2].endswith("< 0.001  differs, closest to real gland")


def test_without_strata_nothing_is_said_of_them():
    result = compare(whole(REAL), whole(FAKE))
    assert (result.strata, result.strata_by, result.strata_split) == ([], "", None)
    assert "ithin" not in str(result) + result.details()


def test_one_stratum_has_nothing_to_split():
    one = result_of({"gland": REAL["gland"]}, {"gland": FAKE["gland"]})
    assert "ithin classes: no difference beyond chance" in str(one)
    assert "Within classes, with a 95 % interval:" in one.details()
    assert "Conditional" not in one.details()
    assert one.strata_split.conditional == pytest.approx(one.value)
