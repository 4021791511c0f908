import numpy as np
import pytest
import torch

from torchmetrics_rl2 import Statistics, compare
from torchmetrics_rl2.auditing.draws import Population
from torchmetrics_rl2.distance.kinds import Kinds


def normal(count, features, seed=0):
    return torch.randn(count, features, generator=torch.Generator().manual_seed(seed))


def kinds_of(features, count=4):
    return Kinds(3 * normal(count, features, seed=9), torch.zeros(count), [f"kind {k}" for k in range(count)])


@pytest.mark.parametrize(("features", "sizes"), [(6, (30, 25)), (64, (12, 30))])
@pytest.mark.parametrize("has_kinds", [True, False])
def test_many_pairs_have_the_numbers_of_compare(features, sizes, has_kinds):
    means = kinds_of(features)
    kinds = means if has_kinds else None
    clean = normal(80, features) + means.means[torch.arange(80) % 4]
    # Damaged, and of another composition, so that both parts have a limit.
    latents = torch.cat([clean, clean[:40] + 0.4, clean[::4]])
    draws = np.random.default_rng(0)
    real = draws.integers(80, size=(15, sizes[0]))
    fake = np.concatenate([draws.integers(low, high, (5, sizes[1])) for low, high in ((0, 80), (80, 120), (120, 140))])
    found = Population(latents, kinds).tests(real, fake)
    assert set(found.p_values) == ({"content", "look", "whole"} if has_kinds else {"whole"})
    limited = 0
    for i in range(15):
        sides = (Statistics.of_latents(latents[rows[i]], None, kinds) for rows in (real, fake))
        result = compare(*sides)
        for name in found.p_values:
            part = result if name == "whole" else getattr(result, name)
            assert found.debiased[name][i] == pytest.approx(part.debiased, rel=1e-9)
            assert found.p_values[name][i] == pytest.approx(part.p_value, rel=1e-9)
            limited += name != "whole" and part.limit > 0
        assert found.highest_ratio[i] == pytest.approx(result.variance_ratio_interval[1], rel=1e-9)
    assert limited > 5 or not has_kinds


def test_images_that_are_all_the_same_vary_less():
    clean = normal(40, 8)
    found = Population(torch.cat([clean, clean[:1].expand(5, 8)]), kinds_of(8)).tests(
        np.arange(40)[None], np.arange(40, 45)[None]
    )
    assert found.highest_ratio.tolist() == [0]
    assert all(np.isfinite(p_values).all() for p_values in found.p_values.values())
