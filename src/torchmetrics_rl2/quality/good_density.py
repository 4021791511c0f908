"""Scores by the density of good patches of several kinds of tissue, which compare between kinds."""

from collections.abc import Sequence

import torch
from torch import Tensor

from torchmetrics_rl2.networks.gaussian import Gaussian

__all__ = ["GoodDensity", "GoodScores", "Standard"]

FOLDS = 5
TINY = 1e-12
TYPICAL_OF_ALL = 10


class GoodDensity:
    r"""Mixture of Gaussians, one for each kind of tissue among good patches, with one shrunk covariance.

    .. math:: \log \sum_k \pi_k\, \mathcal{N}(x; m_k, S)

    The means of kinds are drawn to that of all good patches as far as kinds of so few patches would differ by chance
    (empirical Bayes). With one kind this is one Gaussian.

    Args:
        numbers: Of good patches, ``(n, d)``.
        kinds: The kind of each, ``(n,)`` int64; patches that are alone in theirs are one kind together.

    """

    def __init__(self, numbers: Tensor, kinds: Tensor) -> None:
        alone = (kinds[:, None] == kinds).sum(1) == 1
        _, rows, counts = torch.unique(kinds.masked_fill(alone, -1), return_inverse=True, return_counts=True)
        self._offsets = numbers.new_zeros(1, numbers.shape[1])
        if len(counts) > 1:
            self._offsets = _offsets(numbers.double(), rows, counts.double()).to(numbers)
        self._log_shares = (counts / len(kinds)).log()
        self._gaussian = Gaussian(numbers - self._offsets[rows])

    def log_prob(self, numbers: Tensor) -> Tensor:
        """Log-likelihoods ``(N,)`` of numbers ``(N, d)``, up to a constant."""
        of_kinds = [self._gaussian.log_prob(numbers - offset) for offset in self._offsets]
        found: Tensor = (torch.stack(of_kinds, 1) + self._log_shares).logsumexp(1)
        return found


class Standard:
    """Log-likelihoods less the median of good patches of the same kind, in their median absolute deviations.

    Both are means of those of the kind and of those of all good patches, which count as ten patches more.

    Args:
        parts: Log-likelihoods of good patches, ``(n, 2)``.
        kinds: Theirs, ``(n,)`` int64.

    """

    def __init__(self, parts: Tensor, kinds: Tensor) -> None:
        self._all = _median_and_spread(parts)
        self._of_kinds = {
            kind: torch.lerp(self._all, _median_and_spread(parts[kinds == kind]), count / (count + TYPICAL_OF_ALL))
            for kind, count in zip(*(found.tolist() for found in torch.unique(kinds, return_counts=True)), strict=True)
        }

    def __call__(self, parts: Tensor, kinds: Tensor) -> Tensor:
        """Standardized ``(N, 2)`` from ``(N, 2)`` and the kinds ``(N,)``; kinds without good patches are as all."""
        typical = self._all.repeat(len(parts), 1, 1)
        for kind, of_kind in self._of_kinds.items():
            typical[kinds == kind] = of_kind
        median, spread = typical.unbind(1)
        return (parts - median) / spread.clamp(min=1e-6)


class GoodScores:
    """Scores of good patches, and of any others by them, see :class:`~torchmetrics_rl2.Calibration`.

    Args:
        latents: Of good patches, ``(n, d)``.
        log_det: ``(n,)``.
        statistics: ``(n, 25)``.
        kinds: ``(n,)`` int64.
        groups: Group of each.
        two_sided: Whether a first part far above its median is as strange as one far below.

    """

    def __init__(
        self,
        latents: Tensor,
        log_det: Tensor,
        statistics: Tensor,
        kinds: Tensor,
        groups: Sequence[int],
        two_sided: bool,
    ) -> None:
        fold = _folds(groups if len(set(groups)) >= FOLDS else range(len(groups)))
        self._two_sided = two_sided
        self._densities = [
            (GoodDensity(latents[rows], kinds[rows]), GoodDensity(statistics[rows], kinds[rows]))
            for rows in (fold != k for k in range(FOLDS))
        ]
        self.parts = torch.empty(len(latents), 2, dtype=torch.float64)
        for k, densities in enumerate(self._densities):
            rows = fold == k
            self.parts[rows] = _parts(densities, latents[rows], log_det[rows], statistics[rows])
        self._standard = Standard(self.parts, kinds)
        self.of_good = self._sum(self.parts, kinds)

    def __call__(self, latents: Tensor, log_det: Tensor, statistics: Tensor, kinds: Tensor) -> Tensor:
        """Scores ``(N,)`` of other patches."""
        parts = [_parts(densities, latents, log_det, statistics) for densities in self._densities]
        return self._sum(torch.stack(parts).median(0).values, kinds)

    def _sum(self, parts: Tensor, kinds: Tensor) -> Tensor:
        standard = self._standard(parts, kinds)
        flow = -standard[:, 0].abs() if self._two_sided else standard[:, 0]
        return flow + standard[:, 1]


def _offsets(numbers: Tensor, rows: Tensor, counts: Tensor) -> Tensor:
    """Shrunk means of kinds less the mean of all, ``(K, d)``, by the variances between and within kinds (ANOVA)."""
    n, k = len(numbers), len(counts)
    centered = numbers - numbers.mean(0)
    offsets = centered.new_zeros(k, centered.shape[1]).index_add(0, rows, centered) / counts[:, None]
    variances = centered.square().mean(0).clamp(min=TINY)
    within = float(((centered - offsets[rows]).square() / variances).sum()) / (n - k)
    typical = (n - float(counts.square().sum()) / n) / (k - 1)
    between = (float((counts @ (offsets.square() / variances)).sum()) / (k - 1) - within) / typical
    return offsets * (counts / (counts + within / max(between, TINY)))[:, None]


def _parts(densities: tuple[GoodDensity, GoodDensity], latents: Tensor, log_det: Tensor, statistics: Tensor) -> Tensor:
    of_latents, of_statistics = densities
    parts = of_latents.log_prob(latents) + log_det, of_statistics.log_prob(statistics)
    return torch.stack([part.double() for part in parts], 1)


def _folds(groups: Sequence[int]) -> Tensor:
    """Five folds of about one size that share no group, ``(n,)``."""
    sizes = dict.fromkeys(groups, 0)
    for group in groups:
        sizes[group] += 1
    filled, fold = [0] * FOLDS, {}
    for group in sorted(sizes, key=lambda group: (-sizes[group], group)):
        fold[group] = filled.index(min(filled))
        filled[fold[group]] += sizes[group]
    return torch.tensor([fold[group] for group in groups])


def _median_and_spread(parts: Tensor) -> Tensor:
    """Medians and median absolute deviations of columns, ``(2, 2)``."""
    median = parts.median(0).values
    return torch.stack([median, (parts - median).abs().median(0).values])
