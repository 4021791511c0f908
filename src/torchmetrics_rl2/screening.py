"""Patches that are doubtful, and why: tissue or not, named reasons, and the score of a calibrated flow."""

import copy
import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from torchmetrics_rl2.calibration import Calibration
from torchmetrics_rl2.encoder import LatentEncoder, check_images, exact_arithmetic
from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.flow import log_likelihood
from torchmetrics_rl2.grouping import rows_of
from torchmetrics_rl2.images import EvenSample, ImageReader, Progress, find_images
from torchmetrics_rl2.patch_statistics import ink_share, patch_statistics, tissue_share
from torchmetrics_rl2.reasons import Names
from torchmetrics_rl2.scoring import default_device, default_workers
from torchmetrics_rl2.splitting import groups_of
from torchmetrics_rl2.stain import Stain, restain, stain_of
from torchmetrics_rl2.weights import fetch_weights, load_weights

__all__ = ["PatchScreener", "Verdicts", "calibrate", "calibration_beside"]

MIN_TISSUE = 0.2
NO_WHITE = (0.0, 0.0, 0.0)
INK = 0.01
BATCH = 64
MOST_PATCHES = 2000


@dataclass(frozen=True)
class Verdicts:
    """What a screen says of patches, one entry a patch.

    Args:
        keep: Whether it is kept, bool.
        reasons: Why not: keys of :data:`~torchmetrics_rl2.reasons.REASONS`; empty for what is kept.
        percentile: Share of good patches that score lower, in %; 0 for background and ink.
        score: See :class:`~torchmetrics_rl2.calibration.Calibration`; minus infinity for background and ink.
        log_likelihood: Of Eq. 2 of the RL2 paper, under the flow as it was fitted, in nats.
        tissue: Share of the patch that is tissue.
        ink: Share of the patch that is ink.

    """

    keep: Tensor
    reasons: list[tuple[str, ...]]
    percentile: Tensor
    score: Tensor
    log_likelihood: Tensor
    tissue: Tensor
    ink: Tensor

    def __len__(self) -> int:
        """Number of patches."""
        return len(self.keep)

    @classmethod
    def cat(cls, parts: Sequence["Verdicts"]) -> "Verdicts":
        """Verdicts of several batches, one after the other."""
        reasons = [reason for part in parts for reason in part.reasons]
        columns = {
            f.name: torch.cat([getattr(part, f.name) for part in parts]) for f in fields(cls) if f.name != "reasons"
        }
        return cls(reasons=reasons, **columns)


class PatchScreener:
    r"""Says of patches whether they are good, and if not, why.

    A patch is cut if less than ``min_tissue`` of it is tissue, if it has ink, or if it scores as low as the threshold,
    which cuts at most the share ``max_good_loss`` of good patches. Whatever is cut by its score is named by the simple
    statistics, or differences of them, that are beyond those of 97.5 % of good patches; where none is, it is
    ``unusual``.

    As input the screener accepts

    - ``images`` (:class:`~torch.Tensor`): ``(N, 3, H, W)``, uint8, or floating point in [0, 1]

    As output it returns :class:`Verdicts`.

    Args:
        weights: Name or path of weights, or an encoder that has them.
        calibration: Good patches to compare with, or the file of such; ``None`` for those of the domain of the weights.
        max_good_loss: Share of good patches that may be lost; ``None`` cuts nothing by its score, and only ranks.
        min_tissue: Share of a patch that has to be tissue.
        device: Where to compute; by default a GPU if there is one.

    Raises:
        RL2Error: If there is no calibration, or it is too small for the threshold, or of other weights, or patches have
            another size than the good ones.

    Example:
        >>> import torch
        >>> from torchmetrics_rl2 import PatchScreener
        >>> screener = PatchScreener("lung-colon")
        >>> verdicts = screener(torch.full((2, 3, 224, 224), 240, dtype=torch.uint8))
        >>> verdicts.keep.tolist(), verdicts.reasons
        ([False, False], [('background',), ('background',)])

    """

    def __init__(
        self,
        weights: str | Path | LatentEncoder = "lung-colon",
        *,
        calibration: str | Path | Calibration | None = None,
        max_good_loss: float | None = 0.01,
        min_tissue: float = MIN_TISSUE,
        device: str | torch.device | None = None,
    ) -> None:
        if not 0 <= min_tissue <= 1:
            raise RL2Error(f"The least share of tissue is between 0 and 1, but got {min_tissue}.")
        self.encoder = weights if isinstance(weights, LatentEncoder) else LatentEncoder.load(weights)
        self.encoder.to(default_device(device))
        if calibration is None:
            calibration = calibration_beside(weights)
        if not isinstance(calibration, Calibration):
            calibration = Calibration.load(calibration)
        self.calibration = calibration.of(self.encoder.weights_id)
        self.threshold = None if max_good_loss is None else self.calibration.threshold(max_good_loss)
        self.min_tissue = min_tissue

    def __call__(self, images: Tensor, stain: Stain | None = None) -> Verdicts:
        """Verdicts on a batch.

        Args:
            images: ``(N, 3, H, W)``, uint8, or floating point in [0, 1].
            stain: That of their slide, by :func:`~torchmetrics_rl2.stain.stain_of`; patches are then judged as if of
                the stain of the good ones. Without it they are judged as they are.

        """
        raw = to_uint8(images.to(self.encoder.device))
        broken = ~images.isfinite().flatten(1).all(1).cpu()
        images = raw
        px = self.calibration.px
        if px is not None and tuple(images.shape[2:]) != (px, px):
            raise RL2Error(
                f"The good patches have {px} x {px} px, and these {images.shape[3]} x {images.shape[2]}; only patches "
                "of one size compare. Cut tiles, with --tile, or calibrate with patches of this size."
            )
        if stain is not None:
            images = restain(raw, stain, self.calibration.stain)
        tissue, ink = shares(raw, stain.white if stain else NO_WHITE)
        z, log_det, statistics, likelihood = measure(self.encoder, images)
        score = self.calibration.score(z, log_det, statistics)
        reasons: list[tuple[str, ...]] = [
            ("background",) if there < self.min_tissue else ("pen",) if inked > INK else ()
            for there, inked in zip(tissue.tolist(), ink.tolist(), strict=True)
        ]
        for i in torch.nonzero(broken).flatten().tolist():  # NaN pixels, which were made grey
            reasons[i] = reasons[i] or ("unusual",)
        score[[bool(found) for found in reasons]] = -torch.inf
        if self.threshold is not None:
            for i in torch.nonzero(score <= self.threshold.score).flatten().tolist():
                reasons[i] = reasons[i] or self._names(statistics[i])
        keep = torch.tensor([not reason for reason in reasons])
        return Verdicts(keep, reasons, self.calibration.percentile(score), score, likelihood, tissue, ink)

    def only_ranking(self) -> "PatchScreener":
        """The same screener without a threshold: it cuts background and ink alone."""
        twin = copy.copy(self)
        twin.threshold = None
        return twin

    @cached_property
    def _names(self) -> Names:
        return Names(self.calibration.statistics)


def shares(images: Tensor, white: Sequence[float] = NO_WHITE) -> tuple[Tensor, Tensor]:
    """Shares of tissue and of ink of uint8 images on glass of a density, ``(N,)`` each, on the CPU."""
    pixels = images.float() / 255
    return tissue_share(pixels, white).cpu(), ink_share(pixels, white).cpu()


def measure(encoder: LatentEncoder, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Latents, log-determinants, simple statistics and log-likelihoods of uint8 images, on the CPU."""
    images = images.to(encoder.device)
    z, log_det = encoder.encode(images)
    with exact_arithmetic(encoder.device):
        statistics = patch_statistics(images.float() / 255)
    return z.cpu(), log_det.cpu(), statistics.cpu(), log_likelihood(z, log_det).cpu()


def to_uint8(images: Tensor) -> Tensor:
    """Images ``(N, 3, H, W)`` as 8 bits, if they are not; NaN becomes grey."""
    check_images(images)
    if images.dtype == torch.uint8:
        return images
    return (images.nan_to_num(0.5) * 255).round().clamp(0, 255).to(torch.uint8)


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
    progress: Progress | None = None,
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
        progress: Called with ``"good patches"``, files read, files in all, and images since the last call.

    Raises:
        RL2Error: If there are fewer than 16 patches with tissue, they differ in size, or one cannot be read.

    Example:
        >>> from torchmetrics_rl2 import calibrate
        >>> calibration = calibrate("examples/cmu/reference")
        >>> len(calibration), calibration.group_count, calibration.px
        (40, 40, 224)

    """
    device = default_device(device)
    encoder = (weights if isinstance(weights, LatentEncoder) else LatentEncoder.load(weights)).to(device)
    given = isinstance(patches, str | Path)
    paths = find_images(patches) if isinstance(patches, str | Path) else list(patches)
    source = os.fspath(patches) if isinstance(patches, str | Path) else f"{len(paths)} files"
    base = Path(source) if given and os.path.isdir(source) else Path()
    named = groups if isinstance(groups, Mapping) else groups_of(groups or "file", paths, base)
    drawn = sorted(random.Random(seed).sample(paths, min(MOST_PATCHES, len(paths))))
    reader = ImageReader(tile, scale, BATCH, default_workers(workers, device), skip_unreadable)
    kept = EvenSample[tuple[Tensor, bool, str]](MOST_PATCHES)
    for batch in reader.read(drawn):
        tissue, ink = shares(batch.images)
        for i in torch.nonzero(tissue >= MIN_TISSUE).flatten().tolist():
            kept.add((batch.images[i].clone(), bool(ink[i] > INK), named[batch.paths[i]]))
        if progress:
            progress("good patches", reader.files_read, len(drawn), len(batch.images))
    if not kept.items:
        raise RL2Error(f"None of the patches of {source} has tissue on {MIN_TISSUE:.0%} of it; give good patches.")
    images, flags, names = zip(*kept.items, strict=True)
    sizes = {tuple(image.shape[1:]) for image in images}
    if len(sizes) > 1:
        raise RL2Error(f"The good patches of {source} differ in size: {sorted(sizes)[:3]} px. Cut tiles, with --tile.")
    batches = [torch.stack(images[start : start + BATCH]) for start in range(0, len(images), BATCH)]
    latents, log_det, statistics, _ = map(torch.cat, zip(*(measure(encoder, part) for part in batches), strict=True))
    px = max(sizes)[0]
    return Calibration(
        latents,
        log_det,
        statistics,
        flagged=torch.tensor(flags),
        groups=rows_of(names)[1],
        stain=stain_of(batches),
        weights=encoder.name,
        weights_id=encoder.weights_id,
        source=Path(source).resolve().name,
        two_sided=_inverts(weights),
        px=px,
        mpp=mpp,
    )


def _inverts(weights: str | Path | LatentEncoder) -> bool:
    """Whether the audit of weights found damage that scores better than none."""
    if isinstance(weights, LatentEncoder):
        return False
    audit = load_weights(weights).card.get("audit") or {}
    return bool(isinstance(audit, dict) and audit.get("verdicts", {}).get("inverts"))


def calibration_beside(weights: str | Path | LatentEncoder) -> Path:
    """The file with good patches of the domain of weights, ``NAME.calibration.safetensors`` beside them.

    Raises:
        RL2Error: If there is none.

    """
    hint = "Say what good patches are: --calibrate GOOD_PATCHES, 64 to 128 of 20 slides or more."
    if isinstance(weights, LatentEncoder):
        weights = weights.name
    path = beside(fetch_weights(weights))
    if not path.is_file():
        raise RL2Error(f"The weights {weights} have no calibration beside them, {path.name}. {hint}")
    return path


def beside(weights: Path) -> Path:
    """Where the calibration of a weights file is."""
    return weights.with_name(f"{weights.name.removesuffix('.safetensors')}.calibration.safetensors")
