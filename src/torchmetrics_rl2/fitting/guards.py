"""What features of held-out images must keep while their backbone is trained: rank and content."""

import math

import torch
from torch import Tensor

__all__ = ["effective_rank", "linear_probe"]


def effective_rank(features: Tensor) -> float:
    r"""Effective rank of standardized features (Roy and Vetterli 2007).

    .. math:: \exp\Big(-\sum_i p_i \log p_i\Big), \qquad p_i = \lambda_i / \sum_j \lambda_j

    with the eigenvalues :math:`\lambda` of the correlation matrix: the number of directions among which the variance
    is spread. Scale and shift of a feature do not matter; a feature that does not vary counts for nothing.

    Args:
        features: ``(N, d)``, N at least 2.

    Returns:
        From 1 to the lesser of N - 1 and d; 0 if nothing varies.

    """
    values = torch.linalg.svdvals(_standardize(features)).square()
    if not values.sum() > 0:
        return 0.0
    return float(torch.special.entr(values / values.sum()).sum().exp())


def linear_probe(features: Tensor, targets: Tensor) -> float:
    r"""R^2 of a ridge regression from standardized features to targets, leave one out.

    .. math:: R^2 = 1 - \sum_i \Big(\frac{y_i - \hat y_i}{1 - H_{ii}}\Big)^2 \Big/ \sum_i (y_i - \bar y)^2,
        \qquad H = \tfrac{1}{N} + K (K + \lambda I)^{-1}

    with :math:`K` the inner products of the features; the mean over targets that vary, with the best of five
    :math:`\lambda`.

    Args:
        features: ``(N, d)``.
        targets: ``(N, k)``.

    Returns:
        At most 1; 0 or less if the features tell nothing of the targets.

    """
    x, y = _standardize(features), _standardize(targets)
    y = y[:, y.square().sum(0) > 0]
    values, vectors = torch.linalg.eigh(x @ x.T / x.shape[1])
    values = values.clamp(min=0)
    found = [-math.inf]
    for penalty in (1e-3, 1e-2, 1e-1, 1.0, 10.0):
        kept = values / (values + penalty)
        residuals = y - vectors @ (kept[:, None] * (vectors.T @ y))
        leverage = 1 / len(x) + vectors.square() @ kept
        found.append(float(1 - (residuals / (1 - leverage).clamp(min=1e-9)[:, None]).square().mean()))
    return max(found) if y.numel() else -math.inf


def _standardize(x: Tensor) -> Tensor:
    x = x.detach().to("cpu", torch.float64)
    x = x - x.mean(0)
    sd = x.square().mean(0).sqrt()
    # What rounding of single precision leaves of a constant is no variation.
    return torch.where(sd > 1e-6 * sd.max(), x / sd, 0.0)
