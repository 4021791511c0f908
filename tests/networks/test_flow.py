import math

import numpy as np
import pytest
import torch
import zuko
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.covariance import LedoitWolf
from torch import Generator

from tests.conftest import perturbed_flow
from torchmetrics_rl2.networks import RealNVP
from torchmetrics_rl2.networks.flow import CouplingLayer, shrunk_covariance

LINEAR = ["diagonal", "whitening"]


def correlated(n, d, seed=0):
    generator = Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator) @ torch.randn(d, d, generator=generator) + 3


def of_kinds(n, d, kinds=3, seed=0):
    """Correlated features of kinds that lie apart, and the kind of each."""
    labels = torch.arange(n) % kinds
    means = 10 * torch.randn(kinds, d, generator=Generator().manual_seed(seed + 50))
    return correlated(n, d, seed) + (means - means.mean(0))[labels], labels


def adapted(d, linear, **config):
    flow = perturbed_flow(d, linear=linear, **config)
    x, kinds = of_kinds(200, d, flow.config["kinds"])
    flow.adapt(x, kinds if kinds.any() else None)
    return flow


@pytest.mark.parametrize("kinds", [1, 3])
@pytest.mark.parametrize("linear", LINEAR)
@pytest.mark.parametrize("d", [2, 5, 8])
def test_log_determinant_is_that_of_the_jacobian(d, linear, kinds):
    flow = adapted(d, linear, layers=5, hidden=16, scale_bound=0.7, kinds=kinds).double()
    x = correlated(4, d, seed=1).double()
    _, log_det = flow(x)
    jacobians = torch.stack([torch.autograd.functional.jacobian(lambda row: flow(row[None])[0][0], row) for row in x])
    torch.testing.assert_close(log_det, jacobians.slogdet().logabsdet, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("linear", LINEAR)
@settings(max_examples=25, deadline=None)
@given(d=st.integers(2, 64), layers=st.integers(0, 8), seed=st.integers(0, 1000), kinds=st.integers(1, 4))
def test_inverse_undoes_forward(linear, d, layers, seed, kinds):
    flow = perturbed_flow(d, seed=seed, linear=linear, layers=layers, hidden=16, kinds=kinds)
    flow.adapt(*of_kinds(500, d, kinds, seed))
    x = correlated(8, d, seed + 1)
    with torch.no_grad():
        back = flow.inverse(flow(x)[0])
    assert float((back - x).norm() / x.norm()) < 1e-5


def test_agrees_with_zuko_on_the_same_weights():
    d, k = 6, math.log(1e-3)
    flow = adapted(d, "diagonal", layers=4, hidden=16, scale_bound=0.5).double()
    parts = [_affine(-flow.linear.mean * flow.linear.matrix, flow.linear.matrix.log(), k)]
    for coupling in flow.couplings:
        mask = torch.arange(d) < coupling.halves[0]

        def meta(given, coupling=coupling):
            s, t = coupling.conditioner(given).chunk(2, dim=-1)
            s = coupling.scale_bound * torch.tanh(s / coupling.scale_bound)
            return _affine(t * s.exp(), s, k)

        parts += [
            zuko.transforms.PermutationTransform(coupling.permutation),
            zuko.transforms.CouplingTransform(meta, ~mask if coupling.swap else mask),
        ]
    oracle = zuko.transforms.ComposedTransform(*parts)
    base = zuko.distributions.DiagNormal(torch.zeros(d).double(), torch.ones(d).double())
    x = correlated(16, d, seed=3).double()
    z, log_det = oracle.call_and_ladj(x)
    torch.testing.assert_close(flow(x)[0], z, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(flow(x)[1], log_det, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(flow.log_prob(x), base.log_prob(z) + log_det, rtol=1e-6, atol=1e-6)


def _affine(shift, log_scale, k):
    """Zuko's affine transform of a vector, with the argument of its soft-clipped log-scale that gives this one."""
    soft = log_scale / (1 - (log_scale / k).abs())
    return zuko.transforms.DependentTransform(zuko.transforms.MonotonicAffineTransform(shift, soft), 1)


def test_a_new_flow_only_reorders():
    flow, x = RealNVP(8, layers=5), correlated(4, 8)
    z, log_det = flow(x)
    assert torch.equal(z.sort(1).values, x.sort(1).values)
    assert torch.equal(log_det, torch.zeros(4))


def test_every_feature_is_transformed():
    flow = perturbed_flow(7, layers=2, hidden=8)
    _, log_det = flow(correlated(3, 7))
    moved = (
        torch.autograd.functional.jacobian(lambda row: flow(row[None])[0][0], correlated(1, 7)[0]).abs().max(1).values
    )
    assert (moved > 0).all()
    assert log_det.unique().numel() == 3


def test_scale_is_bounded_however_foreign_the_input():
    layer = CouplingLayer(8, 16, 0.2, False, Generator().manual_seed(0))
    with torch.no_grad():
        layer.conditioner[-1].weight.normal_(0, 10)
    _, log_det = layer(1e4 * correlated(16, 8))
    assert log_det.abs().max() <= 4 * 0.2 + 1e-6


def test_construction_and_use_leave_the_global_random_state_alone():
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    flow = RealNVP(16, layers=3, kinds=3)
    flow.adapt(*of_kinds(60, 16))
    flow.kinds(flow(torch.zeros(2, 16))[0])
    assert torch.equal(torch.random.get_rng_state(), before)


def test_same_seed_same_flow_whatever_the_defaults():
    first = RealNVP(16, layers=3, seed=4).state_dict()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device("meta"):
            second = RealNVP(16, layers=3, seed=4).state_dict()
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(value.equal(second[key]) for key, value in first.items())
    assert not first["couplings.0.conditioner.0.weight"].equal(
        RealNVP(16, layers=3, seed=5).state_dict()["couplings.0.conditioner.0.weight"]
    )


def test_compiles_without_a_graph_break():
    flow, x = adapted(8, "diagonal", layers=3, hidden=8, kinds=3), correlated(4, 8)
    for function in (lambda x: flow(x)[0], flow.log_prob, lambda x: flow.kinds(flow(x)[0])):
        compiled = torch.compile(function, fullgraph=True, backend="eager")
        torch.testing.assert_close(compiled(x), function(x))
    torch._dynamo.reset()


def train(flow, data, steps, rate):
    optimizer = torch.optim.Adam(flow.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)  # to an end that rounding does not decide
    generator = Generator().manual_seed(0)
    for _ in range(steps):
        batch = data[torch.randint(len(data), (256,), generator=generator)]
        optimizer.zero_grad()
        (-flow.log_prob(batch).mean()).backward()
        optimizer.step()
        schedule.step()


def test_fits_a_narrow_normal():
    # Features after a ReLU have an sd well under 1; a flow that can only contract leaves them there.
    data = 0.1 * torch.randn(4000, 32, generator=Generator().manual_seed(0))
    flow = RealNVP(32, layers=4, hidden=32)
    flow.linear.adapt(data)
    train(flow, data, 50, 1e-3)
    held_out = 0.1 * torch.randn(4000, 32, generator=Generator().manual_seed(1))
    truth = torch.distributions.Normal(0, 0.1).log_prob(held_out).sum(1).mean()
    assert flow(held_out)[0].std().item() == pytest.approx(1, abs=0.03)
    assert flow.log_prob(held_out).mean().item() == pytest.approx(truth.item(), abs=0.3)


@pytest.mark.slow
def test_fits_two_moons_better_than_a_gaussian():
    from sklearn.datasets import make_moons

    data = torch.tensor(make_moons(8000, noise=0.05, random_state=0)[0], dtype=torch.float32)
    held_out = torch.tensor(make_moons(4000, noise=0.05, random_state=1)[0], dtype=torch.float32)
    flow = RealNVP(2, layers=8, hidden=64, scale_bound=1.5)
    flow.linear.adapt(data)
    gaussian = flow.log_prob(held_out).mean().item()
    train(flow, data, 1000, 3e-3)
    z = flow(held_out)[0]
    assert flow.log_prob(held_out).mean().item() > gaussian + 1.0
    assert z.std(0).detach().numpy() == pytest.approx(np.ones(2), abs=0.1)


@pytest.mark.parametrize(("n", "d"), [(40, 60), (500, 10)])
def test_shrunk_covariance_is_ledoit_and_wolfs(n, d):
    data = correlated(n, d).double()
    np.testing.assert_allclose(
        shrunk_covariance(data), LedoitWolf().fit(data.numpy()).covariance_, rtol=1e-9, atol=1e-9
    )


def test_whitening_makes_the_covariance_the_identity():
    data = correlated(20_000, 6)
    flow = RealNVP(6, layers=0, linear="whitening")
    flow.linear.adapt(data)
    np.testing.assert_allclose(np.cov(flow(data)[0].numpy().T), np.eye(6), atol=0.01)


def test_whitening_within_kinds_leaves_them_apart():
    data, kinds = of_kinds(20_000, 6)
    flow = RealNVP(6, layers=0, kinds=3)
    flow.adapt(data, kinds)
    z = flow(data)[0].double()
    within = torch.stack([torch.cov(z[kinds == k].T) for k in range(3)]).mean(0)
    np.testing.assert_allclose(within, np.eye(6), atol=0.01)
    assert torch.cov(z.T).trace() > 20  # whitened as a whole it would be 6
    torch.testing.assert_close(flow.linear.mean, data.mean(0))


@pytest.mark.parametrize("n", [42, 600])
def test_whitening_within_kinds_shrinks_as_ledoit_and_wolf(n):
    data, kinds = of_kinds(n, 10)
    residuals = data.double().clone()
    for k in range(3):
        residuals[kinds == k] -= residuals[kinds == k].mean(0)
    covariance = LedoitWolf(assume_centered=True).fit(residuals.numpy()).covariance_
    flow = RealNVP(10, layers=0, kinds=3)
    flow.adapt(data, kinds)
    matrix = flow.linear.matrix.double().numpy()
    np.testing.assert_allclose(matrix @ covariance @ matrix, np.eye(10), atol=1e-4)
    assert flow.linear.log_det.item() == pytest.approx(-np.linalg.slogdet(covariance)[1] / 2, rel=1e-5)
    narrow = RealNVP(10, layers=0, linear="diagonal", kinds=3)
    narrow.adapt(data, kinds)
    np.testing.assert_allclose(narrow.linear.matrix, 1 / residuals.std(0), rtol=1e-5)


@pytest.mark.parametrize("make", [RealNVP, perturbed_flow])
def test_means_and_shares_of_kinds_are_those_of_the_latents(make):
    """Behind permutations, and not in front of them."""
    data, kinds = of_kinds(99, 7)
    kinds = torch.where(torch.arange(99) < 30, kinds, 2)
    flow = make(7, layers=3, kinds=3)
    flow.adapt(data, kinds)
    z = flow(data)[0]
    for k in range(3):
        torch.testing.assert_close(flow.base.means[k], z[kinds == k].mean(0), rtol=1e-4, atol=1e-4)
        assert flow.base.log_shares[k].exp().item() == pytest.approx((kinds == k).float().mean().item(), rel=1e-5)


def test_kinds_of_latents_are_those_that_fitted_the_flow():
    data, kinds = of_kinds(300, 7)
    flow = RealNVP(7, layers=3, kinds=3)
    flow.adapt(data, kinds)
    found = flow.kinds(flow(data)[0])
    assert found.shape == (300, 3)
    assert torch.equal(found.argmax(1), kinds)


@pytest.mark.parametrize("kinds", [1, 3])
def test_the_density_of_features_integrates_to_one(kinds):
    flow = adapted(2, "whitening", layers=3, hidden=8, kinds=kinds).double()
    grid = torch.linspace(-40, 46, 401, dtype=torch.float64)
    with torch.no_grad():
        density = flow.log_prob(torch.cartesian_prod(grid, grid)).exp()
    assert density.sum().item() * (grid[1] - grid[0]).item() ** 2 == pytest.approx(1, abs=1e-3)


def test_data_of_several_kinds_are_likelier_with_kinds():
    data, kinds = of_kinds(600, 6)
    one, three = RealNVP(6, layers=0), RealNVP(6, layers=0, kinds=3)
    one.adapt(data)
    three.adapt(data, kinds)
    assert three.log_prob(data).mean() > one.log_prob(data).mean() + 1


def test_a_feature_that_never_moves_stays_finite():
    data = correlated(50, 4)
    data[:, 2] = 1
    flow = RealNVP(4, layers=0)
    flow.linear.adapt(data)
    assert flow.linear.matrix.isfinite().all()
    assert flow(data + 1)[0].abs().max() < 1000


@pytest.mark.parametrize(
    "wrong", [{"features": 1}, {"layers": -1}, {"scale_bound": 0.0}, {"hidden": 0}, {"linear": "none"}, {"kinds": 0}]
)
def test_refuses_impossible_configurations(wrong):
    with pytest.raises(ValueError, match="RealNVP"):
        RealNVP(**({"features": 4} | wrong))
