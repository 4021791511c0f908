import math

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from sklearn.mixture import GaussianMixture
from torch import Generator

from torchmetrics_rl2.networks import Mixture


def normal(n, d, seed=0):
    return torch.randn(n, d, generator=Generator().manual_seed(seed))


def mixture(d, kinds, seed=0):
    """Kinds of different shares around means that overlap a little."""
    found = Mixture(d, kinds)
    found.means.copy_(2 * normal(kinds, d, seed))
    found.log_shares.copy_(normal(1, kinds, seed + 1)[0].log_softmax(0))
    return found


def oracle_of(base):
    """The mixture of scikit-learn with these shares and means, and precisions 1."""
    kinds = len(base.means)
    found = GaussianMixture(kinds, covariance_type="spherical")
    found.weights_, found.means_ = base.log_shares.double().exp().numpy(), base.means.double().numpy()
    found.covariances_ = found.precisions_ = found.precisions_cholesky_ = np.ones(kinds)
    return found


@pytest.mark.parametrize(("d", "kinds"), [(2, 2), (5, 1), (8, 5), (512, 3)])
def test_density_and_responsibilities_are_those_of_scikit_learn(d, kinds):
    base = mixture(d, kinds).double()
    z, oracle = 3 * normal(20, d, seed=7).double(), oracle_of(base)
    np.testing.assert_allclose(base.log_prob(z), oracle.score_samples(z.numpy()), rtol=1e-9)
    np.testing.assert_allclose(base.responsibilities(z), oracle.predict_proba(z.numpy()), rtol=1e-9, atol=1e-12)
    single = base.float().responsibilities(z.float())
    np.testing.assert_allclose(single, oracle.predict_proba(z.numpy()), rtol=0, atol=1e-3)
    torch.testing.assert_close(single.sum(1), torch.ones(20))


def test_density_is_the_sum_over_kinds_in_float64():
    base = mixture(4, 3).double()
    z = 2 * normal(10, 4, seed=3).double()
    each = [
        float(share) + multivariate_normal(mean.numpy(), np.eye(4)).logpdf(z.numpy())
        for mean, share in zip(base.means, base.log_shares, strict=True)
    ]
    np.testing.assert_allclose(base.log_prob(z), logsumexp(each, axis=0), rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_kind_is_the_normal_law_to_the_last_digit(dtype):
    """Eq. 2 of the paper as it stands; weights of one kind keep their likelihoods."""
    z = 3 * normal(50, 512).to(dtype)
    expected = torch.zeros(50, dtype=dtype) - z.square().sum(1) / 2 - 512 / 2 * math.log(2 * math.pi)
    base = Mixture(512).to(dtype)
    assert torch.equal(base.log_prob(z), expected)
    assert torch.equal(base.responsibilities(z), torch.ones(50, 1, dtype=dtype))


def test_latents_far_from_all_kinds_have_a_finite_density_and_a_kind():
    base, far = mixture(8, 3), 1e4 * normal(5, 8)
    assert base.log_prob(far).isfinite().all()
    torch.testing.assert_close(base.responsibilities(far).sum(1), torch.ones(5))


def test_means_and_shares_are_those_of_the_kinds():
    z, kinds = normal(60, 4), torch.tensor([2, 0, 0, 1, 0, 2] * 10)
    base = Mixture(4, 3)
    base.adapt(z, kinds)
    for k, share in enumerate((1 / 2, 1 / 6, 1 / 3)):
        torch.testing.assert_close(base.means[k], z[kinds == k].mean(0))
        assert base.log_shares[k].item() == pytest.approx(math.log(share), rel=1e-6)


def test_the_base_is_taken_from_data_and_never_trained():
    base, z = mixture(4, 2), normal(3, 4).requires_grad_()
    base.log_prob(z).sum().backward()
    assert list(base.parameters()) == []
    assert set(base.state_dict()) == {"means", "log_shares", "leaks"}
    assert z.grad.abs().min() > 0


def test_a_new_base_is_float32_on_the_cpu_whatever_the_defaults():
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device("meta"):
            base = Mixture(3, 4)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(base.means, torch.zeros(4, 3))
    torch.testing.assert_close(base.log_shares.exp(), torch.full((4,), 0.25))
    assert torch.equal(torch.random.get_rng_state(), before)
