"""Distances of weighted images, and how well their ranks go with what counts.

All distances are computed from inner products. A bootstrap draw is then a number of times for each image, and needs no
image again.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor

Array = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Space:
    """Inner products, or another kernel, of N real and M generated images."""

    real: Array
    cross: Array
    fake: Array

    @classmethod
    def of(cls, real: Tensor, fake: Tensor, cubic: bool = False) -> "Space":
        """Of features ``(N, d)`` and ``(M, d)``; cubic is the kernel of KID."""
        # Centered, which changes no distance, but keeps digits; the kernel of KID is not of that kind.
        x, y = (side.double() if cubic else side.double() - real.double().mean(0) for side in (real, fake))

        def products(a: Tensor, b: Tensor) -> Array:
            found: Array = ((a @ b.T / a.shape[1] + 1) ** 3 if cubic else a @ b.T).numpy()
            return found

        return cls(products(x, x), products(x, y), products(y, y))

    def square(self, real: Array, fake: Array, unbiased: bool = True) -> Array:
        """Squared distances of means ``(C,)``, by rows of weights ``(C, N)`` and ``(C, M)`` in whole numbers.

        The unbiased square leaves out pairs of an image with itself, and with its repeats in a bootstrap draw.
        """
        cross = ((real @ self.cross) * fake).sum(1) / (real.sum(1) * fake.sum(1))
        return _within(self.real, real, unbiased) + _within(self.fake, fake, unbiased) - 2 * cross

    def frechet(self, real: Array, fake: Array) -> float:
        """Frechet distance of Gaussians, by weights ``(N,)`` and ``(M,)``."""
        rows, columns = np.flatnonzero(real), np.flatnonzero(fake)
        w, v = real[rows], fake[columns]
        cross = self.cross[np.ix_(rows, columns)]
        cross = cross - np.average(cross, 1, v)[:, None]
        cross -= np.average(cross, 0, w)
        cross *= np.sqrt(np.outer(w / (w.sum() - 1), v / (v.sum() - 1)))
        gram = cross @ cross.T if len(w) <= len(v) else cross.T @ cross
        overlap = np.sqrt(np.linalg.eigvalsh(gram).clip(0)).sum()
        spread = _trace(self.real, real) + _trace(self.fake, fake)
        return float(self.square(real[None], fake[None], unbiased=False)[0] + spread - 2 * overlap)


def _within(gram: Array, weights: Array, unbiased: bool) -> Array:
    total, products = weights.sum(1), ((weights @ gram) * weights).sum(1)
    if not unbiased:
        return products / total**2
    own = np.square(weights)
    with np.errstate(invalid="ignore"):  # one image, however often it was drawn
        return (products - own @ np.diagonal(gram)) / (total**2 - own.sum(1))


def _trace(gram: Array, weights: Array) -> float:
    """Trace of the covariance."""
    total = weights.sum()
    return float((weights @ np.diagonal(gram) - weights @ gram @ weights / total) / (total - 1))


def signed_root(square: float) -> float:
    """As debiased distances are given."""
    return float(np.copysign(np.sqrt(abs(square)), square))


@dataclass(frozen=True)
class Generator:
    """What is known of a generator.

    Args:
        spaces: By weights of RL2, and by ``content`` and ``look`` of them; ``FID`` and ``KID``.
        kinds: The kind of tissue that was asked for, of each image of the spaces.
        tested: Kinds that classifiers trained on its images see in real test images, ``(seeds, T)``.
        seen: Kinds that classifiers trained on real images see in its images, ``(seeds, K)``.
        asked: The kinds that these were asked to be.

    """

    spaces: Mapping[str, Space]
    kinds: Ints
    tested: Ints
    seen: Ints
    asked: Ints


@dataclass(frozen=True)
class Truth:
    """Of real images of the metrics their kinds and what real classifiers see; of the test kinds and source tiles."""

    kinds: Ints
    seen: Ints
    test_kinds: Ints
    test_tiles: Ints
    count: int


def metrics(one: Generator, truth: Truth, real: Array, fake: Array) -> dict[str, float]:
    """All metrics of a generator, by weights of the images; ``by kind`` is the mean within the kinds asked for."""
    rows, columns = (
        np.stack([w, *(w * (kinds == k) for k in range(truth.count))])
        for w, kinds in ((real, truth.kinds), (fake, one.kinds))
    )
    found: dict[str, float] = {}
    for name, space in one.spaces.items():
        if name == "FID":
            found["FID"] = space.frechet(real, fake)
            within = [space.frechet(w, v) for w, v in zip(rows[1:], columns[1:], strict=True)]
            found["FID by kind"] = float(np.mean(within))
            continue
        squares = space.square(rows, columns)
        if name == "KID":
            found |= {"KID": float(squares[0]), "KID by kind": float(squares[1:].mean())}
        elif name.endswith((" content", " look")):
            found[name] = signed_root(squares[0])
        else:
            found[name] = float(np.sqrt(space.square(rows[:1], columns[:1], unbiased=False)[0].clip(0)))
            found[f"{name} debiased"] = signed_root(squares[0])
            found[f"{name} by kind"] = signed_root(squares[1:].mean())
    return found


def targets(
    one: Generator, truth: Truth, real: Array, fake: Array, test: Array, seeds: Sequence[int]
) -> dict[str, float]:
    """What counts, all of it better where it is smaller, by weights of the images."""
    right = one.tested[list(seeds)] == truth.test_kinds
    of_kinds = [np.average(right[:, rows], 1, test[rows]).mean() for rows in rows_of(truth.test_kinds, truth.count)]
    shares = [
        np.stack([np.bincount(row, weights, truth.count) for row in seen[list(seeds)]]) / weights.sum()
        for seen, weights in ((truth.seen, real), (one.seen, fake))
    ]
    asked = (one.seen[list(seeds)] == one.asked) @ fake / fake.sum()
    return {
        "TSTR error": 1 - float(np.mean(of_kinds)),
        "shares": float(np.abs(shares[0] - shares[1]).sum(1).mean() / 2),
        "not as asked": 1 - float(asked.mean()),
    }


def rows_of(kinds: Ints, count: int) -> list[Ints]:
    """Rows of each kind."""
    return [np.flatnonzero(kinds == k) for k in range(count)]


def redrawn(groups: Sequence[Ints], count: int, draws: np.random.Generator) -> Array:
    """How often each of all rows is drawn, if as many as there are are drawn with replacement within each group."""
    weights = np.zeros(count)
    for rows in groups:
        np.add.at(weights, draws.choice(rows, len(rows)), 1.0)
    return weights


Values = tuple[list[dict[str, float]], list[dict[str, float]]]


def values(generators: Sequence[Generator], truth: Truth, draws: np.random.Generator | None = None) -> Values:
    """Metrics and targets of each generator, of all images or of a bootstrap draw of them."""
    real, test = np.ones(len(truth.kinds)), np.ones(len(truth.test_kinds))
    if draws is not None:
        # Every file of a test tile goes with it.
        tiles, kind_of = np.unique(truth.test_tiles, return_index=True)
        drawn = redrawn(rows_of(truth.test_kinds[kind_of], truth.count), len(tiles), draws)
        real, test = redrawn(rows_of(truth.kinds, truth.count), len(real), draws), drawn[truth.test_tiles]
    found: Values = ([], [])
    for one in generators:
        fake, whole = np.ones(len(one.kinds)), np.ones(len(one.asked))
        seeds: Sequence[int] = range(len(one.tested))
        if draws is not None:
            fake = redrawn(rows_of(one.kinds, truth.count), len(fake), draws)
            whole = redrawn(rows_of(one.asked, truth.count), len(whole), draws)
            seeds = draws.choice(len(one.tested), len(one.tested)).tolist()
        found[0].append(metrics(one, truth, real, fake))
        found[1].append(targets(one, truth, real, whole, test, seeds))
    return found


def ranked(found: Values, chosen: Sequence[int]) -> dict[str, dict[str, float]]:
    """Spearman's correlation of each metric with each target over some of the generators, which may repeat."""
    rows = [[side[i] for i in chosen] for side in found]
    ranks = [{name: rankdata([row[name] for row in side]) for name in side[0]} for side in rows]
    with warnings.catch_warnings(), np.errstate(invalid="ignore"):
        warnings.simplefilter("ignore")
        return {
            metric: {target: float(np.corrcoef(one, other)[0, 1]) for target, other in ranks[1].items()}
            for metric, one in ranks[0].items()
        }


def correlations(
    generators: Sequence[Generator],
    truth: Truth,
    count: int,
    seed: int,
    progress: Callable[[Sequence[int], str], Sequence[int]],
) -> dict[str, dict[str, dict[str, float | list[float]]]]:
    """Rank correlations, with 95 % bootstrap intervals over generators, test tiles, images and seeds.

    Beside each is the difference from that of FID, where FID is known.
    """
    draws = np.random.default_rng(seed)
    whole, drawn = ranked(values(generators, truth), range(len(generators))), []
    for _ in progress(range(count), "bootstrap draws"):
        chosen = draws.choice(len(generators), len(generators))
        drawn.append(ranked(values(generators, truth, draws), chosen.tolist()))
    found: dict[str, dict[str, dict[str, float | list[float]]]] = {}
    for metric, row in whole.items():
        found[metric] = {}
        for target, value in row.items():
            all_drawn = np.array([one[metric][target] for one in drawn])
            cell: dict[str, float | list[float]] = {"rho": value, "interval": ends(all_drawn)}
            if "FID" in whole:
                cell["above FID"] = ends(all_drawn - [one["FID"][target] for one in drawn])
            found[metric][target] = cell
    return found


def ends(values: Array) -> list[float]:
    """Of the 95 % interval."""
    return [float(end) for end in np.nanquantile(values, [0.025, 0.975])]
