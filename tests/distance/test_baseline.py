import math

import pytest
import torch
from torch import Generator

from tests.distance.test_statistics import ID, latents
from torchmetrics_rl2 import ResNetL2, Statistics, compare
from torchmetrics_rl2.functional import resnet_l2


def slides(counts, generator, d=40):
    """Latents of slides that differ, and their names."""
    means = 1.5 * torch.randn(len(counts), d, generator=generator, dtype=torch.float64)
    names = [str(i) for i, count in enumerate(counts) for _ in range(count)]
    z = means.repeat_interleave(torch.tensor(counts), 0)
    return z + torch.randn(len(z), d, generator=generator, dtype=torch.float64), names


def test_of_images_it_is_what_random_halves_of_them_score():
    """Halves of n real images are two sets of n / 2: the mean square over splits is that of the formula."""
    z, generator = latents(60, d=30), Generator().manual_seed(0)
    orders = [torch.randperm(60, generator=generator) for _ in range(400)]
    squares = torch.stack([resnet_l2(z[order[:30]], z[order[30:]]) ** 2 for order in orders])
    parts = (Statistics.of_latents(z, **ID), Statistics.of_latents(z, **ID))
    halves = compare(*parts).baseline * 2**0.5
    assert squares.mean().sqrt().item() == pytest.approx(halves, rel=0.01)


REAL, FAKE = [8, 4, 12, 6] * 8, [3, 9] * 10


@pytest.mark.parametrize("of_fake", [FAKE, [1] * 120, None], ids=["grouped", "one image a group", "no groups"])
def test_of_groups_it_is_what_two_sets_of_slides_of_these_sizes_score(of_fake):
    generator, squares, baselines = Generator().manual_seed(0), [], []
    for _ in range(200):
        real, names = slides(REAL, generator)
        other, _ = slides(of_fake or [1] * 120, generator)
        fake = Statistics.of_latents(other + 3, None if of_fake is None else slides(of_fake, generator)[1], **ID)
        squares.append(resnet_l2(real, other).item() ** 2)
        baselines.append(compare(Statistics.of_latents(real, names, **ID), fake).baseline ** 2)
    assert sum(baselines) == pytest.approx(sum(squares), rel=0.04)


def test_real_against_real_is_once_the_baseline_at_any_number():
    for n, m in ((20, 20), (20, 400), (400, 20)):
        times = []
        for seed in range(40):
            real, fake = latents(n, 2 * seed, d=50), latents(m, 2 * seed + 1, d=50)
            times.append(
                compare(Statistics.of_latents(real, **ID), Statistics.of_latents(fake, **ID)).baseline_multiple
            )
        assert sum(times) / len(times) == pytest.approx(1, rel=0.04)


def test_patches_of_few_slides_raise_it():
    z, names = slides([20] * 6, Generator().manual_seed(0))
    apart, together = (Statistics.of_latents(z, groups, **ID) for groups in (None, names))
    assert compare(together, together).baseline > 3 * compare(apart, apart).baseline


def test_where_it_is_withheld_it_says_why():
    copies = Statistics.of_latents(latents(1).repeat(9, 1), **ID)
    fake = Statistics.of_latents(latents(9, 1), **ID)
    for real, why in (
        (copies, "all real images are the same"),
        (
            Statistics.of_latents(latents(1), **ID),
            "it needs at least two real images, and a verdict four; there is one",
        ),
        (
            Statistics.of_latents(latents(9), ["a"] * 9, **ID),
            "it needs at least two real groups, and a verdict four; there is one",
        ),
        (Statistics.of_latents(latents(9) * math.nan, **ID), "some latents are NaN"),
        (Statistics.of_latents(latents(9) * 1e200, **ID), "or too large"),
    ):
        result = compare(real, fake)
        assert (result.baseline, result.baseline_multiple) == (None, None)
        assert why in result.withheld["baseline_multiple"]
        assert f"no multiple of the baseline, {result.withheld['baseline_multiple']}" in str(result)


def test_copies_have_none_whatever_rounding_leaves_of_their_variance():
    fake = Statistics.of_latents(latents(9, 1), **ID)
    for n in (3, 6, 7, 11):
        copies = Statistics.of_latents(latents(1, n).repeat(n, 1) * 1e3, **ID)
        assert compare(copies, fake).baseline_multiple is None


def test_the_metric_has_it_from_sums_alone(encoder, images):
    metric = ResNetL2(encoder)
    metric.update(images[:6], real=True)
    metric.update(images[6:], real=False)
    result = metric.result()
    sides = (Statistics.of_latents(encoder(images[part])) for part in (slice(6), slice(6, 12)))
    assert result.baseline_multiple == pytest.approx(compare(*sides).baseline_multiple, rel=1e-5)
    assert (result.outlier_share, result.outliers, result.diversity) == (None, None, None)
    assert list(result.withheld) == ["outlier_share", "diversity"]


def test_a_metric_without_images_has_none(encoder):
    with pytest.warns(UserWarning, match="0 real and 0 generated"):
        result = ResNetL2(encoder).result()
    assert result.baseline is None
