"""A share on the generated side less the same share on the real one, with its interval."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from torchmetrics_rl2.distance.parts import wilson
from torchmetrics_rl2.distance.text import LEVEL

__all__ = ["excess"]


def excess(
    hits: tuple[NDArray[np.bool_], NDArray[np.bool_]],
    units: tuple[NDArray[np.int64], NDArray[np.int64]],
    by_unit: bool = False,
) -> tuple[float, tuple[float, float]]:
    """Share of hits less that of the real side, with its 95 % interval (Newcombe 1998).

    Args:
        hits: Which images of the generated and of the real side it is of.
        units: The number of the unit that each image belongs to, from 0 on each side: images of a unit are not
            independent of each other.
        by_unit: Whether images are hits for being of a large unit, so that shares vary by more than units differ in
            size.

    """
    (p, low, high), (q, low_q, high_q) = (_share_of(*side, by_unit) for side in zip(hits, units, strict=True))
    lower = p - q - math.hypot(p - low, high_q - q)
    upper = p - q + math.hypot(high - p, q - low_q)
    return max(p - q, 0.0), (max(lower, 0.0), min(upper, 1.0))


def _share_of(hits: NDArray[np.bool_], units: NDArray[np.int64], by_unit: bool) -> tuple[float, float, float]:
    """A share with its 95 % interval (Wilson), of as many images as units that vary like these are worth."""
    n, share = len(hits), float(hits.mean())
    sizes = np.bincount(units).astype(np.float64)
    worth = float(n)
    if len(sizes) < n:
        worth = n**2 / float(np.square(sizes).sum())  # as if images of a group were one
        residuals = np.bincount(units, weights=hits - share)
        variance = float(np.square(residuals).sum()) / n**2 * len(sizes) / max(len(sizes) - 1, 1)
        if variance > 0:
            worth = min(max(share * (1 - share) / variance, 1.0 if by_unit else worth), float(n))
    return share, *wilson(share, worth, float(ndtri(1 - LEVEL / 2)))
