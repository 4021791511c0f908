import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import beta
from sklearn.covariance import ledoit_wolf

from torchmetrics_rl2 import Calibration, RL2Error
from torchmetrics_rl2.pixels.stain import Stain


def simulated(n=400, d=6, groups=None, shift=0.0, seed=0):
    """Latents and statistics that are normal; patches of a group share a shift."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.arange(n) if groups is None else torch.arange(n) % groups
    common = torch.randn(n, 1, generator=generator)[rows] * shift
    latents = torch.randn(n, d, generator=generator) + common
    statistics = torch.randn(n, 25, generator=generator) * torch.arange(1, 26) + common
    log_det = 0.1 * torch.randn(n, generator=generator)
    flagged = torch.zeros(n, dtype=torch.bool)
    stain = Stain((0.0, 0.0, 0.0), (0.4, 0.6, 0.2))
    kinds = torch.zeros(n, dtype=torch.int64)
    return Calibration(latents, log_det, statistics, kinds, flagged, rows, stain, "random@1", "f" * 64, "good")


def log_density(fitted, judged):
    """Ledoit-Wolf after standardizing, up to a constant, by scikit-learn and NumPy."""
    mean, sd = fitted.mean(0), fitted.std(0, ddof=1)
    covariance, _ = ledoit_wolf((fitted - mean) / sd)
    z = (judged - mean) / sd
    return -0.5 * np.einsum("ni,ij,nj->n", z, np.linalg.inv(covariance), z)


def test_scores_are_standardized_log_densities_of_other_groups():
    good = simulated(100, groups=20)
    z, s = good.latents.double().numpy(), good.statistics.double().numpy()
    parts = np.empty((100, 2))
    fold = good.groups.numpy() % 5
    for k in range(5):
        rows, others = fold == k, fold != k
        parts[rows, 0] = log_density(z[others], z[rows]) + good.log_det.double().numpy()[rows]
        parts[rows, 1] = log_density(s[others], s[rows])
    found = good._scores.parts.numpy()
    # Constants of the folds differ by what the oracle leaves out: the log-determinants.
    for k in range(5):
        np.testing.assert_allclose(np.ptp(found[fold == k] - parts[fold == k], axis=0), 0, atol=2e-3)
    standard = (found - np.sort(found, 0)[49]) / np.sort(np.abs(found - np.sort(found, 0)[49]), 0)[49]
    np.testing.assert_allclose(good.good, np.sort(standard.sum(1)))


def test_a_group_is_never_judged_by_itself():
    good = simulated(100, groups=20, shift=3.0)
    moved = good.latents.clone()
    moved[good.groups == 3] += 50
    strange = replace(good, latents=moved)
    worst = strange._scores.of_good.argsort()[:5]
    assert set(good.groups[worst].tolist()) == {3}


def test_the_threshold_rejects_what_it_promises():
    rejected = []
    for seed in range(20):
        good, further = simulated(200, seed=seed), simulated(1000, seed=seed + 100)
        threshold = good.threshold(0.05)
        assert threshold.false_rejection == 10 / 200
        scores = good.score(further.latents, further.log_det, further.statistics, further.kinds)
        rejected.append(float((scores <= threshold.score).double().mean()))
        low, high = beta.ppf([0.025, 0.975], 10, 191)
        assert threshold.interval == pytest.approx((low, high))
    assert 0.03 < sum(rejected) / 20 < 0.06


def test_groups_that_are_alike_widen_the_interval():
    alone, alike = simulated(200, groups=40), simulated(200, groups=40, shift=3.0)
    assert alone.design_effect < 1.3
    assert alike.design_effect > 2
    (low, high), (lower, higher) = alone.threshold(0.05).interval, alike.threshold(0.05).interval
    assert lower < low
    assert high < higher


def test_flagged_patches_are_the_first_to_go():
    good = simulated(200)
    flagged = torch.zeros(200, dtype=torch.bool)
    flagged[:4] = True
    with_flags = replace(good, flagged=flagged)
    assert with_flags.good[:4].tolist() == [-math.inf] * 4
    assert with_flags.threshold(0.05).score < good.threshold(0.05).score
    assert with_flags.threshold(0.05).false_rejection == 10 / 200
    for rate in (0.01, 0.02):  # two and four may be rejected
        with pytest.raises(RL2Error, match=f"4 of the 200 good patches of good have ink, .* {100 * rate:g} %"):
            with_flags.threshold(rate)


def test_ties_do_not_break_the_promise():
    good = simulated(200)
    worst = int(good._scores.of_good.argmin())
    rows = torch.arange(200)
    rows[torch.arange(200)[good._scores.of_good.argsort()[:30]]] = worst
    # Thirty copies of one patch score the same, each in its fold.
    tied = replace(good, latents=good.latents[rows], statistics=good.statistics[rows], log_det=good.log_det[rows])
    for asked in (0.01, 0.05, 0.1):
        assert tied.threshold(asked).false_rejection <= asked
        assert math.isfinite(tied.threshold(asked).score)


@pytest.mark.parametrize(
    ("n", "groups", "rate", "sentence"),
    [
        (99, None, 0.01, "99 good patches of 99 group(s), too few to reject at most 1 % of good ones"),
        (200, 19, 0.05, "19 group(s)"),
        (200, None, 0.0, "above 0 and at most 0.5"),
        (200, None, 0.6, "above 0 and at most 0.5"),
    ],
)
def test_promises_that_cannot_be_kept_are_not_made(n, groups, rate, sentence):
    with pytest.raises(RL2Error) as error:
        simulated(n, groups=groups).threshold(rate)
    assert sentence in str(error.value)
    assert simulated(100).threshold(0.01).false_rejection == 0.01


def test_percentiles_are_shares_of_good_patches():
    good = simulated(200)
    scores = good.good[[0, 50, 199]]
    assert good.percentile(scores).tolist() == [0.0, 25.0, 99.5]
    assert good.percentile(torch.tensor([-math.inf, 1e9]).double()).tolist() == [0.0, 100.0]


def test_two_sided_scores_fall_on_both_sides():
    good = replace(simulated(200), two_sided=True)
    median = good._scores.parts.median(0).values
    scores = good._scores._sum(median + torch.tensor([[-5.0, 0], [0, 0], [5, 0]]), torch.zeros(3, dtype=torch.int64))
    assert scores[1] > scores[0]
    assert scores[1] > scores[2]


def test_files_round_trip_and_know_their_weights(tmp_path):
    good = simulated(40, groups=20)
    good.save(tmp_path / "c.safetensors")
    again = Calibration.load(tmp_path / "c.safetensors")
    assert again.id == good.id
    assert again.stain == good.stain
    assert torch.equal(again.good, good.good)
    assert again.of("f" * 64) is again
    with pytest.raises(RL2Error, match="these are others"):
        again.of("0" * 64)
    assert replace(good, stain=Stain((0.1, 0, 0), (1, 1, 1))).id != good.id


def test_kinds_are_kept_and_scores_and_identity_depend_on_them(tmp_path):
    good, judged = simulated(60), simulated(20, seed=1)
    several = replace(good, kinds=torch.arange(60) % 3)
    several.save(tmp_path / "c.safetensors")
    again = Calibration.load(tmp_path / "c.safetensors")
    assert torch.equal(again.kinds, several.kinds)
    assert again.id == several.id != good.id
    columns = judged.latents, judged.log_det, judged.statistics
    first, second = (again.score(*columns, torch.full((20,), kind)) for kind in (0, 1))
    assert not torch.equal(first, second)
    assert torch.equal(good.score(*columns, torch.full((20,), 1)), good.score(*columns, judged.kinds))


def test_a_file_that_was_altered_is_refused(tmp_path):
    path = tmp_path / "c.safetensors"
    simulated(40).save(path)
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    with pytest.raises(RL2Error, match="was altered"):
        Calibration.load(path)
    simulated(40).save(path)
    path.write_bytes(path.read_bytes().replace(b'of_weights\\": false', b'of_weights\\": true '))
    with pytest.raises(RL2Error, match="was altered"):
        Calibration.load(path)
    whole = replace(simulated(40), stain=Stain((240, 240, 240), (120, 100, 130)))  # of whole numbers
    whole.save(path)
    assert Calibration.load(path).stain == whole.stain


def test_other_files_and_patches_are_refused(tmp_path, weights_file):
    with pytest.raises(RL2Error, match="not a calibration of good patches"):
        Calibration.load(weights_file)
    with pytest.raises(RL2Error, match="at least 16"):
        simulated(15)
    good = simulated(40)
    with pytest.raises(RL2Error, match="not finite"):
        replace(good, latents=good.latents * math.nan)
    for name in ("log_det", "kinds"):
        with pytest.raises(RL2Error, match="the shapes"):
            replace(good, **{name: getattr(good, name)[:3]})
