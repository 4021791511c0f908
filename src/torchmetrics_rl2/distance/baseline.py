"""The baseline, real against real: the unit in which a distance can be read."""

import math
from typing import Any

from torch import Tensor

__all__ = ["baseline", "baseline_fields"]

Counts = tuple[int, Tensor | None]
"""Number of images of a side, and of each of its groups if there are any."""

ROUNDING = 1e-12


def baseline_fields(
    value: float, mean_variance: float, total_variance: float, real: Counts, fake: Counts
) -> dict[str, Any]:
    """The fields ``baseline``, ``baseline_multiple`` and ``withheld`` of a result.

    Args:
        value: RL2.
        mean_variance: As in :func:`baseline`.
        total_variance: As in :func:`baseline`.
        real: Number of real images, and of each group, ``(groups,)``, if there are any.
        fake: The same of the generated side.

    """
    found = baseline(mean_variance, total_variance, real, fake)
    withheld = {
        "outlier_share": "it needs the generated images, and these are sums of them",
        "diversity": "it needs the images of both sides, and there are only sums of one",
    }
    if total_variance > 0 and 0 < found < math.inf and math.isfinite(value):
        return {"baseline": found, "baseline_multiple": value / found, "withheld": withheld}
    n, groups = real
    if total_variance == 0 and math.isfinite(value):
        reason = "all real images are the same"
    elif (n if groups is None else len(groups)) > 1:
        reason = "some latents are NaN or too large"
    else:
        units = "images" if groups is None else "groups"
        reason = f"it needs at least two real {units}, and a verdict four; there is one"
        reason += "" if groups is None else ". Groups are slides or patients: a folder or a name for each"
    return {"withheld": {"baseline_multiple": reason} | withheld}


def baseline(mean_variance: float, total_variance: float, real: Counts, fake: Counts) -> float:
    r"""What two random samples of the real images score, one as large as the real side, one as the generated side.

    .. math:: \sqrt{\mathrm{tr}\,V_r + b \sum m_i^2 / M^2 + (s - b) / M}

    is the root mean square of RL2 between them. Real images vary by :math:`s` in total, of which :math:`b` is between
    groups; :math:`m_i` are the :math:`M` generated images by group. Of :math:`N` real
    images without groups this is :math:`\sqrt{\mathrm{tr}\,S_r (1 / N + 1 / M)}`. Random halves of the real images, by
    group, would say the same of sets of half the size, which score higher. :math:`b` is what makes
    :math:`\mathrm{tr}\,V_r` larger than independent images would; it is 0 where no real group has two images.

    Args:
        mean_variance: :math:`\mathrm{tr}\,V_r`, the variance of the mean of the real side.
        total_variance: :math:`s`, the total variance of real images.
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
        between = min(max((mean_variance - total_variance / n) / (own - 1 / n), 0.0), total_variance)
    return math.sqrt(max(mean_variance, 0.0) + between * others + (total_variance - between) / m)


def _concentration(groups: Tensor) -> float:
    return float((groups.double() / groups.sum()).square().sum())
