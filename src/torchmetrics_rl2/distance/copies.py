r"""Which generated images are copies of training images, judged by held-out images.

The three samples are those of Meehan, Chaudhuri and Dasgupta (2020), and the distance of an image relative to its next
neighbors that of Carlini et al. (2023).
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from torchmetrics_rl2.distance.copies_result import CopiesResult, CopyPair
from torchmetrics_rl2.distance.excess import excess
from torchmetrics_rl2.distance.text import LEVEL
from torchmetrics_rl2.errors import RL2Error

__all__ = ["MIN_IMAGES", "find_copies"]

MIN_IMAGES = 20
NEXT = 20
MIN_NEXT = 4
MIN_TAIL = 10
FLOOR = 1e-2
PERMUTATIONS = 9999
ROUNDING = 1e-9
SHOWN = 12
CELLS = 2**23
Views = Sequence[Tensor]
Groups = Sequence[str] | None
Floats = NDArray[np.float64]


def find_copies(
    fake: Tensor | Views,
    train: Tensor | Views,
    held_out: Tensor | Views,
    *,
    fake_groups: Groups = None,
    train_groups: Groups = None,
    held_out_groups: Groups = None,
    fake_names: Sequence[str] | None = None,
    train_names: Sequence[str] | None = None,
) -> CopiesResult:
    r"""Whether generated images are closer to training images than held-out real images are.

    With :math:`d_1` the distance of an image to the nearest training image, and :math:`d_m` the median distance to the
    20 next ones, each image has the ratio :math:`d_1 / d_m`. Its relative distance is that over the median ratio of
    these 20, each against the other training images, and over that of the median held-out image: tissue of some kinds
    is more alike than that of others. A generator that is softer or stained otherwise as a whole raises both distances,
    and makes no copies.

    Distances are those of directions, :math:`\sqrt{1 - \cos}`, from the mean of the training images and from the mean
    of the image's own side; the smaller ratio counts. With several views of the images, the smallest counts.

    A single image has a conformal p-value, its rank among the held-out images. Below the closest of these, it is that
    of an exponential tail of log relative distances, fitted to the lowest tenth. Images found at a false discovery rate
    of 5 % (Benjamini and Hochberg 1995) are copies. As a whole, mean ranks are compared, with a
    one-sided permutation test.

    Args:
        fake: Latents of the generated images, ``(N, d)``, or several tensors of the same images in other views. Spread
            alike in all directions is best, see the flow of the weights.
        train: The same of the images that the generator was given, at least 20.
        held_out: The same of real images that it was not given, from the same source, at least 20.
        fake_groups: The group of each generated image. Groups are units of the test if held-out images have some too.
        train_groups: The group of each training image, such as its slide: the next nearest images are of other groups
            than the nearest. Without effect where there are too few other images.
        held_out_groups: The group of each held-out image.
        fake_names: What generated images are called; by default their numbers, from 0.
        train_names: The same of training images.

    Returns:
        Number and share of copies, with interval, p-value and the closest pairs.

    Raises:
        RL2Error: If there are fewer than 20 training or held-out images, or no generated ones.

    Example:
        >>> import torch
        >>> from torchmetrics_rl2.distance import find_copies
        >>> train, held_out, fake = torch.randn(3, 100, 16, generator=torch.Generator().manual_seed(0))
        >>> fake[:10] = train[:10] + 0.01 * fake[:10]
        >>> found = find_copies(fake, train, held_out)
        >>> found.count, found.pairs[0].is_copy
        (10, True)

    """
    sides = [[side] if isinstance(side, Tensor) else list(side) for side in (fake, train, held_out)]
    count, n_train, n_held_out = (len(side[0]) for side in sides)
    _check(count, n_train, n_held_out)
    next_to = _codes(train_groups, n_train)
    closest, rows = np.full(count, np.inf), np.zeros(count, dtype=np.int64)
    calm = np.full(n_held_out, np.inf)
    for generated, trained, held in zip(*sides, strict=True):
        near = _Train(trained, next_to)
        (reference, _), (found, nearest) = _relative(held, near), _relative(generated, near)
        typical = max(float(np.median(reference)), FLOOR)
        calm = np.minimum(calm, reference / typical)
        rows = np.where(found / typical < closest, nearest, rows)
        closest = np.minimum(closest, found / typical)
    from scipy.stats import false_discovery_control

    adjusted = false_discovery_control(_p_values(closest, calm))
    copies = adjusted < LEVEL
    threshold = closest[copies].max() if copies.any() else -1.0
    grouped = fake_groups is not None and held_out_groups is not None
    units = (_codes(fake_groups if grouped else None, count), _codes(held_out_groups if grouped else None, n_held_out))
    share, interval = excess((copies, calm <= threshold), units)
    names = (fake_names or [str(i) for i in range(count)], train_names or [str(i) for i in range(n_train)])
    order = np.argsort(closest, kind="stable")[: max(SHOWN, int(copies.sum()))].tolist()
    return CopiesResult(
        n_fake=count,
        n_train=n_train,
        n_held_out=n_held_out,
        count=int(copies.sum()),
        share=share,
        interval=interval,
        p_value=_permutation_p_value(closest, calm, *units),
        units="groups" if grouped else "images",
        pairs=[
            CopyPair(names[0][i], names[1][rows[i]], float(closest[i]), float(adjusted[i]), bool(copies[i]))
            for i in order
        ],
    )


def _check(n_fake: int, n_train: int, n_held_out: int) -> None:
    if n_train < MIN_IMAGES or n_held_out < MIN_IMAGES or not n_fake:
        raise RL2Error(
            f"Copies are searched with {n_fake} generated, {n_train} training and {n_held_out} held-out images; "
            f"expected at least one, {MIN_IMAGES} and {MIN_IMAGES}. Images of one color do not count."
        )


def _codes(groups: Groups, count: int) -> NDArray[np.int64]:
    """A number for the group of each image; without groups each is one."""
    if groups is None:
        return np.arange(count)
    return np.unique(np.asarray(groups), return_inverse=True)[1].astype(np.int64)


def _relative(images: Tensor, train: "_Train") -> tuple[Floats, NDArray[np.int64]]:
    """Distance to the nearest training image over that to the next ones, against that of these, and which it is."""
    found, rows = zip(*(train.nearest(images, center) for center in (train.mean, images.double().mean(0))), strict=True)
    is_own = found[1] < found[0]
    return torch.where(is_own, found[1], found[0]).numpy(), torch.where(is_own, rows[1], rows[0]).numpy()


class _Train:
    """Training images in one view."""

    def __init__(self, latents: Tensor, groups: NDArray[np.int64]) -> None:
        if len(groups) - np.bincount(groups).max() < MIN_NEXT:
            groups = np.arange(len(groups))
        self.mean = latents.double().mean(0)
        self._directions = normalize(latents.double() - self.mean)
        self._groups = torch.from_numpy(groups)
        self._count = min(NEXT, len(groups) - int(np.bincount(groups).max()))
        # As far as training images are from those of other groups: what is usual in this place.
        self._usual = torch.ones(len(groups), dtype=torch.float64)  # while this is found
        self._usual = self._search(self._directions, self._groups)[0].clamp(min=FLOOR)

    def nearest(self, images: Tensor, center: Tensor) -> tuple[Tensor, Tensor]:
        """Relative distance of each image to the nearest one, and which that is, seen from a center."""
        return self._search(normalize(images.double() - center))

    def _search(self, directions: Tensor, groups: Tensor | None = None) -> tuple[Tensor, Tensor]:
        parts = []
        size = max(1, CELLS // len(self._groups))
        for start in range(0, len(directions), size):
            cosines = directions[start : start + size] @ self._directions.T
            if groups is not None:
                own = groups[start : start + size, None] == self._groups[None, :]
                cosines = cosines.masked_fill(own, -2.0)
            first, row = cosines.max(1)
            others = cosines.masked_fill(self._groups[row][:, None] == self._groups[None, :], -2.0)
            further, neighbors = others.topk(self._count)
            # Rounding leaves a little of 1 - 1.
            ratios = ((1 - first).clamp(min=0) / (1 - further.median(1).values).clamp(min=1e-12)).sqrt()
            parts.append((ratios / self._usual[neighbors].median(1).values, row))
        return torch.cat([ratios for ratios, _ in parts]), torch.cat([rows for _, rows in parts])


def _p_values(distances: Floats, held_out: Floats) -> Floats:
    """Of single images, each against the held-out ones."""
    logs, calm = np.log(np.maximum(distances, FLOOR)), np.sort(np.log(np.maximum(held_out, FLOOR)))
    m = len(calm)
    as_close = np.searchsorted(calm, logs, side="right")
    ranks: Floats = (1 + as_close) / (m + 1)
    # The nearest of many is exponential in its log; with its rate unknown, the next one has a Lomax distribution.
    k = max(MIN_TAIL, m // 10)
    excess = max(float((calm[k] - calm[:k]).sum()), 1e-9)
    tail = (k + 1) / (m + 1) * (1 + np.maximum(calm[k] - logs, 0) / excess) ** -float(k)
    return np.where(as_close == 0, np.minimum(ranks, tail), ranks)


def _permutation_p_value(
    fake: Floats, held_out: Floats, fake_units: NDArray[np.int64], held_out_units: NDArray[np.int64]
) -> float:
    """Of the mean rank of generated images, units being exchanged between both sides."""
    from scipy.stats import rankdata

    ranks = rankdata(np.concatenate([fake, held_out]))
    units = np.concatenate([fake_units, held_out_units + fake_units.max() + 1])
    sums, sizes = np.bincount(units, weights=ranks), np.bincount(units).astype(np.float64)
    count = int(fake_units.max()) + 1

    def differences(orders: NDArray[np.int64]) -> Floats:
        own, size = sums[orders[:, :count]].sum(1), sizes[orders[:, :count]].sum(1)
        found: Floats = own / size - (sums.sum() - own) / (sizes.sum() - size)
        return found

    draws, start = np.random.default_rng(0), np.arange(len(sums))[None]
    observed, at_most, left = differences(start)[0] + ROUNDING, 0, PERMUTATIONS
    while left:
        drawn = min(left, max(1, CELLS // len(sums)))
        orders = draws.permuted(np.repeat(start, drawn, 0), axis=1)
        at_most += int((differences(orders) <= observed).sum())
        left -= drawn
    return (1 + at_most) / (1 + PERMUTATIONS)
