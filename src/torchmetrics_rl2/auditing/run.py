"""What a set of weights can and cannot detect, measured on images it has not met."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from torchmetrics_rl2.auditing.checks import contamination, diversity, domain, power, read_outliers
from torchmetrics_rl2.auditing.content import LADDERS as CONTENT_LADDERS
from torchmetrics_rl2.auditing.content import Damaged, content_fields
from torchmetrics_rl2.auditing.judge import Judge
from torchmetrics_rl2.auditing.ladder_result import LadderResult
from torchmetrics_rl2.auditing.meter import Meter
from torchmetrics_rl2.auditing.result import AuditResult
from torchmetrics_rl2.auditing.subject import MIN_IMAGES, Subject
from torchmetrics_rl2.distance.uncertainty import MIN_UNITS
from torchmetrics_rl2.encoder.sharing import any_encoder_of
from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.images.find import text_of
from torchmetrics_rl2.images.hub_datasets import ImageDataset
from torchmetrics_rl2.images.reader import ImageReader
from torchmetrics_rl2.pixels.degradations import LADDERS, Ladder, degrade
from torchmetrics_rl2.progress import reports_progress
from torchmetrics_rl2.runtime import Progress, default_workers, versions

__all__ = ["audit"]

POWER_LADDERS = ("gaussian blur", "gaussian noise")


@reports_progress
def audit(
    weights: str | Path | nn.Module,
    images: str | Path | ImageDataset,
    *,
    groups: str | Path | None = None,
    kinds: str | Path | None = None,
    outliers: str | Path | None = None,
    ladders: Sequence[str] | None = None,
    limit: int = 120,
    tile: int | None = None,
    scale: float | None = None,
    seed: int = 0,
    workers: int | None = None,
    device: str | torch.device | None = None,
    skip_unreadable: bool = False,
    progress: Progress | bool | None = None,
) -> AuditResult:
    """Damage clean images in rising severity, and see what the weights make of it.

    The images are split into two halves that share no unit. RL2 and its test compare the damaged second half with the
    clean first one, as a user compares generated with real images. The AUC compares the likelihoods of all damaged with
    all clean images; the two simpler models beside it are fitted to the half that they do not judge.

    If the weights have kinds of tissue, damage is judged by look, since chance in content drowns weak damage in the
    whole of RL2. Sets of another composition are then drawn from the images too, to see which content detects, and how
    much damage moves content and composition look.

    Args:
        weights: Name or path of weights, an encoder that has them, or a module of your own, which has no flow: a
            Gaussian of its latents stands in for it.
        images: Clean real images that neither fitted nor stopped the weights: a folder, a glob, a text file of
            paths, tar or Parquet files, or a ``datasets.Dataset``.
        groups: What is independent of what: ``"parent"``, ``"file"`` or a CSV with the columns ``path`` and ``group``;
            by default files are.
        kinds: The kind of tissue of each image, for sets of another composition: ``"parent"``, the names of the folders
            that images are in, or a CSV with the columns ``path`` and ``kind``; by default the most probable kind under
            the weights.
        outliers: Images that do not belong, to mix in; without it, the images themselves under the widest pen stroke.
        ladders: Names of :data:`~torchmetrics_rl2.pixels.LADDERS`, all by default.
        limit: Images to use at most, drawn by ``seed``.
        tile: Cut images into tiles of this side, in pixels; larger images give fields for coarser magnification too.
        scale: Resize by this factor before, antialiased.
        seed: Of the draw, the halves and the damage.
        workers: Processes that read ahead.
        device: Where to compute; by default a GPU if there is one.
        skip_unreadable: Leave out files that cannot be read.
        progress: ``True`` for bars and ``False`` for none; by default bars in a terminal and in a notebook. Or a
            function, called with what is being done, how much is done, how much there is, and images encoded since.

    Raises:
        RL2Error: If there are fewer than 8 images or two units, the images differ in size, or a ladder is unknown.

    Example:
        >>> from torchmetrics_rl2 import audit
        >>> found = audit("lung-colon", "examples/cmu/reference", ladders=["salt and pepper"], limit=16)
        >>> found.ladders[0].name, found.ladders[0].verdict
        ('salt and pepper', 'detects')

    """
    assert not isinstance(progress, bool)  # which @reports_progress takes
    names = list(LADDERS if ladders is None else dict.fromkeys(ladders))
    unknown = [name for name in names if name not in LADDERS]
    if unknown or not names:
        raise RL2Error(
            f"There is no ladder {', '.join(map(repr, unknown)) or 'to climb'}; known are {', '.join(LADDERS)}."
        )
    if limit < MIN_IMAGES:
        raise RL2Error(f"An audit needs at least {MIN_IMAGES} images, but got a limit of {limit}.")
    encoder = any_encoder_of(weights, device)
    workers = default_workers(workers, encoder.device)
    reader = ImageReader(tile, scale, workers=workers, skip_unreadable=skip_unreadable)
    subject = Subject.read(images, groups, reader, limit, seed, kinds)
    mixed_in = None if outliers is None else read_outliers(outliers, reader, limit)
    encoder.warn_of_other_px(subject.images)
    withheld = list[str]()
    steps = _steps(names, subject, withheld)
    # One step for the clean images, and one for what follows the ladders.
    total = sum(len(ladder.severities) for ladder, _ in steps) + 2
    if encoder.kinds is None:
        withheld.append("content: the weights have no kinds of tissue")
    else:
        total += len(CONTENT_LADDERS) + sum(2 * _on_same_images(*step) for step in steps)
    meter = Meter(encoder, progress, total)
    judge = Judge(subject, meter.measure(subject.images), encoder.kinds)
    found, weakest, damaged = _climb(steps, subject, meter, judge, seed)
    clean, content = judge.measured.latents, dict[str, Any]()
    if encoder.kinds is not None:
        content = content_fields(subject, clean, damaged, encoder.kinds, seed, meter, withheld)
    result = AuditResult(
        weights=encoder.name,
        weights_id=encoder.weights_id,
        images=text_of(images),
        n=len(subject.images),
        units=len(set(subject.units)),
        px=subject.px,
        clean=judge.clean.value,
        clean_debiased=judge.clean.debiased,
        clean_p_value=judge.clean.p_value,
        domain=domain(encoder, clean, subject.groups),
        ladders=found,
        power=power(subject, clean, weakest, seed, withheld, encoder.kinds),
        contamination=contamination(encoder, subject, judge.measured, mixed_in, seed, withheld),
        diversity=diversity(subject, clean, seed, withheld),
        withheld=withheld,
        unreadable=subject.unreadable,
        left_out=subject.left_out,
        settings={
            "kinds": None if kinds is None else os.fspath(kinds),
            "limit": limit,
            "tile": tile,
            "scale": scale,
            "seed": seed,
            "device": str(encoder.device),
        },
        versions=versions(),
        **content,
    )
    meter.step()
    return result


def _steps(names: Sequence[str], subject: Subject, withheld: list[str]) -> list[tuple[Ladder, int]]:
    """Ladders, and the direction of each; what these images are too few or too small for is withheld."""
    if subject.units_in_half < MIN_UNITS:
        withheld.append(
            f"intervals and tests, so every ladder is 'untested': a half has {subject.units_in_half} units and needs "
            f"{MIN_UNITS}"
        )
    steps = [(LADDERS[name], sign) for name in names for sign in ((1, -1) if LADDERS[name].signed else (1,))]
    if subject.fields is None and (LADDERS["magnification"], -1) in steps:
        steps.remove((LADDERS["magnification"], -1))
        px = subject.px
        withheld.append(f"coarser magnification: it needs fields of {2 * px} px; give larger images and --tile {px}")
    return steps


def _on_same_images(ladder: Ladder, sign: int) -> bool:
    """Coarser magnification has other fields, whose composition is another by chance."""
    return ladder.name != "magnification" or sign > 0


def _climb(
    steps: Sequence[tuple[Ladder, int]], subject: Subject, meter: Meter, judge: Judge, seed: int
) -> tuple[list[LadderResult], dict[str, Tensor], list[Damaged]]:
    """Responses to all ladders, and latents: at the weakest severity where power is measured, and for cross-talk."""
    found, weakest, drawn = [], {}, []
    for ladder, sign in steps:
        severities = []
        for severity in ladder.severities:
            source, clean = subject, subject.images
            if not _on_same_images(ladder, sign) and subject.fields:
                source = subject.fields
                clean = source.middle(round(subject.px * 2**severity))
            damaged = meter.measure(degrade(clean, ladder.name, sign * severity, seed))
            severities.append(judge.severity(ladder, sign * severity, damaged, source))
            if severity == ladder.severities[0] and ladder.name in POWER_LADDERS:
                weakest[f"{ladder.name} {ladder.amount(severity):.3g}"] = damaged.latents
            if _on_same_images(ladder, sign):
                drawn += _marked(ladder, sign, severity, damaged.latents)
        found.append(judge.ladder(ladder, sign, severities))
    return found, weakest, drawn


def _marked(ladder: Ladder, sign: int, severity: float, latents: Tensor) -> list[Damaged]:
    """Latents whose cross-talk is asked for."""
    amount = ladder.amount(sign * severity)
    name = f"{ladder.name} {amount:{'+' if ladder.signed else ''}.3g} {ladder.unit}"
    visible = min(ladder.severities, key=lambda one: abs(one - ladder.visible))
    found = [Damaged(name, "visible", latents)] if severity == visible else []
    return [*found, Damaged(name, "weakest", latents)] if severity == ladder.severities[0] else found
