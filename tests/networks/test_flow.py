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


def adapted(d, linear, **config):
    flow = perturbed_flow(d, linear=linear, **config)
    flow.linear.adapt(correlated(200, d))
    return flow


@pytest.mark.parametrize("linear", LINEAR)
@pytest.mark.parametrize("d", [2, 5, 8])
def test_log_determinant_is_that_of_the_jacobian(d, linear):
    flow = adapted(d, linear, layers=5, hidden=16, scale_bound=0.7).double()
    x = correlated(4, d, seed=1).double()
    _, log_det = flow(x)
    jacobians = torch.stack([torch.autograd.functional.jacobian(lambda row: flow(row[None])[0][0], row) for row in x])
    torch.testing.assert_close(log_det, jacobians.slogdet().logabsdet, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("linear", LINEAR)
@settings(max_examples=25, deadline=None)
@given(d=st.integers(2, 64), layers=st.integers(0, 8), seed=st.integers(0, 1000))
def test_inverse_undoes_forward(linear, d, layers, seed):
    flow = perturbed_flow(d, seed=seed, linear=linear, layers=layers, hidden=16)
    flow.linear.adapt(correlated(500, d, seed))
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
    RealNVP(16, layers=3)(torch.zeros(2, 16))
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
    flow, x = adapted(8, "diagonal", layers=3, hidden=8), correlated(4, 8)
    compiled = torch.compile(flow, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x)[0], flow(x)[0])
    torch._dynamo.reset()


def train(flow, data, steps, rate=5e-3):
    optimizer = torch.optim.Adam(flow.parameters(), lr=rate)
    generator = Generator().manual_seed(0)
    for _ in range(steps):
        batch = data[torch.randint(len(data), (256,), generator=generator)]
        optimizer.zero_grad()
        (-flow.log_prob(batch).mean()).backward()
        optimizer.step()


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

    data = torch.tensor(make_moons(1500, noise=0.05, random_state=0)[0], dtype=torch.float32)
    held_out = torch.tensor(make_moons(4000, noise=0.05, random_state=1)[0], dtype=torch.float32)
    flow = RealNVP(2, layers=8, hidden=64, scale_bound=1.5)
    flow.linear.adapt(data)
    gaussian = flow.log_prob(held_out).mean().item()
    train(flow, data, 500)
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


def test_a_feature_that_never_moves_stays_finite():
    data = correlated(50, 4)
    data[:, 2] = 1
    flow = RealNVP(4, layers=0)
    flow.linear.adapt(data)
    assert flow.linear.matrix.isfinite().all()
    assert flow(data + 1)[0].abs().max() < 1000


@pytest.mark.parametrize(
    "wrong", [{"features": 1}, {"layers": -1}, {"scale_bound": 0.0}, {"hidden": 0}, {"linear": "none"}]
)
def test_refuses_impossible_configurations(wrong):
    with pytest.raises(ValueError, match="RealNVP"):
        RealNVP(**({"features": 4} | wrong))
