"""Signatures of damage, measured on real images."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import groupby, pairwise
from pathlib import Path

import torch
from torch import Tensor

from torchmetrics_rl2.images.reader import ImageReader
from torchmetrics_rl2.images.sampling import evenly
from torchmetrics_rl2.networks.extractor import FeatureExtractor
from torchmetrics_rl2.networks.flow import RealNVP
from torchmetrics_rl2.pixels.degradations import LADDERS, degrade
from torchmetrics_rl2.runtime import Progress
from torchmetrics_rl2.weights.signatures import Signatures

__all__ = ["DENSE", "PAIRS", "STEPS", "VISIBLE", "Step", "measure_signatures"]

Step = tuple[str, float]
"""A ladder and a severity."""

SHARE_FOR_PAIRS = 4
ORDER = ("color", "blank", "occlusion", "scale", "focus", "noise", "impulse", "compression")
"""In which damage comes about: in tissue, stain and glass, then in optics, sensor and file."""

STOOD_FOR = ("defocus disc", "downsampling", "diffusion")
"""Ladders that look like another one of their family, which stands for them in pairs."""


def _steps(severities: Callable[[Sequence[float]], Sequence[float]]) -> tuple[Step, ...]:
    return tuple(
        (ladder.name, sign * severity)
        for ladder in LADDERS.values()
        for sign in ((-1, 1) if ladder.signed else (1,))
        for severity in severities(ladder.severities)
    )


def _with_middles(severities: Sequence[float]) -> list[float]:
    """Those of an audit, and the middle, by ratio, of each two of them, as a curve bends in between."""
    middles = [math.sqrt(low * high) for low, high in pairwise(severities)]
    return sorted([severities[0] / 2, *severities, *middles])


def _pairs(steps: Sequence[Step]) -> tuple[tuple[Step, Step], ...]:
    """Each two of other families in that order, and a blur after noise, too, as of images that were resized."""

    def follows(second: Step, first: Step) -> bool:
        before, after = (LADDERS[ladder].family for ladder, _ in (first, second))
        smoothed = before in ("noise", "impulse") and after == "focus"
        return ORDER.index(before) < ORDER.index(after) or smoothed

    return tuple((first, second) for first in steps for second in steps if follows(second, first))


STEPS = _steps(lambda severities: severities)
DENSE = _steps(_with_middles)
VISIBLE = tuple(step for step in STEPS if abs(step[1]) == LADDERS[step[0]].visible)
COARSER: Step = ("magnification", -LADDERS["magnification"].visible)
PAIRS = _pairs([step for step in VISIBLE if step[0] not in STOOD_FOR and step != COARSER])


@torch.no_grad()
def measure_signatures(
    flow: RealNVP,
    extractor: FeatureExtractor,
    files: Sequence[str | Path],
    reader: ImageReader,
    progress: Progress | None = None,
    wanted: Sequence[Step] = DENSE,
    count: int = 32,
    pairs: Sequence[tuple[Step, Step]] = (),
) -> Signatures:
    """How far each severity of each ladder shifts the mean latent of images, and two kinds of damage together.

    Of a file that is cut into tiles, the first counts.

    Args:
        flow: Of the weights.
        extractor: Of the weights.
        files: Real images.
        reader: How they are read.
        progress: Whom to tell.
        wanted: Ladders and severities.
        count: How many files to take, evenly spread.
        pairs: Two of these, the second after the first, on a quarter of these files.

    """

    def encode(images: Tensor) -> Tensor:
        z: Tensor = flow(extractor(images.to(extractor.device)).to(flow.base.means.device))[0]
        return z.cpu().double()

    chosen = evenly([Path(file) for file in sorted({str(file) for file in files})], count)
    chosen_for_pairs = set(evenly(chosen, max(1, len(chosen) // SHARE_FOR_PAIRS)))
    shifts: dict[Step, list[Tensor]] = {step: [] for step in wanted}
    interactions: dict[tuple[Step, Step], list[Tensor]] = {pair: [] for pair in pairs}
    seen = set[Path]()
    for batch in (reading := reader.read(chosen)):
        rows = _first_tiles(batch.paths, seen)
        images = batch.images[rows]
        if not len(images):
            continue
        clean = encode(images)
        for step in wanted:
            damaged = degrade(images, *step)
            # A coarser magnification has fewer pixels, which a person sees without us.
            if damaged.shape == images.shape:
                shifts[step].append(encode(damaged) - clean)
        few = [i for i, row in enumerate(rows) if batch.paths[row] in chosen_for_pairs]
        for first, group in groupby(pairs if few else (), lambda pair: pair[0]):
            damaged = degrade(images[few], *first)
            for _, second in group:
                alone = sum(shifts[step][-1][few] for step in (first, second))
                interactions[first, second].append(encode(degrade(damaged, *second)) - clean[few] - alone)
        if progress:
            encoded = len(images) * len(wanted) + len(few) * len(pairs)
            progress("signatures of damage", reading.done, len(chosen), encoded)
    return _signatures({step: torch.cat(parts) for step, parts in shifts.items() if parts}, interactions)


def _signatures(shifts: dict[Step, Tensor], interactions: dict[tuple[Step, Step], list[Tensor]]) -> Signatures:
    means = torch.stack([shift.mean(0) for shift in shifts.values()])
    along = means / means.norm(dim=1, keepdim=True).clamp(min=1e-12)
    lengths = [shift @ u for shift, u in zip(shifts.values(), along, strict=True)]
    # Of one image nothing is known of the spread: as large as the shift.
    variances = [(one.var() if len(one) > 1 else one.square().sum()) / len(one) for one in lengths]
    ladders, severities = zip(*shifts, strict=True)
    row = {step: i for i, step in enumerate(shifts)}
    found = Signatures(ladders, severities, means, torch.stack(variances).float(), len(next(iter(shifts.values()))))
    if not interactions:
        return found
    of_pairs = torch.stack([torch.cat(parts).mean(0) for parts in interactions.values()])
    return replace(found, pairs=tuple((row[a], row[b]) for a, b in interactions), interactions=of_pairs)


def _first_tiles(paths: Sequence[Path], seen: set[Path]) -> list[int]:
    """Rows of the files that were not seen before, which are then."""
    rows = []
    for row, path in enumerate(paths):
        if path not in seen:
            seen.add(path)
            rows.append(row)
    return rows
