"""RealNVP, the normalizing flow between features and latents whose density is known."""

import math
from typing import Literal

import torch
from torch import Generator, Tensor, nn

from torchmetrics_rl2.networks.mixture import Mixture

__all__ = ["CouplingLayer", "LinearLayer", "RealNVP"]


class LinearLayer(nn.Module):
    r"""Invertible linear layer taken from data, ``z = (x - mean) W``.

    Args:
        features: Number of features :math:`d`.
        scaling: ``"diagonal"`` divides every feature by its standard deviation; ``"whitening"`` also removes
            correlations, with the symmetric inverse root of the Ledoit-Wolf covariance.

    """

    mean: Tensor
    matrix: Tensor
    log_det: Tensor

    def __init__(self, features: int, scaling: Literal["diagonal", "whitening"]) -> None:
        super().__init__()
        self.scaling = scaling
        full = scaling == "whitening"
        self.register_buffer("mean", torch.zeros(features, device="cpu", dtype=torch.float32))
        identity = torch.ones(features, device="cpu", dtype=torch.float32)
        self.register_buffer("matrix", identity.diag() if full else identity)
        self.register_buffer("log_det", torch.zeros((), device="cpu", dtype=torch.float32))

    @torch.no_grad()
    def adapt(self, x: Tensor, kinds: Tensor | None = None) -> None:
        """Take mean and scale from data, in float64.

        Args:
            x: ``(N, d)``.
            kinds: Kind of each, ``(N,)`` int64; scale and correlations are then those within kinds, so that kinds stay
                apart.

        """
        data = x.to("cpu", torch.float64)
        mean = data.mean(0)
        data = data - means_of_groups(data, kinds)[kinds] if kinds is not None else data
        if self.scaling == "diagonal":
            sd = data.std(0)
            # A feature that (almost) never moves on the data must not blow up the first image that moves it.
            matrix = sd.clamp(min=1e-2 * float(sd.square().mean().sqrt())).reciprocal()
            log_det = matrix.log().sum()
        else:
            values, vectors = torch.linalg.eigh(shrunk_covariance(data))
            matrix = vectors @ values.rsqrt().diag() @ vectors.T
            log_det = -values.log().sum() / 2
        self.mean.copy_(mean)
        self.matrix.copy_(matrix)
        self.log_det.copy_(log_det)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map ``(N, d)`` to ``(N, d)`` and the log-determinant, ``(N,)``."""
        x = x - self.mean
        x = x * self.matrix if self.scaling == "diagonal" else x @ self.matrix
        return x, self.log_det.expand(x.shape[0])

    def inverse(self, z: Tensor) -> Tensor:
        """Undo :meth:`forward`."""
        x = z / self.matrix if self.scaling == "diagonal" else torch.linalg.solve(self.matrix, z, left=False)
        return x + self.mean


class CouplingLayer(nn.Module):
    r"""Affine coupling ``z = (x + t) * exp(s)`` of one half of the features, given the other half.

    The scale is bounded, :math:`s = c \tanh(\hat s / c)`, so that no image, however far out of domain, is scaled by
    more than :math:`e^c` in a layer.

    Args:
        features: Number of features :math:`d >= 2`.
        hidden: Width of the two hidden layers of the conditioner.
        scale_bound: The bound :math:`c` of the log-scale.
        swap: Transform the first half given the second instead of the second given the first.
        generator: Source of the permutation and of the initial weights.

    """

    permutation: Tensor

    def __init__(self, features: int, hidden: int, scale_bound: float, swap: bool, generator: Generator) -> None:
        super().__init__()
        self.scale_bound = scale_bound
        self.swap = swap
        halves = [features // 2, features - features // 2]
        given, changed = halves[::-1] if swap else halves
        self.halves = halves
        self.register_buffer("permutation", torch.randperm(features, generator=generator, device="cpu"))
        self.conditioner = nn.Sequential(
            _linear(given, hidden, generator),
            nn.SiLU(),
            _linear(hidden, hidden, generator),
            nn.SiLU(),
            _linear(hidden, 2 * changed, generator),
        )
        last = self.conditioner[-1]
        nn.init.zeros_(last.weight)  # type: ignore[arg-type]
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]

    def _scale_and_shift(self, given: Tensor) -> tuple[Tensor, Tensor]:
        s, t = self.conditioner(given).chunk(2, dim=1)
        return self.scale_bound * torch.tanh(s / self.scale_bound), t

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map ``(N, d)`` to ``(N, d)`` and the log-determinant, ``(N,)``."""
        first, second = torch.split(x[:, self.permutation], self.halves, dim=1)
        given, changed = (second, first) if self.swap else (first, second)
        s, t = self._scale_and_shift(given)
        changed = (changed + t) * s.exp()
        return torch.cat((changed, given) if self.swap else (given, changed), dim=1), s.sum(1)

    def inverse(self, z: Tensor) -> Tensor:
        """Undo :meth:`forward`."""
        first, second = torch.split(z, self.halves, dim=1)
        given, changed = (second, first) if self.swap else (first, second)
        s, t = self._scale_and_shift(given)
        changed = changed * (-s).exp() - t
        x = torch.cat((changed, given) if self.swap else (given, changed), dim=1)
        return x[:, self.permutation.argsort()]


class RealNVP(nn.Module):
    r"""Real-valued non-volume preserving flow (Dinh et al., arXiv 1605.08803), Eq. 2 of the RL2 paper.

    .. math:: \log p(x) = \log \sum_{k=1}^K \pi_k\, \mathcal{N}(z; \mu_k, I)
        + \log \left| \det \frac{\partial z}{\partial x} \right|

    The base is a :class:`~torchmetrics_rl2.networks.Mixture` of :math:`K` kinds of tissue; :math:`K = 1` is the paper's
    :math:`\mathcal{N}(z; 0, I)`. A linear layer taken from data comes first, then affine couplings of alternating
    halves, each behind a fixed permutation. A new flow is the identity, up to the order of the features. It is built on
    the CPU in float32, and building it leaves the global random state alone.

    As input to ``forward`` and ``log_prob`` the flow accepts

    - ``x`` (:class:`~torch.Tensor`): features ``(N, d)``

    As output of ``forward`` the flow returns

    - ``z`` (:class:`~torch.Tensor`): latents ``(N, d)``
    - ``log_det`` (:class:`~torch.Tensor`): log-determinants ``(N,)``, in nats

    Args:
        features: Number of features :math:`d`, at least 2.
        layers: Number of couplings; without any the flow is one Gaussian.
        hidden: Width of the two hidden layers of every conditioner.
        scale_bound: Bound :math:`c` of the log-scale of a coupling, :math:`s = c \tanh(\hat s / c)`.
        linear: Full ``"whitening"`` or ``"diagonal"`` standardization in front.
        seed: Seed of the permutations and of the initial weights.
        kinds: Number of kinds :math:`K` of the base.

    Raises:
        ValueError: If there are fewer than 2 features, or sizes, the bound or the number of kinds are not positive.

    Example:
        >>> import torch
        >>> from torchmetrics_rl2.networks import RealNVP
        >>> flow = RealNVP(features=2, layers=4)
        >>> flow.log_prob(torch.zeros(1, 2))
        tensor([-1.8379], grad_fn=<AddBackward0>)

    """

    def __init__(
        self,
        features: int = 512,
        layers: int = 4,
        hidden: int = 128,
        scale_bound: float = 0.2,
        linear: Literal["diagonal", "whitening"] = "whitening",
        seed: int = 0,
        kinds: int = 1,
    ) -> None:
        super().__init__()
        if features < 2 or layers < 0 or hidden < 1 or not 0 < scale_bound < math.inf or kinds < 1:
            raise ValueError(
                "RealNVP needs features >= 2, layers >= 0, hidden >= 1, scale_bound > 0 and kinds >= 1, but got "
                f"features={features}, layers={layers}, hidden={hidden}, scale_bound={scale_bound}, kinds={kinds}."
            )
        if linear not in ("diagonal", "whitening"):
            raise ValueError(f"RealNVP expects linear to be 'diagonal' or 'whitening', but got {linear!r}.")
        self.config = {
            "features": features,
            "layers": layers,
            "hidden": hidden,
            "scale_bound": scale_bound,
            "linear": linear,
            "kinds": kinds,
        }
        generator = Generator("cpu").manual_seed(seed)
        self.linear = LinearLayer(features, linear)
        self.couplings = nn.ModuleList(
            CouplingLayer(features, hidden, scale_bound, bool(i % 2), generator) for i in range(layers)
        )
        self.base = Mixture(features, kinds)

    @torch.no_grad()
    def adapt(self, x: Tensor, kinds: Tensor | None = None) -> None:
        """Take the linear layer, and the means and shares of kinds, from features.

        Args:
            x: ``(N, d)``.
            kinds: Kind of each, ``(N,)`` int64 from 0 to K - 1, none of them empty; needed if there are several.

        """
        self.linear.adapt(x, kinds)
        if kinds is not None:
            self.base.adapt(self(x)[0], kinds)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Latents ``(N, d)`` and log-determinants ``(N,)`` of features ``(N, d)``."""
        z, log_det = self.linear(x)
        for coupling in self.couplings:
            z, more = coupling(z)
            log_det = log_det + more
        return z, log_det

    def inverse(self, z: Tensor) -> Tensor:
        """Features ``(N, d)`` of latents ``(N, d)``."""
        for coupling in reversed(self.couplings):
            z = coupling.inverse(z)  # type: ignore[operator]
        return self.linear.inverse(z)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-likelihoods ``(N,)`` of features ``(N, d)``, in nats."""
        return self.log_likelihood(*self(x))

    def log_likelihood(self, z: Tensor, log_det: Tensor) -> Tensor:
        """Log-likelihoods ``(N,)`` in nats from latents ``(N, d)`` and log-determinants ``(N,)``."""
        return self.base.log_prob(z) + log_det

    def kinds(self, z: Tensor) -> Tensor:
        """Responsibilities ``(N, K)`` of the kinds for latents ``(N, d)``: rows of sum 1."""
        return self.base.responsibilities(z)

    def extra_repr(self) -> str:
        """Show the configuration when printed."""
        return ", ".join(f"{key}={value}" for key, value in self.config.items())


def means_of_groups(data: Tensor, groups: Tensor) -> Tensor:
    """The means ``(K, d)`` of rows ``(N, d)`` by the group of each, ``(N,)`` int64 from 0 to K - 1, none empty."""
    counts = groups.bincount()
    sums = data.new_zeros(len(counts), data.shape[1]).index_add(0, groups, data)
    return sums / counts[:, None]


def shrunk_covariance(x: Tensor) -> Tensor:
    """Covariance of ``(N, d)`` float64 data, shrunk to a multiple of the identity (Ledoit and Wolf 2004)."""
    n, d = x.shape
    x = x - x.mean(0)
    covariance = x.T @ x / n
    level = covariance.trace() / d
    dispersion = covariance.square().sum() / d - level.square()
    noise = (x.square().sum(1).square().sum() / n - covariance.square().sum()) / (n * d)
    shrinkage = float(torch.minimum(noise, dispersion) / dispersion) if dispersion > 0 else 0.0
    return (1 - shrinkage) * covariance + shrinkage * level * torch.eye(d, dtype=x.dtype, device=x.device)


def _linear(inputs: int, outputs: int, generator: Generator) -> nn.Linear:
    layer: nn.Linear = nn.utils.skip_init(  # type: ignore[no-untyped-call]
        nn.Linear, inputs, outputs, device="cpu", dtype=torch.float32
    )
    bound = inputs**-0.5
    with torch.no_grad():
        layer.weight.uniform_(-bound, bound, generator=generator)
        layer.bias.uniform_(-bound, bound, generator=generator)
    return layer
