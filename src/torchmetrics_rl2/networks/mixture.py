"""The base of a flow: a Gaussian for each kind of tissue."""

import math

import torch
from torch import Tensor, nn

__all__ = ["Mixture"]


class Mixture(nn.Module):
    r"""Mixture of unit Gaussians, one for each kind of tissue, as the base of a flow.

    .. math:: p(z) = \sum_{k=1}^K \pi_k\, \mathcal{N}(z; \mu_k, I)

    A flow with such a base is FlowGMM (Izmailov et al. 2020, arXiv 1912.13025). With one kind, of mean 0, the base is
    the standard normal one of the RL2 paper, which a new mixture is.

    Beside means and shares it holds two numbers that say how far content and look of a difference of means move each
    other, see :class:`~torchmetrics_rl2.distance.Kinds`.

    Args:
        features: Number of features :math:`d`.
        kinds: Number of kinds :math:`K`.

    """

    means: Tensor
    log_shares: Tensor
    leaks: Tensor

    def __init__(self, features: int, kinds: int = 1) -> None:
        super().__init__()
        self.register_buffer("means", torch.zeros(kinds, features, device="cpu", dtype=torch.float32))
        self.register_buffer("log_shares", torch.full((kinds,), -math.log(kinds), device="cpu", dtype=torch.float32))
        self.register_buffer("leaks", torch.zeros(2, device="cpu", dtype=torch.float32))

    @torch.no_grad()
    def adapt(self, z: Tensor, kinds: Tensor) -> None:
        """Take means and shares from latents ``(N, d)`` and the kind of each, ``(N,)`` int64, all kinds among them."""
        for k in range(len(self.means)):
            self.means[k] = z[kinds == k].double().mean(0)
            self.log_shares[k] = math.log(float((kinds == k).double().mean()))

    def log_prob(self, z: Tensor) -> Tensor:
        """Log-densities ``(N,)`` of latents ``(N, d)``, in nats."""
        return self._joint(z).logsumexp(1)

    def responsibilities(self, z: Tensor) -> Tensor:
        r"""Probability of each kind given latents ``(N, d)``: ``(N, K)``, rows of sum 1.

        .. math:: r_k(z) = \pi_k \mathcal{N}(z; \mu_k, I) / p(z)

        """
        return self._joint(z).softmax(1)

    def _joint(self, z: Tensor) -> Tensor:
        """Log-densities of latent and kind, ``(N, K)``."""
        squares = torch.stack([(z - mean).square().sum(1) for mean in self.means], 1)
        return self.log_shares - squares / 2 - z.shape[1] / 2 * math.log(2 * math.pi)
