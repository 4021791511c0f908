import math

import pytest
import torch
from torch import Generator

from torchmetrics_rl2.fitting.leaks import leak_of_content, leak_sentences


def test_means_of_few_units_leak_into_look():
    """Against the formula by hand."""
    z = torch.randn(60, 4, generator=Generator().manual_seed(0)).double()
    kinds = torch.tensor([0] * 20 + [1] * 40)
    z[:20, 0] += 8
    basis, means = torch.eye(4).double()[:, :1], torch.stack([z[kinds == k].mean(0) for k in range(2)])
    units = [str(i // 2) for i in range(60)]
    found = leak_of_content(z, means, kinds, units, basis)
    apart = (means - means.mean(0)).square().sum(1)
    look = [float(z[kinds == k][:, 1:].var(0).sum()) for k in range(2)]
    expected = math.sqrt((look[0] / 10 + look[1] / 20) / float(apart.sum()))
    assert found == pytest.approx(expected, rel=1e-9)
    assert leak_of_content(z, means, kinds, [str(i) for i in range(60)], basis) == pytest.approx(
        found / 2**0.5, rel=1e-9
    )


def test_large_leaks_are_said():
    assert leak_sentences(0.49, 0.49) == []
    both = leak_sentences(0.93, 0.61)
    assert len(both) == 1
    assert both[0].startswith(
        "Damage moves content by up to 93% of what it moves look, beyond what look foretells, so content is rarely "
        "judged. O"
    )
    assert leak_sentences(0.1, 0.61)[0].startswith("Other shares of kinds move look by up to 61% of content, so look")


def test_a_kind_at_the_mean_of_all_leaks_no_more_than_another():
    z = torch.randn(60, 4, generator=Generator().manual_seed(0)).double()
    kinds, means = torch.arange(3).repeat(20), torch.tensor([[-3.0], [0], [3]]).double() * torch.eye(4).double()[0]
    units = [str(i) for i in range(60)]
    basis = torch.eye(4).double()[:, :1]
    noise = sum(float(z[kinds == k][:, 1:].var(0).sum()) / 20 for k in range(3))
    assert leak_of_content(z, means, kinds, units, basis) == pytest.approx(math.sqrt(noise / 18), rel=1e-9)
