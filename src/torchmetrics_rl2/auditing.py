"""What a set of weights can and cannot notice, measured on images it has not met."""

import math
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor

from torchmetrics_rl2.audit_checks import contamination, diversity, domain, power, read_foreign
from torchmetrics_rl2.audit_result import AuditResult, LadderResult, Rung
from torchmetrics_rl2.audit_subject import LEAST_IMAGES, Measured, Meter, Subject
from torchmetrics_rl2.degradations import LADDERS, Ladder, degrade
from torchmetrics_rl2.encoder import LatentEncoder
from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.gaussian import Gaussian
from torchmetrics_rl2.images import ImageReader, Progress
from torchmetrics_rl2.result import RL2Result
from torchmetrics_rl2.scoring import default_device, default_workers, versions
from torchmetrics_rl2.statistics import Statistics, compare
from torchmetrics_rl2.uncertainty import LEAST_UNITS
from torchmetrics_rl2.weights import Weights, load_weights, write_weights
from torchmetrics_rl2.weights.catalog import find_entry

__all__ = ["audit", "auroc", "check_can_save", "save_audit"]

POWER_LADDERS = ("gaussian blur", "gaussian noise")


def audit(
    weights: str | Path | LatentEncoder,
    images: str | Path,
    *,
    groups: str | Path | None = None,
    foreign: str | Path | None = None,
    ladders: Sequence[str] | None = None,
    limit: int = 120,
    tile: int | None = None,
    scale: float | None = None,
    seed: int = 0,
    workers: int | None = None,
    device: str | torch.device | None = None,
    skip_unreadable: bool = False,
    progress: Progress | None = None,
) -> AuditResult:
    """Damage clean images in rising strength, and see what the weights make of it.

    The images are split into two halves that share no unit. RL2 and its test compare the damaged second half with the
    clean first one, as a user compares generated with real images. The AUC compares the likelihoods of all damaged with
    all clean images; the two baselines beside it are fitted to the half that they do not judge.

    Args:
        weights: Name or path of weights, or an encoder that has them.
        images: Clean real images that neither fitted nor stopped the weights: a folder, a glob or a text file of paths.
        groups: What is independent of what: ``"parent"``, ``"file"`` or a CSV with the columns ``path`` and ``group``;
            by default files are.
        foreign: Images that do not belong, to mix in; without it, the images themselves under the widest pen stroke.
        ladders: Names of :data:`~torchmetrics_rl2.degradations.LADDERS`, all by default.
        limit: Images to use at most, drawn by ``seed``.
        tile: Cut images into tiles of this side, in pixels; larger images give fields for coarser magnification too.
        scale: Resize by this factor before, antialiased.
        seed: Of the draw, the halves and the damage.
        workers: Processes that read ahead.
        device: Where to compute; by default a GPU if there is one.
        skip_unreadable: Leave out files that cannot be read.
        progress: Called with what is being done, how much is done, how much there is, and images encoded since.

    Raises:
        RL2Error: If there are fewer than 8 images or two units, the images differ in size, or a ladder is unknown.

    Example:
        >>> from torchmetrics_rl2 import audit
        >>> found = audit("lung-colon@1", "examples/cmu/reference", ladders=["salt and pepper"])
        >>> found.ladders[0].name, found.ladders[0].verdict
        ('salt and pepper', 'notices')

    """
    names = list(LADDERS if ladders is None else dict.fromkeys(ladders))
    unknown = [name for name in names if name not in LADDERS]
    if unknown or not names:
        raise RL2Error(f"There is no ladder {', '.join(unknown) or 'to climb'!r}; known are {', '.join(LADDERS)}.")
    if limit < LEAST_IMAGES:
        raise RL2Error(f"An audit needs at least {LEAST_IMAGES} images, but got a limit of {limit}.")
    device = default_device(device)
    encoder = (weights if isinstance(weights, LatentEncoder) else LatentEncoder.load(weights)).to(device)
    reader = ImageReader(tile, scale, workers=default_workers(workers, device), skip_unreadable=skip_unreadable)
    subject = Subject.read(images, groups, reader, limit, seed)
    strangers = None if foreign is None else read_foreign(foreign, reader, limit)
    encoder.warn_of_other_px(subject.images)
    px = subject.images.shape[-1]
    withheld = []
    if subject.units_in_half < LEAST_UNITS:
        withheld.append(
            f"intervals and tests, so every ladder is 'untested': {subject.units_in_half} units in a half, "
            f"{LEAST_UNITS} are needed"
        )
    steps = [(LADDERS[name], sign) for name in names for sign in ((1, -1) if LADDERS[name].signed else (1,))]
    if subject.fields is None and (LADDERS["magnification"], -1) in steps:
        steps.remove((LADDERS["magnification"], -1))
        withheld.append(f"coarser magnification: it needs fields of {2 * px} px; give larger images and --tile {px}")

    # One step for the clean images, and one for what follows the ladders.
    meter = Meter(encoder, progress, sum(len(ladder.rungs) for ladder, _ in steps) + 2)
    judge = _Judge(subject, meter.measure(subject.images))
    found, weakest = [], {}
    for ladder, sign in steps:
        rungs = []
        for strength in ladder.rungs:
            source = subject
            damaged_images = subject.images
            if ladder.name == "magnification" and sign < 0 and subject.fields:
                source = subject.fields
                damaged_images = source.middle(round(px * 2**strength))
            damaged = meter.measure(degrade(damaged_images, ladder.name, sign * strength, seed))
            rungs.append(judge.rung(ladder, sign * strength, damaged, source))
            if strength == ladder.rungs[0] and ladder.name in POWER_LADDERS:
                weakest[f"{ladder.name} {ladder.amount(strength):.3g}"] = damaged.latents
        found.append(judge.ladder(ladder, sign, rungs))
    result = AuditResult(
        weights=encoder.name,
        weights_id=encoder.weights_id,
        images=os.fspath(images),
        n=len(subject.images),
        units=len(set(subject.units)),
        px=px,
        clean=judge.clean.value,
        clean_debiased=judge.clean.debiased,
        clean_p_value=judge.clean.p_value,
        domain=domain(encoder, judge.measured.latents, subject.groups),
        ladders=found,
        power=power(subject, judge.measured.latents, weakest, seed, withheld),
        foreign=contamination(encoder, subject, judge.measured, strangers, seed, withheld),
        diversity=diversity(subject, judge.measured.latents, seed, withheld),
        withheld=withheld,
        unreadable=tuple(reader.unreadable),
        settings={"limit": limit, "tile": tile, "scale": scale, "seed": seed, "device": str(device)},
        versions=versions(),
    )
    meter.step()
    return result


def auroc(clean: Tensor, damaged: Tensor) -> float:
    """Probability that a damaged patch ``(M,)`` scores below a clean one ``(N,)``; ties count half."""
    below, equal = damaged[:, None] < clean, damaged[:, None] == clean
    return float(below.double().mean() + equal.double().mean() / 2)


class _Judge:
    """Compares damaged with clean images."""

    def __init__(self, subject: Subject, clean: Measured) -> None:
        self.subject, self.measured = subject, clean
        self.first = self._statistics(clean, subject, ~subject.second)
        self.clean: RL2Result = compare(self.first, self._statistics(clean, subject, subject.second))
        self.features, self.handmade = (self._baseline(numbers) for numbers in (clean.features, clean.handmade))

    def _statistics(self, measured: Measured, of: Subject, rows: Tensor) -> Statistics:
        groups = [unit for unit, row in zip(of.units, rows.tolist(), strict=True) if row]
        return Statistics.of_latents(measured.latents[rows], groups if of.groups or self.subject.groups else None)

    def rung(self, ladder: Ladder, strength: float, damaged: Measured, source: Subject) -> Rung:
        """Response to one strength; ``source`` says which unit and half each damaged image is of."""
        result = compare(self.first, self._statistics(damaged, source, source.second))
        return Rung(
            strength=strength,
            amount=ladder.amount(strength),
            value=result.value,
            debiased=result.debiased,
            interval=_if_finite(result.interval),
            p_value=result.p_value,
            auc=auroc(self.measured.likelihood, damaged.likelihood),
            auc_gaussian=self._area(self.features, damaged.features, source),
            auc_handmade=self._area(self.handmade, damaged.handmade, source),
        )

    def _baseline(self, clean: Tensor) -> list[tuple[bool, Gaussian, Tensor]]:
        """For each half: which it is, the Gaussian of the other half, and what that makes of the clean half."""
        halves = []
        for half in (False, True):
            gaussian = Gaussian(clean[self.subject.second != half])
            halves.append((half, gaussian, gaussian.log_prob(clean[self.subject.second == half])))
        return halves

    def _area(self, baseline: list[tuple[bool, Gaussian, Tensor]], damaged: Tensor, source: Subject) -> float:
        """Mean AUC of both halves."""
        judged = [(gaussian, clean, damaged[source.second == half]) for half, gaussian, clean in baseline]
        return fmean(auroc(clean, gaussian.log_prob(numbers)) for gaussian, clean, numbers in judged if len(numbers))

    def ladder(self, ladder: Ladder, sign: int, rungs: Sequence[Rung]) -> LadderResult:
        """All rungs of a ladder, or of one direction."""
        number = list(LADDERS).index(ladder.name) + 1
        name = f"{ladder.name} {'+' if sign > 0 else '-'}" if ladder.signed else ladder.name
        return LadderResult(
            number=number,
            name=name,
            family=ladder.family,
            unit=ladder.unit,
            visible=ladder.amount(sign * ladder.visible),
            clean=self.clean.value,
            clean_debiased=self.clean.debiased,
            clean_interval=_if_finite(self.clean.interval),
            rungs=rungs,
        )


def _if_finite(interval: tuple[float, float] | None) -> tuple[float, float] | None:
    return interval if interval and all(map(math.isfinite, interval)) else None


def check_can_save(weights: str | Path) -> Weights:
    """Refuse early weights whose file is not the user's, and read the others.

    Args:
        weights: Name or path.

    Raises:
        RL2Error: If it is a name, or no weights file.

    """
    if find_entry(weights) is not None:
        raise RL2Error(f"{weights} is a name, whose file is checked against the catalog; an audit is saved into files.")
    return load_weights(weights)


def save_audit(result: AuditResult, path: str | Path) -> None:
    """Write the summary of an audit into the card of a weights file; which latents these are stays the same.

    Args:
        result: What :func:`audit` found.
        path: The weights file.

    Raises:
        RL2Error: If the file has other weights than those audited, or cannot be written.

    """
    weights = check_can_save(path)
    if weights.weights_id != result.weights_id:
        raise RL2Error(f"{path} has the weights {weights.weights_id[:12]}, but {result.weights_id[:12]} were audited.")
    write_weights(replace(weights, card={**weights.card, "audit": result.summary()}), path)
