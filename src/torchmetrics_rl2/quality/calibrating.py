"""From files of good patches to a calibration, and where the calibration of weights is kept."""

import os
import random
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from torchmetrics_rl2.distance.sums import rows_of
from torchmetrics_rl2.encoder.encoder import LatentEncoder
from torchmetrics_rl2.encoder.sharing import encoder_of
from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.images.duplicates import pixel_keys
from torchmetrics_rl2.images.find import FoundImages, base_of, find, left_out_sentence
from torchmetrics_rl2.images.groups import groups_of
from torchmetrics_rl2.images.reader import ImageReader
from torchmetrics_rl2.images.sampling import EvenSample
from torchmetrics_rl2.pixels.stain import stain_of
from torchmetrics_rl2.progress import reports_progress
from torchmetrics_rl2.quality.calibration import Calibration
from torchmetrics_rl2.quality.measures import MIN_TISSUE, measure, shares
from torchmetrics_rl2.runtime import Progress, default_workers

__all__ = ["calibrate", "calibration_beside"]

BATCH = 64
MAX_PATCHES = 2000


@reports_progress
def calibrate(
    patches: str | Path | Sequence[Path],
    weights: str | Path | LatentEncoder = "lung-colon",
    *,
    groups: str | Path | Mapping[Path, str] | None = None,
    tile: int | None = None,
    scale: float | None = None,
    mpp: float | None = None,
    seed: int = 0,
    workers: int | None = None,
    device: str | torch.device | None = None,
    skip_unreadable: bool = False,
    progress: Progress | bool | None = None,
) -> Calibration:
    """Calibration of good patches, 64 to 128 of 20 slides or more, that neither trained nor fitted the weights.

    Patches without tissue are left out. Of more than 2,000 files, so many are drawn; of more tiles, every second,
    fourth and so on is taken, until there are no more than that.

    Args:
        patches: A folder, a glob, a text file of paths, or paths.
        weights: Name or path of weights, or an encoder that has them.
        groups: ``"parent"`` for the folders that patches are in, such as slides, ``"file"``, or a CSV with the columns
            ``path`` and ``group``, or the group of each path. ``None`` takes all files as independent, which patches of
            one slide are not.
        tile: Cut images into tiles of this side, in pixels.
        scale: Resize by this factor before, antialiased.
        mpp: Resolution of the patches in um/px, to be kept on record.
        seed: Of the draw.
        workers: Processes that read ahead.
        device: Where to compute; by default a GPU if there is one.
        skip_unreadable: Leave out files that cannot be read.
        progress: ``True`` for bars and ``False`` for none; by default bars in a terminal and in a notebook. Or a
            function, called with ``"good patches"``, files read, files in all, and images since the last call.

    Raises:
        RL2Error: If there are fewer than 16 patches with tissue, they differ in size, or one cannot be read.

    Example:
        >>> from torchmetrics_rl2 import calibrate
        >>> calibration = calibrate("examples/cmu/reference")
        >>> len(calibration), calibration.group_count, calibration.px
        (40, 40, 224)

    """
    assert not isinstance(progress, bool)  # which @reports_progress takes
    encoder = encoder_of(weights, device)
    given = isinstance(patches, str | Path)
    found = find(patches) if isinstance(patches, str | Path) else FoundImages(list(patches))
    paths = found.paths
    if found.left_out:
        warnings.warn(left_out_sentence(str(patches), found.left_out), stacklevel=3)
    source = os.fspath(patches) if isinstance(patches, str | Path) else f"{len(paths)} files"
    base = base_of(source) if given else Path()
    named = groups if isinstance(groups, Mapping) else groups_of(groups or "file", paths, base)
    drawn = sorted(random.Random(seed).sample(paths, min(MAX_PATCHES, len(paths))))
    reader = ImageReader(tile, scale, BATCH, default_workers(workers, encoder.device), skip_unreadable)
    kept, seen, repeated = EvenSample[tuple[Tensor, bool, str]](MAX_PATCHES), set[str | None](), 0
    for batch in (reading := reader.read(drawn)):
        parts, keys = shares(batch.images), pixel_keys(batch.images)
        for i in torch.nonzero(parts.tissue >= MIN_TISSUE).flatten().tolist():
            if keys[i] in seen:
                repeated += 1
                continue
            if (key := keys[i]) is not None:
                seen.add(key)
            kept.add((batch.images[i].clone(), bool(parts.foreign[i]), named[batch.paths[i]]))
        if progress:
            progress("good patches", reading.done, len(drawn), len(batch.images))
    if repeated:
        warnings.warn(f"{repeated} good patches repeat others pixel for pixel, and were left out.", stacklevel=3)
    if len(reading.unreadable) == len(drawn):
        raise RL2Error(f"None of the {len(drawn)} files of {source} could be read: {reading.unreadable[-1]}")
    if not kept.items:
        raise RL2Error(f"None of the patches of {source} is at least {MIN_TISSUE:.0%} tissue; give good patches.")
    images, flags, names = zip(*kept.items, strict=True)
    sizes = {tuple(image.shape[1:]) for image in images}
    if len(sizes) > 1:
        raise RL2Error(f"The good patches of {source} differ in size: {sorted(sizes)[:3]} px. Cut tiles, with --tile.")
    batches = [torch.stack(images[start : start + BATCH]) for start in range(0, len(images), BATCH)]
    measured = map(torch.cat, zip(*(measure(encoder, part) for part in batches), strict=True))
    latents, log_det, statistics, kinds, _ = measured
    px = max(sizes)[0]
    return Calibration(
        latents,
        log_det,
        statistics,
        kinds,
        flagged=torch.tensor(flags),
        groups=rows_of(names)[1],
        stain=stain_of(batches),
        weights=encoder.name,
        weights_id=encoder.weights_id,
        source=Path(source).resolve().name,
        two_sided=_inverts(encoder),
        px=px,
        mpp=mpp,
    )


def _inverts(encoder: LatentEncoder) -> bool:
    """Whether the audit of the weights found damage that scores better than none."""
    audit = encoder.card.get("audit") or {}
    verdicts = audit.get("verdicts") if isinstance(audit, dict) else None
    return bool(isinstance(verdicts, dict) and verdicts.get("inverts"))


def calibration_beside(encoder: LatentEncoder) -> Path:
    """The file with good patches of the domain of weights, ``NAME.calibration.safetensors`` beside them.

    Raises:
        RL2Error: If there is none.

    """
    hint = "Say what good patches are: --calibrate GOOD_PATCHES, 64 to 128 of 20 slides or more."
    if encoder.path is None:
        raise RL2Error(f"The weights {encoder.name} are not from a file, so that none is beside them. {hint}")
    path = beside(encoder.path)
    if not path.is_file():
        raise RL2Error(f"The weights {encoder.name} have no calibration beside them, {path.name}. {hint}")
    return path


def beside(weights: Path) -> Path:
    """Where the calibration of a weights file is."""
    return weights.with_name(f"{weights.name.removesuffix('.safetensors')}.calibration.safetensors")
