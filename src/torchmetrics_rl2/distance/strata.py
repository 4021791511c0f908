"""RL2 within strata of both sides, and how the whole splits into shares of strata and images within them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from torchmetrics_rl2.distance.comparing import numbers_of
from torchmetrics_rl2.distance.result import RL2Result
from torchmetrics_rl2.distance.statistics import Statistics
from torchmetrics_rl2.distance.strata_result import StrataSplit, StratumResult
from torchmetrics_rl2.distance.text import LEVEL
from torchmetrics_rl2.distance.uncertainty import MIN_UNITS
from torchmetrics_rl2.functional import debias, distance

__all__ = ["MAX_CLASSES", "compare_strata", "holm", "with_strata"]

MAX_CLASSES = 100

FIELDS = ("value", "debiased", "interval", "baseline", "baseline_multiple")


def with_strata(
    result: RL2Result, by: str, real: Mapping[str, Statistics], fake: Mapping[str, Statistics], order: Sequence[str]
) -> RL2Result:
    """A result with those of its strata.

    Args:
        result: That of the two sides.
        by: ``"kinds"`` or ``"classes"``.
        real: Statistics of the real images of each stratum.
        fake: The same of generated images.
        order: Of the strata; those that neither side has are left out.

    """
    strata, split = compare_strata(real, fake, [name for name in order if name in real or name in fake])
    return replace(result, strata=strata, strata_by=by, strata_split=split)


def compare_strata(
    real: Mapping[str, Statistics], fake: Mapping[str, Statistics], names: Sequence[str]
) -> tuple[list[StratumResult], StrataSplit | None]:
    """RL2 within each stratum that both sides have enough images of, and how the whole of these splits.

    Sums alone, without groups and second moments, give values and the split, and neither intervals nor tests.

    Args:
        real: Statistics of the real images of each stratum.
        fake: The same of generated images, of the same weights.
        names: Strata that a side has, in the order of the results.

    Returns:
        A result for each stratum, and the split, which is ``None`` where no stratum can be compared.

    """
    withheld = {name: _withheld(real.get(name), fake.get(name)) for name in names}
    enough = [name for name in names if not withheld[name]]
    numbers = {name: numbers_of(real[name], fake[name], level=LEVEL / len(enough)) for name in enough}
    for name in enough:
        is_tested = real[name].has_uncertainty and fake[name].has_uncertainty
        ends = numbers[name].get("interval", [math.nan]) if is_tested else [numbers[name]["debiased"]]
        if not all(map(math.isfinite, ends)):
            withheld[name] = "some latents are NaN or too large"
    compared = [name for name in enough if not withheld[name]]
    tested = [name for name in compared if "p_value" in numbers[name]]
    adjusted = dict(zip(tested, holm([numbers[name]["p_value"] for name in tested]), strict=True))
    results = []
    for name in names:
        n_real, n_fake = (len(side[name]) if name in side else 0 for side in (real, fake))
        found = StratumResult(name, n_real, n_fake, withheld=withheld[name])
        if not found.withheld:
            p_value = None if real[name].groups is None or fake[name].groups is None else adjusted[name]
            known: dict[str, Any] = {field: numbers[name].get(field) for field in FIELDS}
            low = known["interval"][0] if name in adjusted else -math.inf
            differs = low > 0 if p_value is None else p_value < LEVEL
            closest = _closest(fake[name], {other: real[other] for other in compared})
            found = replace(found, **known, p_value=p_value, differs=differs, closest=closest)
        results.append(found)
    return results, _split(results, real, fake) if compared else None


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for their number (Holm 1979): those below a level keep the error over all of them below it."""
    adjusted, least, count = [0.0] * len(p_values), 0.0, len(p_values)
    for rank, i in enumerate(sorted(range(count), key=lambda i: p_values[i])):
        least = max(least, min(1.0, (count - rank) * p_values[i]))
        adjusted[i] = least
    return adjusted


def _withheld(real: Statistics | None, fake: Statistics | None) -> str:
    """Why a stratum cannot be compared, if it cannot."""
    if real is None or fake is None:
        return f"only {'generated' if real is None else 'real'} images"
    for name, side in (("real", real), ("generated", fake)):
        if side.unit_count < MIN_UNITS:
            what = "image" if side.groups is None else "group"
            what = f"{'distinct ' if side.duplicates else ''}{name} {what}{'' if side.unit_count == 1 else 's'}"
            return f"{side.unit_count} {what}, at least {MIN_UNITS} are needed"
    return ""


def _closest(fake: Statistics, real: Mapping[str, Statistics]) -> str:
    """The stratum whose real mean is closest, chance in that taken off."""
    apart = {name: float(debias(distance(side.sums, fake.sums), side.mean_variance)) for name, side in real.items()}
    return min(apart, key=lambda name: apart[name])


def _split(
    results: Sequence[StratumResult], real: Mapping[str, Statistics], fake: Mapping[str, Statistics]
) -> StrataSplit:
    compared = [one for one in results if not one.withheld]
    n_real, n_fake = sum(one.n_real for one in compared), sum(one.n_fake for one in compared)
    p = torch.tensor([one.n_real / n_real for one in compared], dtype=torch.float64)
    q = torch.tensor([one.n_fake / n_fake for one in compared], dtype=torch.float64)
    r, g = (torch.stack([side[one.name].sums.sum / len(side[one.name]) for one in compared]) for side in (real, fake))
    mixture, within = (q - p) @ r, q @ (g - r)
    debiased = torch.tensor([one.debiased for one in compared], dtype=torch.float64)
    square = float(q @ (debiased * debiased.abs()))
    conditional = float((q @ (g - r).square().sum(1)).sqrt())
    baselines = [one.baseline for one in compared if one.baseline]
    multiple = None
    if len(baselines) == len(compared):
        multiple = conditional / float((q @ torch.tensor(baselines, dtype=torch.float64).square()).sqrt())
    return StrataSplit(
        n_real,
        n_fake,
        value=float((mixture + within).norm()),
        mixture=float(mixture.norm()),
        within=float(within.norm()),
        conditional=conditional,
        conditional_debiased=math.copysign(math.sqrt(abs(square)), square),
        conditional_multiple=multiple,
    )
