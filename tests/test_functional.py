import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator

from torchmetrics_rl2.functional import latent_sums, resnet_l2


def normal(n, d, seed, dtype=torch.float32):
    return torch.randn(n, d, generator=Generator().manual_seed(seed)).to(dtype)


def oracle(real, fake, debiased):
    real, fake = real.numpy().astype(np.float64), fake.numpy().astype(np.float64)
    square = np.sum((real.mean(0) - fake.mean(0)) ** 2)
    if debiased:
        square -= np.trace(np.cov(real.T)) / len(real) + np.trace(np.cov(fake.T)) / len(fake)
    return np.sign(square) * np.sqrt(abs(square))


@settings(max_examples=50, deadline=None)
@given(
    n=st.integers(2, 40), m=st.integers(2, 40), d=st.integers(2, 30), shift=st.floats(-1e4, 1e4), debiased=st.booleans()
)
def test_agrees_with_numpy_in_float64(n, m, d, shift, debiased):
    real, fake = normal(n, d, 0), normal(m, d, 1) + shift
    assert resnet_l2(real, fake, debiased).item() == pytest.approx(oracle(real, fake, debiased), rel=1e-6, abs=1e-6)


def test_sums_are_taken_in_float64():
    # In float32 a mean of 1e4 leaves steps of 1e-3, far above this difference.
    real, fake = torch.full((1000, 2), 1e4), torch.full((1000, 2), 1e4)
    real[0] += 0.5
    assert resnet_l2(real, fake).item() == pytest.approx(0.0005 * 2**0.5, rel=1e-5)


def test_debiased_is_centered_where_plain_is_not():
    squares, plain = [], []
    for seed in range(200):
        real, fake = normal(40, 64, 2 * seed), normal(60, 64, 2 * seed + 1)
        value = resnet_l2(real, fake, debiased=True).item()
        squares.append(value * abs(value))
        plain.append(resnet_l2(real, fake).item())
    error = np.std(squares) / len(squares) ** 0.5
    assert abs(np.mean(squares)) < 3 * error
    assert np.mean(plain) == pytest.approx((64 / 40 + 64 / 60) ** 0.5, rel=0.02)


def test_order_and_split_do_not_matter():
    latents = normal(30, 8, 0)
    whole = latent_sums(latents)
    parts = latent_sums(latents[:7]) + latent_sums(latents[7:])
    assert parts.count == whole.count == 30
    torch.testing.assert_close(parts.sum, whole.sum, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(parts.square_sum, whole.square_sum, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("given", "result"),
    [(torch.float16, torch.float32), (torch.float32, torch.float32), (torch.float64, torch.float64)],
)
def test_dtype_of_the_result(given, result):
    assert resnet_l2(normal(4, 3, 0, given), normal(4, 3, 1, given)).dtype == result


@pytest.mark.parametrize(
    ("real", "fake", "debiased"),
    [((3, 4), (3, 5), False), ((4,), (3, 4), False), ((0, 4), (3, 4), False), ((1, 4), (3, 4), True)],
)
def test_refuses_what_has_no_distance(real, fake, debiased):
    with pytest.raises(ValueError, match="resnet_l2"):
        resnet_l2(torch.zeros(real), torch.zeros(fake), debiased)
