"""What real images score against real images: the unit in which a distance can be read."""

import math
from typing import Any

from torch import Tensor

__all__ = ["floor", "times_floor"]

Counts = tuple[int, Tensor | None]
"""Number of images of a side, and of each of its groups if there are any."""
ROUNDING = 1e-12


def times_floor(value: float, mean_variance: float, spread: float, real: Counts, fake: Counts) -> dict[str, Any]:
    """The fields ``floor``, ``times_floor`` and ``withheld`` of a result.

    Args:
        value: RL2.
        mean_variance: As in :func:`floor`.
        spread: As in :func:`floor`.
        real: Number of real images, and of each group, ``(groups,)``, if there are any.
        fake: The same of the generated side.

    """
    lowest = floor(mean_variance, spread, real, fake)
    withheld = {"foreign_share": "it needs the generated images, and these are sums of them"}
    if spread > 0 and 0 < lowest < math.inf and math.isfinite(value):
        return {"floor": lowest, "times_floor": value / lowest, "withheld": withheld}
    n, groups = real
    if spread == 0 and math.isfinite(value):
        reason = "all real images are the same"
    elif (n if groups is None else len(groups)) > 1:
        reason = "there are NaN latents, or far too large ones"
    else:
        reason = f"it needs two real {'images' if groups is None else 'groups'}, and there is one"
    return {"withheld": {"times_floor": reason} | withheld}


def floor(mean_variance: float, spread: float, real: Counts, fake: Counts) -> float:
    r"""What two sets of real images score, one as large as the real side and one as the generated side.

    .. math:: \sqrt{\mathrm{tr}\,V_r + b \sum m_i^2 / M^2 + (s - b) / M}

    is the root mean square of RL2 between them. Real images vary by :math:`s` in total, of which :math:`b` is between
    groups; :math:`m_i` are the :math:`M` generated images by group. Of :math:`N` real
    images without groups this is :math:`\sqrt{\mathrm{tr}\,S_r (1 / N + 1 / M)}`. Random halves of the real images, by
    group, would say the same of sets of half the size, which score higher. :math:`b` is what makes
    :math:`\mathrm{tr}\,V_r` larger than independent images would; it is 0 where no real group has two images.

    Args:
        mean_variance: :math:`\mathrm{tr}\,V_r`, the variance of the mean of the real side.
        spread: :math:`s`, the total variance of real images.
        real: Number of real images, and of each group, ``(groups,)``, if there are any.
        fake: The same of the generated side.

    Returns:
        NaN if the variance of the mean is not known, as of one image or one group.

    """
    if real[0] < 2 or fake[0] < 1:
        return math.nan
    (n, own), (m, others) = ((n, 1 / n if groups is None else _concentration(groups)) for n, groups in (real, fake))
    between = 0.0
    if own > 1 / n * (1 + ROUNDING):
        between = min(max((mean_variance - spread / n) / (own - 1 / n), 0.0), spread)
    return math.sqrt(max(mean_variance, 0.0) + between * others + (spread - between) / m)


def _concentration(groups: Tensor) -> float:
    return float((groups.double() / groups.sum()).square().sum())
