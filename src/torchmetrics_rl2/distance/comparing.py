"""Two sides of the distance, compared."""

import math
from contextlib import suppress
from dataclasses import asdict, fields
from typing import Any

import numpy as np
from torch import Tensor

from torchmetrics_rl2.distance.baseline import baseline_fields
from torchmetrics_rl2.distance.between_groups import between_groups
from torchmetrics_rl2.distance.composition import content_p_values
from torchmetrics_rl2.distance.kinds import PARTS
from torchmetrics_rl2.distance.merging import check_same_weights
from torchmetrics_rl2.distance.parts import PartResult, kind_shares
from torchmetrics_rl2.distance.result import RL2Result
from torchmetrics_rl2.distance.statistics import REFERENCE, Statistics
from torchmetrics_rl2.distance.text import LEVEL, if_finite
from torchmetrics_rl2.distance.uncertainty import MIN_UNITS, uncertainty
from torchmetrics_rl2.functional import debias, distance
from torchmetrics_rl2.rank_zero import rank_zero_warn

__all__ = ["compare", "domain_shift", "numbers_of"]

DOMINANT = 1 / 3


def compare(real: Statistics, fake: Statistics) -> RL2Result:
    """RL2 between two sides, with its uncertainty.

    Args:
        real: Statistics of the real side.
        fake: Statistics of the generated side.

    Raises:
        RL2Error: If they are latents of different weights.

    """
    check_same_weights(real, fake)
    found = numbers_of(real, fake)
    for side in (real, fake):
        if side.groups is not None and len(side.groups.count) >= MIN_UNITS:
            _warn_of_a_dominant_group(side.source, side.groups.count)
    if real.kinds is not None:
        found |= _parts(real, fake) | {"kinds": kind_shares(real, fake) if len(real) and len(fake) else []}
    if real.source == REFERENCE:
        found["between_groups"] = between_groups(real)
    return RL2Result(
        n_real=len(real),
        n_fake=len(fake),
        real=real.source,
        fake=fake.source,
        weights=fake.weights,
        weights_id=fake.weights_id,
        groups_real=None if real.groups is None else len(real.groups.count),
        groups_fake=None if fake.groups is None else len(fake.groups.count),
        unreadable=[*real.unreadable, *fake.unreadable],
        left_out=[*real.left_out, *fake.left_out],
        duplicates={"real": list(real.duplicates), "fake": list(fake.duplicates)},
        **found,
    )


def numbers_of(real: Statistics, fake: Statistics, limit: float = 0.0, level: float = LEVEL) -> dict[str, Any]:
    """Value, uncertainty and baseline, by the names of the fields of a result.

    Args:
        real: Statistics of the real side.
        fake: Statistics of the generated side, of the same weights.
        limit: The largest shift that the test is not to reject.
        level: What the interval of the debiased value leaves out.

    """
    value = distance(real.sums, fake.sums)
    found: dict[str, Any] = {"debiased": _debiased(real, fake)}
    with suppress(ArithmeticError, ValueError):  # latents whose fourth powers are beyond float64
        units = real.units, fake.units
        if units[0] and units[1] and value.isfinite():
            found = asdict(uncertainty(units[0], units[1], limit, level))
            found["variance_ratio"] = if_finite(found["variance_ratio"])
            if any(map(math.isnan, found["variance_ratio_interval"])):
                found["variance_ratio_interval"] = None
    # Copies of an image are one, and sharpen nothing.
    counts = [(_distinct(side), None if side.groups is None else side.groups.count) for side in (real, fake)]
    baseline = baseline_fields(float(value), real.mean_variance, real.total_variance, *counts)
    return {"value": float(value)} | found | baseline


def _debiased(real: Statistics, fake: Statistics) -> float:
    with suppress(ArithmeticError, ValueError):  # latents whose squares are beyond float64
        return float(debias(distance(real.sums, fake.sums), real.mean_variance + fake.mean_variance))
    return math.nan


def _parts(real: Statistics, fake: Statistics) -> dict[str, PartResult]:
    """Content and look, each against what a difference in the other alone moves it by."""
    assert real.kinds is not None
    sides = {name: (real.part(name), fake.part(name)) for name in PARTS}
    debiased = {name: _debiased(*both) for name, both in sides.items()}
    of_look, of_content = real.kinds.leaks
    limits = {"content": of_look * max(0.0, debiased["look"]), "look": of_content * max(0.0, debiased["content"])}
    p_value = _of_composition(real, fake, limits["content"])
    limits["content"] += _carried_share(real, fake) * max(0.0, debiased["look"])
    found: dict[str, PartResult] = {}
    for name, both in sides.items():
        compared = numbers_of(*both, limits[name])
        if name == "content" and "p_value" in compared:
            compared["p_value"] = p_value
        known = {field.name: compared[field.name] for field in fields(PartResult) if field.name in compared}
        found[name] = PartResult(**known, limit=limits[name])
    return found


def _of_composition(real: Statistics, fake: Statistics, limit: float) -> float | None:
    """P-value of content without what look carries along, ``None`` where there is none."""
    with suppress(ArithmeticError, ValueError):  # latents whose fourth powers are beyond float64
        one, other, kinds = real.units, fake.units, real.kinds
        if one is None or other is None or kinds is None:
            return None
        difference = (one.mean - other.mean) @ kinds.axes
        of_real, of_fake = ((kinds.axes.T @ side.covariance @ kinds.axes / side.count).numpy() for side in (one, other))
        counts = one.count, other.count
        return float(content_p_values(difference.numpy(), (of_real, of_fake), counts, np.float64(limit)))
    return None


def _carried_share(real: Statistics, fake: Statistics) -> float:
    """The content that the look of two sides carries along, as a share of it."""
    assert real.kinds is not None
    difference = real.sums.sum / real.sums.count - fake.sums.sum / fake.sums.count
    content = difference @ real.kinds.basis
    look = float((difference - content @ real.kinds.basis.T).norm())
    carried = float((content - difference @ real.kinds.axes).norm())
    return carried / look if look > 0 else 0.0


def _distinct(side: Statistics) -> int:
    """Images without copies, which a baseline counts as chance does; all of them where they are copies of a few."""
    distinct = len(side) - len(side.duplicates)
    return distinct if distinct >= MIN_UNITS else len(side)


def _warn_of_a_dominant_group(source: str, counts: Tensor) -> None:
    share = float(counts.max() / counts.sum())
    if share > DOMINANT:
        rank_zero_warn(
            f"One of the {len(counts)} groups of {source} has {share:.0%} of its images. Interval and p-value lean on "
            "it; give groups of similar size."
        )


def domain_shift(reference: Statistics, real: Statistics) -> float | None:
    r"""How far real images are from the reference data of the weights, whatever their number and composition.

    .. math:: \mathrm{debiased} / \sqrt{\mathrm{tr}\,S_{ref}}

    At 1 they are, on average, as far from the mean of the reference as its own images are. Where the weights have kinds
    of tissue, it is that of the look: images that show some of the kinds alone are of no other domain.

    Args:
        reference: Of the weights.
        real: Real images of the user.

    Returns:
        The debiased distance in standard deviations of the reference data (root total variance), 0 where it is
        negative; ``None`` where it cannot be told.

    """
    if reference.kinds is not None:
        reference, real = reference.part("look"), real.part("look")
    apart = _debiased(reference, real) / math.sqrt(reference.total_variance or math.nan)
    return max(0.0, apart) if math.isfinite(apart) else None
