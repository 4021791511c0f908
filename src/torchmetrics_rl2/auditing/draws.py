"""Many pairs of sets, drawn from the same images, and how often their tests tell them apart.

The test of :func:`~torchmetrics_rl2.distance.uncertainty.uncertainty` needs inner products of latents alone, so all
pairs share one Gram matrix; that of content needs its few coordinates too. The p-values are those of
:func:`~torchmetrics_rl2.distance.compare`, in a hundredth of the time.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from torchmetrics_rl2.distance.composition import content_p_values
from torchmetrics_rl2.distance.kinds import Kinds
from torchmetrics_rl2.distance.uncertainty import ROUNDING, f_exceeds, squared_trace

__all__ = ["REPEATS", "SIZES", "Population", "Tests"]

SIZES = (25, 40, 50, 100)
REPEATS = 200
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Tests:
    """What is known of R pairs of sets, ``(R,)`` each.

    Args:
        debiased: Debiased distance by part: ``content``, ``look`` and ``whole``; ``whole`` alone without kinds.
        p_values: Of the test of each part.
        highest_ratio: Upper end of the 95 % interval of the variance ratio of the whole.

    """

    debiased: Mapping[str, Array]
    p_values: Mapping[str, Array]
    highest_ratio: Array


class Population:
    """Images to draw sets from, by their latents.

    Args:
        latents: ``(N, d)``.
        kinds: The kinds of tissue of the weights, if they have several.

    """

    def __init__(self, latents: Tensor, kinds: Kinds | None) -> None:
        centered = latents.double() - latents.double().mean(0)
        whole, width = (centered @ centered.T).numpy(), latents.shape[1]
        self.grams = {"whole": (whole, width)}
        self.leaks = kinds.leaks if kinds else (0.0, 0.0)
        self.content = np.zeros((len(latents), 0))
        if kinds is not None:
            content = (centered @ kinds.basis).numpy()
            gram = content @ content.T
            self.grams |= {"content": (gram, content.shape[1]), "look": (whole - gram, width)}
            self.content = (centered @ kinds.axes).numpy()

    def tests(self, real: NDArray[np.int64], fake: NDArray[np.int64]) -> Tests:
        """Tests of R pairs of sets, by their rows ``(R, n)`` and ``(R, m)``."""
        with np.errstate(divide="ignore", invalid="ignore"):  # images that are all the same
            pairs = {name: _Pairs(gram, width, real, fake) for name, (gram, width) in self.grams.items()}
            debiased = {name: pair.debiased for name, pair in pairs.items()}
            limits = {name: np.zeros(len(real)) for name in pairs}
            if "look" in pairs:
                limits["content"] = self.leaks[0] * debiased["look"].clip(0)
                limits["look"] = self.leaks[1] * debiased["content"].clip(0)
            p_values = {name: pair.p_value(limits[name]) for name, pair in pairs.items() if name != "content"}
            if "content" in pairs:
                p_values["content"] = self._of_composition(real, fake, limits["content"])
            return Tests(debiased, p_values, pairs["whole"].highest_ratio())

    def _of_composition(self, real: NDArray[np.int64], fake: NDArray[np.int64], limit: Array) -> Array:
        sides = [self.content[rows] for rows in (real, fake)]
        difference = sides[0].mean(1) - sides[1].mean(1)
        variances = _variance_of_mean(sides[0]), _variance_of_mean(sides[1])
        return content_p_values(difference, variances, (real.shape[1], fake.shape[1]), limit)


class _Pairs:
    """Moments of pairs of sets, by the names that they have in ``uncertainty``."""

    def __init__(self, gram: Array, width: int, real: NDArray[np.int64], fake: NDArray[np.int64]) -> None:
        own, cross, other = (gram[a[:, :, None], b[:, None]] for a, b in ((real, real), (real, fake), (fake, fake)))
        n, m = self.sizes = real.shape[1], fake.shape[1]
        self.square = own.mean((1, 2)) - 2 * cross.mean((1, 2)) + other.mean((1, 2))
        own, cross, other = map(_centered, (own, cross, other))
        self.norms = [np.diagonal(one, axis1=1, axis2=2) for one in (own, other)]
        self.totals = [norms.sum(1) / (size - 1) for norms, size in zip(self.norms, self.sizes, strict=True)]
        squared = [
            squared_trace(_squares(one) / (size - 1) ** 2, total, np.square(norms).sum(1), size)
            for one, size, total, norms in zip((own, other), self.sizes, self.totals, self.norms, strict=True)
        ]
        self.noise = self.totals[0] / n + self.totals[1] / m
        both = _squares(cross) / (n - 1) / (m - 1)
        noise_square = squared[0] / n**2 + 2 * both / n / m + squared[1] / m**2
        self.noise_square = noise_square.clip(self.noise**2 / width, self.noise**2)

    @property
    def debiased(self) -> Array:
        apart = self.square - self.noise
        debiased: Array = np.copysign(np.sqrt(np.abs(apart)), apart)
        return debiased

    def p_value(self, limit: Array) -> Array:
        freedom = self.noise**2 / self.noise_square
        parts = [(total / n) ** 2 / (n - 1) for total, n in zip(self.totals, self.sizes, strict=True)]
        nu = self.noise**2 / sum(parts)
        return f_exceeds(self.square / self.noise, freedom, nu, freedom * limit**2 / self.noise)

    def highest_ratio(self) -> Array:
        real, fake = self.totals
        ends = [
            norms.var(1, ddof=1) / n / total**2
            for norms, n, total in zip(self.norms, self.sizes, self.totals, strict=True)
        ]
        freedom = sum(ends) ** 2 / sum(part**2 / (n - 1) for part, n in zip(ends, self.sizes, strict=True))
        highest = fake / real * np.exp(stats.t.ppf(0.975, freedom) * np.sqrt(sum(ends)))
        return np.where(fake <= ROUNDING * real, 0.0, highest)


def _variance_of_mean(sets: Array) -> Array:
    """Covariance of the mean of each set ``(R, n, k)``."""
    n, left = sets.shape[1], sets - sets.mean(1, keepdims=True)
    found: Array = np.einsum("rni,rnj->rij", left, left) / (n - 1) / n
    return found


def _centered(gram: Array) -> Array:
    """Inner products of what is left without the means of both sides."""
    left: Array = gram - gram.mean(1, keepdims=True)
    left -= left.mean(2, keepdims=True)
    return left


def _squares(gram: Array) -> Array:
    found: Array = np.einsum("rij,rij->r", gram, gram)
    return found
