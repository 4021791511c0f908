"""Signatures of damage, measured on real images."""

from collections.abc import Sequence
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

__all__ = ["STEPS", "VISIBLE", "Step", "measure_signatures"]

Step = tuple[str, float]
"""A ladder and a severity."""

STEPS: tuple[Step, ...] = tuple(
    (ladder.name, sign * severity)
    for ladder in LADDERS.values()
    for sign in ((-1, 1) if ladder.signed else (1,))
    for severity in ladder.severities
)
VISIBLE: tuple[Step, ...] = tuple(step for step in STEPS if abs(step[1]) == LADDERS[step[0]].visible)


@torch.no_grad()
def measure_signatures(
    flow: RealNVP,
    extractor: FeatureExtractor,
    files: Sequence[str | Path],
    reader: ImageReader,
    progress: Progress | None = None,
    wanted: Sequence[Step] = STEPS,
    count: int = 48,
) -> Signatures:
    """How far each severity of each ladder shifts the mean latent of images.

    Of a file that is cut into tiles, the first counts.

    Args:
        flow: Of the weights.
        extractor: Of the weights.
        files: Real images.
        reader: How they are read.
        progress: Whom to tell.
        wanted: Ladders and severities.
        count: How many files to take, evenly spread.

    """

    def encode(images: Tensor) -> Tensor:
        z: Tensor = flow(extractor(images.to(extractor.device)).to(flow.base.means.device))[0]
        return z.cpu().double()

    chosen = evenly([Path(file) for file in sorted({str(file) for file in files})], count)
    shifts: dict[Step, list[Tensor]] = {key: [] for key in wanted}
    seen = set[Path]()
    for batch in (reading := reader.read(chosen)):
        images = batch.images[_first_tiles(batch.paths, seen)]
        if not len(images):
            continue
        clean = encode(images)
        for ladder, severity in wanted:
            damaged = degrade(images, ladder, severity)
            # A coarser magnification has fewer pixels, which a person sees without us.
            if damaged.shape == images.shape:
                shifts[ladder, severity].append(encode(damaged) - clean)
        if progress:
            progress("signatures of damage", reading.done, len(chosen), len(images) * len(wanted))
    found = {key: torch.cat(parts) for key, parts in shifts.items() if parts}
    means = torch.stack([shift.mean(0) for shift in found.values()])
    along = means / means.norm(dim=1, keepdim=True).clamp(min=1e-12)
    lengths = [shift @ u for shift, u in zip(found.values(), along, strict=True)]
    # Of one image nothing is known of the spread: as large as the shift.
    variances = [(one.var() if len(one) > 1 else one.square().sum()) / len(one) for one in lengths]
    ladders, severities = zip(*found, strict=True)
    return Signatures(ladders, severities, means, torch.stack(variances).float(), len(next(iter(found.values()))))


def _first_tiles(paths: Sequence[Path], seen: set[Path]) -> list[int]:
    """Rows of the files that were not seen before, which are then."""
    rows = []
    for row, path in enumerate(paths):
        if path not in seen:
            seen.add(path)
            rows.append(row)
    return rows
