"""One Gaussian, the baseline beside the flow, and a mixture of several, the base that screening gives it."""

from torch import Tensor

from torchmetrics_rl2.networks.flow import RealNVP

__all__ = ["Gaussian"]


class Gaussian:
    """One Gaussian of numbers ``(N, d)``, with their Ledoit-Wolf covariance after each was divided by its sd.

    Args:
        fitted: The numbers.
        kinds: Kind of each, ``(N,)`` int64 from 0 to K - 1, none of them empty, for a mixture of K Gaussians instead,
            of the means and shares of the kinds and the covariance within them.

    """

    def __init__(self, fitted: Tensor, kinds: Tensor | None = None) -> None:
        count = 1 if kinds is None else int(kinds.max()) + 1
        self._standardize = RealNVP(fitted.shape[1], layers=0, linear="diagonal").requires_grad_(False)
        self._standardize.linear.adapt(fitted, kinds)
        self._whiten = RealNVP(fitted.shape[1], layers=0, kinds=count).requires_grad_(False)
        self._whiten.adapt(self._standardize(fitted)[0], kinds)

    def log_prob(self, numbers: Tensor) -> Tensor:
        """Log-likelihoods ``(N,)`` of numbers ``(N, d)``, up to a constant."""
        return self._whiten.log_prob(self._standardize(numbers)[0])
