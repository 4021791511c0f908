r"""Whether content differs, beyond what look carries along: its length, and Hotelling's T squared, in one p-value.

The length of a difference of content is mostly chance in the directions in which kinds lie far apart, such as two
organs. A missing kind may move another direction. With :math:`V` the covariance of the difference of means :math:`d`,

.. math:: T^2 = d^T V^{-1} d

weighs each direction by what chance does in it (Hotelling 1931), with the degrees of freedom of Nel and van der Merwe
(1986) where both sides vary unlike. Content has fewer dimensions than there are images, so :math:`V` can be inverted.
Length sees best what moves kinds that lie far apart. Both p-values are joined by their Cauchy combination (Liu and Xie
2020, arXiv 1808.09011), which holds its level whatever their dependence. Where look differs, content may be moved by as
much as the limit, whose direction is not known. :math:`T^2` has to allow for the direction in which that shows most, at
the noncentrality :math:`\lambda`. It then sees less than length does, and its weight is :math:`1 / (1 + \lambda / k)`.
"""

import math

import numpy as np
from numpy.typing import NDArray

from torchmetrics_rl2.distance.uncertainty import f_exceeds

__all__ = ["combined", "composition_p_values", "content_p_values", "degrees_of_freedom", "t_square_exceeds"]

Array = NDArray[np.float64]

HIGHEST = 0.5  # of a p-value that is joined: one near 1 would hide any other
FLAT = 1e-9


def content_p_values(
    difference: Array, variances: tuple[Array, Array], counts: tuple[float, float], limit: Array
) -> Array:
    """P-values of content, of numbers or of one for each of several pairs of sets, ``(...)``.

    Args:
        difference: Of the means, on the axes that content is tested on, ``(..., k)``.
        variances: Covariance of the mean of either side, ``(..., k, k)``, as samples have it.
        counts: Units of either side.
        limit: The longest shift that is not to be found, whatever its direction.

    """
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        of_length = _length_exceeds(difference, variances, counts, limit)
    return composition_p_values(of_length, difference, variances, counts, limit)


def _length_exceeds(
    difference: Array, variances: tuple[Array, Array], counts: tuple[float, float], limit: Array
) -> Array:
    """P-values of the length alone, by the F of :func:`~torchmetrics_rl2.distance.uncertainty.uncertainty`."""
    square = np.square(difference).sum(-1)
    traces = [np.trace(variance, axis1=-2, axis2=-1) for variance in variances]
    noise = traces[0] + traces[1]
    noise_square = 2 * (variances[0] * variances[1]).sum((-2, -1))
    for variance, trace, n in zip(variances, traces, counts, strict=True):
        # Without bias for normal coordinates (Bai and Saranadasa 1996).
        own = np.square(variance).sum((-2, -1)) - trace**2 / (n - 1)
        noise_square = noise_square + (n - 1) ** 2 / ((n + 1) * (n - 2)) * own
    noise_square = noise_square.clip(noise**2 / difference.shape[-1], noise**2)
    nu = noise**2 / sum(trace**2 / (n - 1) for trace, n in zip(traces, counts, strict=True))
    freedom = noise**2 / noise_square
    found = f_exceeds(square / noise, freedom, nu, freedom * limit**2 / noise)
    return np.where(noise > 0, found, (square <= limit**2).astype(float))


def composition_p_values(
    of_length: Array, difference: Array, variances: tuple[Array, Array], counts: tuple[float, float], limit: Array
) -> Array:
    """Those of :func:`content_p_values`, where the test of length is known.

    Args:
        of_length: P-values of the length of the difference.
        difference: As of :func:`content_p_values`.
        variances: Covariance of the mean of either side, ``(..., k, k)``.
        counts: As of :func:`content_p_values`.
        limit: As of :func:`content_p_values`.

    Returns:
        Those of the length alone where there are too few units, or where content does not vary in all directions.

    """
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):  # images that are all the same, or NaN latents
        nu, variance = degrees_of_freedom(variances, counts), variances[0] + variances[1]
        weight = 1 / (1 + _noncentrality(variance, limit) / difference.shape[-1])
        return combined(of_length, t_square_exceeds(difference, variance, nu, limit), weight)


def degrees_of_freedom(variances: tuple[Array, Array], counts: tuple[float, float]) -> Array:
    """Those of the sum of two covariances, of Nel and van der Merwe; Welch's in one dimension."""

    def size(variance: Array) -> Array:
        trace = np.trace(variance, axis1=-2, axis2=-1)
        found: Array = np.square(variance).sum((-2, -1)) + trace**2
        return found

    parts = [size(variance) / (count - 1) for variance, count in zip(variances, counts, strict=True)]
    found: Array = size(variances[0] + variances[1]) / (parts[0] + parts[1])
    return found


def _noncentrality(variance: Array, limit: Array) -> Array:
    """Of T squared, by a shift as long as the limit, in the direction in which it shows most."""
    is_finite = np.isfinite(variance).all((-2, -1), keepdims=True)
    least: Array = np.linalg.eigvalsh(np.where(is_finite, variance, 0.0))[..., 0]
    return np.where(limit > 0, limit**2 / np.maximum(least, 0.0), 0.0)


def t_square_exceeds(difference: Array, variance: Array, nu: Array, limit: Array) -> Array:
    """P-values of Hotelling's T squared; NaN where there is none."""
    k = difference.shape[-1]
    is_finite = np.isfinite(variance).all((-2, -1), keepdims=True)
    values, vectors = np.linalg.eigh(np.where(is_finite, variance, 0.0))
    known = (values[..., 0] > FLAT * values[..., -1]) & (nu >= 2 * k)
    values = np.where(known[..., None], values, 1.0)
    square = (np.square((difference[..., None, :] @ vectors)[..., 0, :]) / values).sum(-1)
    freedom = np.where(known, nu, 2.0 * k) - k + 1
    found = f_exceeds(
        square * freedom / (k * (freedom + k - 1)),
        np.full(known.shape, float(k)),
        freedom / k,
        limit**2 / values[..., 0],
    )
    return np.where(known, found, math.nan)


def combined(first: Array, second: Array, weight: Array | float = 1.0) -> Array:
    """Cauchy combination of two p-values, or the smaller above one half; the first where there is no second.

    Args:
        first: Of weight 1.
        second: NaN where there is none.
        weight: Of the second, 0 to 1.

    """
    angles = [np.tan(np.pi * (0.5 - np.minimum(p, HIGHEST))) for p in (first, second)]
    found: Array = 0.5 - np.arctan((angles[0] + weight * angles[1]) / (1 + weight)) / np.pi
    least = np.minimum(first, second)
    return np.where(np.isnan(second), first, np.where(least > HIGHEST, least, found))
