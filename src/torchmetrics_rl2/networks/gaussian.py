"""One Gaussian, the baseline beside the flow and the base that screening gives it."""

from torch import Tensor

from torchmetrics_rl2.networks.flow import RealNVP

__all__ = ["Gaussian"]


class Gaussian:
    """One Gaussian of numbers ``(N, d)``, with their Ledoit-Wolf covariance after each was divided by its sd."""

    def __init__(self, fitted: Tensor) -> None:
        self._standardize = RealNVP(fitted.shape[1], layers=0, linear="diagonal").requires_grad_(False)
        self._standardize.linear.adapt(fitted)
        self._whiten = RealNVP(fitted.shape[1], layers=0).requires_grad_(False)
        self._whiten.linear.adapt(self._standardize(fitted)[0])

    def log_prob(self, numbers: Tensor) -> Tensor:
        """Log-likelihoods ``(N,)`` of numbers ``(N, d)``, up to a constant."""
        return self._whiten.log_prob(self._standardize(numbers)[0])
