"""Whether generated images repeat each other more than real ones do."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor
from torch.nn.functional import normalize

from torchmetrics_rl2.distance.diversity_result import DiversityResult, Repeats
from torchmetrics_rl2.distance.excess import excess
from torchmetrics_rl2.distance.text import LEVEL
from torchmetrics_rl2.errors import RL2Error

__all__ = ["MAX_IMAGES", "MIN_IMAGES", "find_repeats", "has_contrast"]

MIN_IMAGES = 20
MAX_IMAGES = 5000
MIN_CONTRAST = 0.01
"""Standard deviation of optical density, below which an image is of almost one color."""

NEAR = 0.9
MIN_EXCESS = 0.02
NEIGHBORS = 16
PERMUTATIONS = 999
ROUNDING = 1e-9
SHOWN = 12
CELLS = 2**22
Groups = Sequence[str] | None
Numbers = NDArray[np.int64]
Hits = NDArray[np.bool_]


def find_repeats(
    fake: Tensor,
    real: Tensor,
    *,
    fake_groups: Groups = None,
    real_groups: Groups = None,
    fake_names: Sequence[str] | None = None,
) -> DiversityResult:
    r"""Whether generated images have more near-duplicates among themselves than real images have.

    Two images are near-duplicates if their thumbnails, optical densities at 8 x 8, correlate by more than 0.9, one of
    them turned by a multiple of 90 degrees or mirrored. Blur, noise, compression and other stain hardly change that,
    and real patches of different tissue hardly ever reach it, whatever their kind. More images have more
    near-duplicates, so as many are compared as the smaller side has, at most 5,000: a random sample, with a fixed
    seed.

    The test exchanges images between both sides, or groups if both have some, 999 times with a fixed seed; near
    real images of one slide stay near, as nothing but the sides is exchanged. Of the interval, images that repeat each
    other are one unit.

    Args:
        fake: Thumbnails of the generated images, ``(N, S, S)``, see :func:`~torchmetrics_rl2.pixels.thumbnails_of`.
        real: Those of real images.
        fake_groups: The group of each generated image.
        real_groups: The group of each real image.
        fake_names: What generated images are called; by default their numbers, from 0.

    Returns:
        How many generated images are repeated, how many that is of real ones, and how many distinct ones are left.

    Raises:
        RL2Error: If there are fewer than 20 images on a side.

    Example:
        >>> import torch
        >>> from torchmetrics_rl2.distance import find_repeats
        >>> fake, real = torch.rand(2, 100, 8, 8, generator=torch.Generator().manual_seed(0))
        >>> found = find_repeats(fake[:10].repeat(10, 1, 1).rot90(1, (1, 2)), real)
        >>> found.count, found.distinct, found.is_lost
        (100, 10, True)

    """
    if min(len(fake), len(real)) < MIN_IMAGES:
        raise RL2Error(
            f"Diversity cannot be judged with {len(fake)} generated and {len(real)} real images; expected at least "
            f"{MIN_IMAGES} on each side. Images of almost one color do not count."
        )
    n = min(len(fake), len(real), MAX_IMAGES)
    draws = np.random.default_rng(0)
    chosen = [np.sort(draws.permutation(len(side))[:n]) for side in (fake, real)]
    vectors = _vectors(
        torch.cat([side[torch.from_numpy(rows)] for side, rows in zip((fake, real), chosen, strict=True)])
    )
    near = _Near(vectors, draws.permutation(2 * n))
    grouped = fake_groups is not None and real_groups is not None
    units = [
        np.unique(np.asarray(groups)[rows], return_inverse=True)[1] if grouped else np.arange(n)
        for groups, rows in zip((fake_groups, real_groups), chosen, strict=True)
    ]
    hits = near.hits(np.arange(2 * n) < n)
    labels = [near.labels(range(0, n)), near.labels(range(n, 2 * n))]
    _, interval = excess((hits[:n], hits[n:]), (labels[0], labels[1]), by_unit=True)
    p_value = near.permutation_p_value(units[0], units[1], draws)
    names = [str(row) if fake_names is None else fake_names[row] for row in chosen[0].tolist()]
    return DiversityResult(
        n=n,
        n_fake=len(fake),
        n_real=len(real),
        count=int(hits[:n].sum()),
        share=float(hits[:n].mean()),
        expected=float(hits[n:].mean()),
        interval=interval,
        p_value=p_value,
        units="groups" if grouped else "images",
        distinct=int(labels[0].max()) + 1,
        distinct_real=int(labels[1].max()) + 1,
        is_lost=p_value < LEVEL and interval[0] > MIN_EXCESS,
        repeats=_repeats(labels[0], names),
    )


def has_contrast(thumbnails: Tensor) -> Tensor:
    """Which of ``(N, S, S)`` thumbnails are of more than almost one color, ``(N,)``."""
    return thumbnails.flatten(1).std(1) >= MIN_CONTRAST


class _Near:
    """Near-duplicates among all images of both sides.

    Up to 16 are kept of each image, the first in a random order, which has nothing to do with sides.

    Args:
        vectors: Of the images, see :func:`_vectors`.
        order: In which they are taken.

    """

    def __init__(self, vectors: Tensor, order: Numbers) -> None:
        self._count = len(vectors)
        shuffled = vectors[torch.from_numpy(order)]
        turned, size, found = _turned(shuffled), max(1, CELLS // len(vectors)), []
        for start in range(0, len(vectors), size):
            near = torch.zeros(min(size, len(vectors) - start), len(vectors), dtype=torch.bool)
            for view in turned:
                near |= view[start : start + size] @ shuffled.T > NEAR
            near.diagonal(start).fill_(False)
            rows, columns = near.nonzero(as_tuple=True)
            before = near.sum(1).cumsum(0) - near.sum(1)
            first = torch.arange(len(rows)) - before[rows] < NEIGHBORS
            found.append(torch.stack([rows[first] + start, columns[first]]))
        self._rows, self._columns = order[torch.cat(found, 1).numpy()]

    def hits(self, of_fake: Hits) -> Hits:
        """Which images have a near-duplicate on their side, given which are of the generated one."""
        found = np.zeros(self._count, dtype=bool)
        found[self._rows[of_fake[self._rows] == of_fake[self._columns]]] = True
        return found

    def labels(self, images: range) -> Numbers:
        """A number for each distinct one of these images, which near-duplicates share, and theirs, and so on."""
        inside = (self._rows >= images.start) & (self._rows < images.stop)
        inside &= (self._columns >= images.start) & (self._columns < images.stop)
        edges = self._rows[inside] - images.start, self._columns[inside] - images.start
        graph = coo_array((np.ones(len(edges[0]), dtype=bool), edges), shape=(len(images), len(images)))
        found: Numbers = connected_components(graph, directed=False)[1].astype(np.int64)
        return found

    def permutation_p_value(self, fake_units: Numbers, real_units: Numbers, draws: np.random.Generator) -> float:
        """Of the difference of shares with a near-duplicate, units being exchanged between both sides."""
        if not len(self._rows):
            return 1.0
        units = np.concatenate([fake_units, real_units + fake_units.max() + 1])
        first = np.flatnonzero(np.diff(self._rows, prepend=-1))  # those of an image follow each other

        def differences(labels: Hits) -> NDArray[np.float64]:
            of_fake = labels[:, units]
            near = of_fake[:, self._rows] == of_fake[:, self._columns]
            hits, fake = np.logical_or.reduceat(near, first, 1), of_fake[:, self._rows[first]]
            count = of_fake.sum(1)
            found: NDArray[np.float64] = (hits & fake).sum(1) / count - (hits & ~fake).sum(1) / (len(units) - count)
            return found

        labels = (np.arange(units.max() + 1) <= fake_units.max())[None]
        observed, at_least, left = differences(labels)[0] - ROUNDING, 0, PERMUTATIONS
        while left:
            drawn = min(left, max(1, CELLS // max(len(self._rows), len(units))))
            at_least += int((differences(draws.permuted(labels.repeat(drawn, 0), axis=1)) >= observed).sum())
            left -= drawn
        return (1 + at_least) / (1 + PERMUTATIONS)


def _vectors(thumbnails: Tensor) -> Tensor:
    """Thumbnails whose products are correlations, ``(N, S * S)``."""
    return normalize((thumbnails - thumbnails.mean((1, 2), keepdim=True)).flatten(1).float())


def _turned(vectors: Tensor) -> Tensor:
    """All eight ways to turn and mirror images, ``(8, N, d)``."""
    side = math.isqrt(vectors.shape[1])
    images = vectors.view(-1, side, side)
    return torch.stack([one.rot90(turns, (1, 2)).flatten(1) for one in (images, images.flip(2)) for turns in range(4)])


def _repeats(labels: Numbers, names: Sequence[str]) -> list[Repeats]:
    sizes = np.bincount(labels)
    most = [one for one in np.argsort(-sizes, kind="stable")[:SHOWN] if sizes[one] > 1]
    return [Repeats(int(sizes[one]), [names[row] for row in np.flatnonzero(labels == one)[:SHOWN]]) for one in most]
