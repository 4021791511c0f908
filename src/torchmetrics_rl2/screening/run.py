"""Screens of slides and folders of patches: what ``rl2 screen`` does, from Python."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from torchmetrics_rl2.encoder.encoder import LatentEncoder
from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.images.reader import ImageReader
from torchmetrics_rl2.quality.calibrating import calibrate, calibration_beside
from torchmetrics_rl2.quality.calibration import Calibration
from torchmetrics_rl2.quality.measures import MIN_TISSUE
from torchmetrics_rl2.quality.screener import PatchScreener
from torchmetrics_rl2.runtime import Progress, default_device, default_workers, versions
from torchmetrics_rl2.screening.jobs import Outputs, screen_cohort
from torchmetrics_rl2.screening.outputs.pictures import plot_contact_sheet
from torchmetrics_rl2.screening.outputs.tables import check_libraries
from torchmetrics_rl2.screening.result import ScreenResult
from torchmetrics_rl2.screening.screen_one import screen_one
from torchmetrics_rl2.screening.sources import ScreenSource, SlideSource, find_screen_sources

__all__ = ["screen"]

PX, MPP, SAME_MPP = 224, 0.5, 1.05
WARN_REJECTED = 0.3
INDEPENDENT = (
    "Every file of good patches counts as a slide of its own. Patches of one slide are alike, and the promised loss is "
    "then too sure: say which belong together, with --calibrate-groups."
)

NO_MPP = (
    "The resolution of the good patches is not known, so that nothing says whether it is that of the tiles: say it, "
    "with --target-mpp beside --calibrate."
)


def screen(
    sources: str | Path | Sequence[str | Path],
    out: str | Path = "rl2-screen",
    *,
    weights: str | Path | LatentEncoder = "lung-colon",
    calibration: str | Path | Calibration | None = None,
    good: str | Path | None = None,
    good_groups: str | Path | None = None,
    max_false_rejection: float | None = 0.01,
    min_tissue: float = MIN_TISSUE,
    mpp: float | None = None,
    mpps: Mapping[str, float] | None = None,
    target_mpp: float | None = None,
    tile: int | None = None,
    scale: float | None = None,
    warn_rejected: float = WARN_REJECTED,
    outputs: Outputs = Outputs(),  # noqa: B008
    overwrite: bool = False,
    preview: int | None = None,
    batch_size: int = 64,
    workers: int | None = None,
    device: str | torch.device | None = None,
    skip_unreadable: bool = False,
    share: tuple[int, int] = (0, 1),
    progress: Progress | None = None,
) -> ScreenResult:
    """Screen slides, folders of slides or folders of patches; nothing is deleted.

    Args:
        sources: Slides that OpenSlide reads, images of whole sections of more than 4,096 px a side, folders of these,
            or folders, globs or lists of patches.
        out: Folder to write to; what was finished there from the same inputs is left as it is.
        weights: Name or path of weights, or an encoder that has them.
        calibration: File of a calibration, or one; by default that of the domain of the weights.
        good: Patches of yours that are good, to calibrate with, instead.
        good_groups: Slides or patients that these are of: ``"parent"``, ``"file"`` or a CSV.
        max_false_rejection: Share of good patches that may be lost; ``None`` only ranks.
        min_tissue: Share of a patch that has to be tissue.
        mpp: Resolution of slides in um/px, in place of what they say.
        mpps: The same for some, by name, stem or path.
        target_mpp: Resolution to read slides at, in um/px; by default that of the calibration or of the weights, else
            0.5.
        tile: Side of a patch in pixels; by default that of the calibration. Patches from files are cut to it if given.
        scale: Resize patches from files by this factor before, antialiased.
        warn_rejected: Warn of a slide that loses more than this share of its tissue.
        outputs: What to write beside tables and pictures.
        overwrite: Replace what was screened there from other inputs, or with another calibration.
        preview: Screen only so many patches of each, draw ``preview.png`` and write nothing else.
        batch_size: Patches a batch.
        workers: Processes that read; by default half of the cores, at most 8.
        device: Where to compute; by default a GPU if there is one.
        skip_unreadable: Leave out patches that cannot be read, and count them.
        share: Which of how many processes this is; slides are dealt out among them.
        progress: Called with what is being done, how much is done, how much there is, and images since the last call.

    Raises:
        RL2Error: If nothing is there, the calibration does not fit, or nothing can be written.

    """
    check_libraries()
    for name, value in (("mpp", mpp), ("target_mpp", target_mpp)):
        if value is not None and not 0 < value < math.inf:
            raise RL2Error(f"The {name} is a resolution above 0 um/px, but got {value}.")
    device = default_device(device)
    encoder = (weights if isinstance(weights, LatentEncoder) else LatentEncoder.load(weights)).to(device)
    if good is not None and calibration is not None:
        raise RL2Error("Give good patches to calibrate with, or the file of a calibration, not both.")
    if good is not None:
        calibration = calibrate(
            good,
            encoder if isinstance(weights, LatentEncoder) else weights,
            groups=good_groups,
            tile=tile,
            scale=scale,
            mpp=target_mpp,
            workers=workers,
            device=device,
            skip_unreadable=skip_unreadable,
            progress=progress if share[0] == 0 else None,
        )
    screener = PatchScreener(
        encoder,
        calibration=calibration_beside(weights) if calibration is None else calibration,
        max_false_rejection=max_false_rejection,
        min_tissue=min_tissue,
        device=device,
    )
    made = encoder.features.preprocessing
    px = _px(tile, screener.calibration.px, made.px)
    at = _mpp(target_mpp, screener.calibration.mpp) or made.mpp or MPP
    reader = ImageReader(tile, scale, batch_size, default_workers(workers, device), skip_unreadable)
    found = find_screen_sources(
        [sources] if isinstance(sources, str | Path) else sources,
        px=px,
        target_mpp=at,
        mpp=mpp,
        mpps=mpps or {},
        min_tissue=min_tissue,
        reader=reader,
        workers=max(1, min(8, (os.cpu_count() or 2) // 2)) if workers is None else workers,
        out=Path(out),
    )
    settings = {
        **{"max_false_rejection": max_false_rejection, "min_tissue": min_tissue, "px": px, "target_mpp": at},
        **{"tile": tile, "scale": scale, "skip_unreadable": skip_unreadable},
    }
    if preview is not None:
        rows = _preview(found, Path(out), screener, preview, progress)
    else:
        rows = screen_cohort(
            found, out, screener, outputs, settings=settings, overwrite=overwrite, share=share, progress=progress
        )
    return ScreenResult(
        slides=rows,
        out=os.fspath(out),
        weights=encoder.name,
        weights_id=encoder.weights_id,
        calibration={
            "source": screener.calibration.source,
            "patches": len(screener.calibration),
            "groups": screener.calibration.group_count,
            "of_weights": screener.calibration.of_weights,
            "sha256": screener.calibration.id,
        },
        threshold=screener.threshold,
        warnings=[
            *([INDEPENDENT] if good is not None and good_groups is None else []),
            *([NO_MPP] if _of_unknown_mpp(screener.calibration, found) else []),
            *(sentence for row in rows for sentence in _warnings(row, warn_rejected)),
        ],
        settings={**settings, **asdict(outputs), "device": str(device)},
        versions=versions(),
    )


def _px(tile: int | None, calibrated: int | None, made: int | None) -> int:
    if tile and calibrated and tile != calibrated:
        raise RL2Error(
            f"The good patches have {calibrated} px and tiles would have {tile}; percentiles compare only patches of "
            "one size. Calibrate with patches of that size, or leave out --tile."
        )
    return tile or calibrated or made or PX


def _mpp(target: float | None, calibrated: float | None) -> float | None:
    if target and calibrated and abs(math.log(target / calibrated)) > math.log(SAME_MPP):
        raise RL2Error(
            f"The good patches have {calibrated:g} um/px and tiles would have {target:g}; percentiles compare only "
            "patches of one resolution. Calibrate with patches of that resolution, or leave out --target-mpp."
        )
    return target or calibrated


def _of_unknown_mpp(good: Calibration, sources: Sequence[ScreenSource]) -> bool:
    """Whether good patches of the user's own may be of another resolution than tiles of slides."""
    return good.mpp is None and not good.of_weights and any(isinstance(source, SlideSource) for source in sources)


def _preview(
    sources: Sequence[ScreenSource], out: Path, screener: PatchScreener, most: int, progress: Progress | None
) -> list[dict[str, Any]]:
    """Rows of a few patches of each, and their contact sheet."""
    if most < 1:
        raise RL2Error(f"A preview shows at least one patch, but got {most}.")
    rows, patches = [], []
    for source in sources:
        source.limit(most)
        found: dict[str, Any] = {"slide": source.path.name, "path": str(source.path), "error": ""}
        try:
            some, summary = screen_one(source, screener, progress)
            patches += [{**row, "source": source} for row in some]
            found |= {"status": "finished", **summary}
        except (RL2Error, OSError, RuntimeError, ValueError) as error:
            found |= {"status": "failed", "error": str(error)}
        rows.append(found)
    try:
        out.mkdir(parents=True, exist_ok=True)
        threshold = screener.threshold.score if screener.threshold else None
        measure = "percentile" if all(row.get("calibrated", True) for row in rows) else "rank"
        plot_contact_sheet(patches, lambda row: row["source"].patch(row), out / "preview.png", threshold, measure)
    except OSError as error:
        raise RL2Error(f"The preview cannot be written to {out}: {error.strerror}.") from error
    return rows


def _warnings(row: Mapping[str, Any], warn_rejected: float) -> list[str]:
    if row["status"] != "finished":
        return []
    found = []
    if not row["patches"]:
        found.append(f"{row['slide']} has no patch with tissue: all of {row['background']} are background.")
    elif not row["calibrated"] and row["domain"] == "unknown":
        found.append(
            f"{row['slide']} has too few patches to tell whether it is of the domain of the weights. UNCALIBRATED: its "
            "patches are ranked, and cut only for ink and background. Calibrate with good patches of its kind, "
            "--calibrate."
        )
    elif not row["calibrated"]:
        found.append(
            f"{row['slide']} is outside of the domain of the weights, {row['domain_shift']:.1f} spreads from it: it "
            "is of another tissue or laboratory, or damaged as a whole. UNCALIBRATED: its patches are ranked, and cut "
            "only for ink and background. Calibrate with good patches of its kind, --calibrate."
        )
    elif row["domain"] == "outside":
        found.append(
            f"{row['slide']} is {row['domain_shift']:.1f} spreads from the good patches, in stain, scanner, tissue "
            "or damage: the promised loss of good patches does not hold for it."
        )
    if row["patches"] and 1 - row["kept_share"] > warn_rejected:
        found.append(
            f"{row['slide']} LOSES {100 * (1 - row['kept_share']):.0f} % of its patches with tissue "
            f"({row['reasons']}). Look at its pictures before you go on."
        )
    return found
