"""How many images it takes, from a pilot: what ``rl2 plan`` does, from Python."""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from torchmetrics_rl2.distance.comparing import domain_shift
from torchmetrics_rl2.distance.details import MAX_DOMAIN_SHIFT
from torchmetrics_rl2.distance.statistics import Statistics
from torchmetrics_rl2.distance.text import POWER
from torchmetrics_rl2.distance.uncertainty import MIN_UNITS
from torchmetrics_rl2.encoder.encoder import LatentEncoder
from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.explaining.measuring import measure_signatures
from torchmetrics_rl2.planning.goals import Effects
from torchmetrics_rl2.planning.power import Difference, Pilot
from torchmetrics_rl2.planning.result import PlanGoal, PlanResult
from torchmetrics_rl2.progress import reports_progress
from torchmetrics_rl2.runtime import Progress
from torchmetrics_rl2.scoring.encoding import Encoding
from torchmetrics_rl2.scoring.measuring import encoder_for, image_reader, measure
from torchmetrics_rl2.scoring.sources import ImageSource, Source, find_sources

__all__ = ["plan"]

COUNTS = (50, 100, 200, 500, 1000)
GROUPS = (5, 10, 20, 40, 80)
MEASURED, SMALL = 24, 4
MOST = 10**12
FOREIGN = (
    "The pilot lies {:.1f} standard deviations from the reference data of the weights. Amounts of damage are those "
    "found in that data; give the images of the pilot, and damage is measured on them."
)


@reports_progress
def plan(
    real: Source | Sequence[Source],
    *,
    find: Sequence[str] = (),
    fakes: Sequence[Source] = (),
    counts: Sequence[int] = (),
    power: float = POWER,
    weights: str | Path | nn.Module = "histology",
    groups: str | Path | None = None,
    tile: int | None = None,
    scale: float | None = None,
    batch_size: int = 64,
    workers: int | None = None,
    device: str | torch.device | None = None,
    skip_unreadable: bool = False,
    progress: Progress | bool | None = None,
) -> PlanResult:
    r"""How many images, or slides, it takes to find a difference, and what numbers of them find.

    A few dozen real images, the pilot, say how far chance moves the mean latent. Known damage is found by look, where
    the weights have its signatures, and a missing kind of tissue by content. A plan takes generated images to vary as
    real ones do and to be independent of each other, and as many of them as of real ones.

    Args:
        real: The pilot: real images, or their statistics, as in :func:`score`.
        find: What is to be found: ``"distance=10"``, a name of :data:`~torchmetrics_rl2.pixels.LADDERS` with an amount
            such as ``"gaussian blur=0.5"``, or ``"missing=normal colon"``, a kind of tissue that a generator leaves
            out, in the share that it has in the pilot. By default the weakest severity that a person sees of some, and
            each kind that a twentieth of the pilot is of.
        fakes: Pilots of two generators, to plan a comparison of these with the real images of the pilot.
        counts: Numbers of images, or of groups, to say of what they find; by default 50 to 1,000 images, or 5 to 80
            groups.
        power: Share of draws in which a difference is found, 0.5 to below 1.
        weights: Name or path of weights, or an encoder that has them.
        groups: What is independent among real images, see :func:`score`; the plan then counts groups, as large as those
            of the pilot.
        tile: Cut images into tiles of this side, in pixels.
        scale: Resize by this factor before, antialiased.
        batch_size: Images a batch.
        workers: Processes that read ahead; by default none on a CPU, else up to 8.
        device: Where to compute; by default a GPU if there is one.
        skip_unreadable: Leave out files that cannot be read.
        progress: ``True`` for bars and ``False`` for none; by default bars in a terminal and in a notebook. Or a
            function, called with ``"real"`` or ``"fake"``, files read, files in all, and images since the last call.

    Raises:
        RL2Error: If the pilot has fewer than four images or groups, a goal is not known, or images cannot be read.

    Example:
        >>> from torchmetrics_rl2 import plan
        >>> found = plan("examples/cmu/reference", find=["gaussian blur=0.5"])
        >>> found.goals[0].name, found.goals[0].part, 4 < found.goals[0].needed < 20
        ('gaussian blur of sigma 0.500 px', 'look', True)

    """
    assert not isinstance(progress, bool)  # which @reports_progress takes
    find, fakes, counts = list(find), list(fakes), [int(count) for count in counts]
    _check(power, fakes, counts)
    found = find_sources(real, groups)
    others = [find_sources(one, None) for one in fakes]
    reader = image_reader(tile, scale, batch_size, workers, device, skip_unreadable)
    encoder = encoder_for([one for parts in (found, *others) for one in parts], weights, device, always=True)
    assert encoder is not None
    files = [path for one in found if isinstance(one, ImageSource) for path in one.paths]
    effects = Effects.known(encoder, find, bool(files))
    how = Encoding(encoder, reader)
    pilot, _ = measure(found, how, progress, "real")
    sides = [measure(parts, how, progress, "fake")[0] for parts in others]
    for side in (pilot, *sides):
        _check_units(side)
    shift = domain_shift(encoder.reference_statistics, pilot) if encoder.reference else None
    is_foreign = shift is not None and shift > MAX_DOMAIN_SHIFT
    if files and isinstance(encoder, LatentEncoder):
        steps = list(dict.fromkeys([*effects.steps(pilot), *effects.ladders()]))
        small = replace(reader, batch_size=min(reader.batch_size, SMALL))
        measured = measure_signatures(encoder.flow, encoder.features, files, small, progress, steps, MEASURED)
        effects = effects.measured(measured)
    told = [] if files or not is_foreign else [FOREIGN.format(shift)]
    for sentence in told:
        warnings.warn(sentence, stacklevel=3)
    numbers = sorted(set(counts)) or list(COUNTS if pilot.groups is None else GROUPS)
    chance = Pilot(pilot, effects.kinds)
    goals = effects.goals(pilot, chance, power)
    if sides:
        goals.append(_between(pilot, sides, power))
    between = None
    if pilot.groups is not None and len(pilot) > len(pilot.groups.count) and pilot.mean_variance:
        between = max(0.0, 1 - pilot.total_variance / len(pilot) / pilot.mean_variance)
    return PlanResult(
        counts=numbers,
        rows=effects.rows(pilot, chance, numbers, power),
        goals=goals,
        power=power,
        n_pilot=len(pilot),
        pilot=pilot.source,
        weights=pilot.weights,
        weights_id=pilot.weights_id,
        images_a_group=None if pilot.groups is None else len(pilot) / len(pilot.groups.count),
        between=between,
        warnings=told,
    )


def _between(pilot: Statistics, sides: Sequence[Statistics], power: float) -> PlanGoal:
    difference = Difference.of(pilot, *sides)
    first, second = (side.source for side in sides)
    # Fakes have units of their own: each generator's, whatever those of the real images.
    units = ["images" if side.groups is None else "groups" for side in sides]
    if units[0] != units[1]:
        raise RL2Error(f"{first} has {units[0]} as units and {second} {units[1]}. Give both with groups, or neither.")
    name = (
        f"{first} and {second} ({units[0]} of each) apart, as far as in the pilots, with the {len(pilot)} real images "
        "of the pilot"
    )
    return PlanGoal(name, abs(difference.value), "squared", difference.needed(difference.value, power))


def _check(power: float, fakes: Sequence[Source], counts: Sequence[int]) -> None:
    if not 0.5 <= power < 1:
        raise RL2Error(f"Power is the share of draws in which a difference is found, 0.5 to below 1, but got {power}.")
    if len(fakes) not in (0, 2):
        raise RL2Error(f"A comparison is planned from pilots of two generators, but got {len(fakes)}.")
    if any(count < MIN_UNITS for count in counts):
        raise RL2Error(f"Numbers of images or groups start at {MIN_UNITS}, but got {min(counts)}.")
    if any(count > MOST for count in counts):
        raise RL2Error(f"Numbers of images or groups end at {MOST}, but got one of {len(str(max(counts)))} digits.")


def _check_units(side: Statistics) -> None:
    if side.units is not None and torch.isfinite(side.units.covariance).all():
        return
    what = "images" if side.groups is None else "groups"
    raise RL2Error(
        f"A pilot needs at least {MIN_UNITS} different {what}, and their second moments, as 'rl2 stats' keeps them; "
        f"{side.source} has {side.unit_count}."
    )
