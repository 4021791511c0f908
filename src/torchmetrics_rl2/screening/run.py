"""Screens of slides and folders of patches: what ``rl2 screen`` does, from Python."""

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from torchmetrics_rl2.encoder.encoder import LatentEncoder
from torchmetrics_rl2.encoder.sharing import encoder_of
from torchmetrics_rl2.images.find import left_out_sentence
from torchmetrics_rl2.images.reader import ImageReader
from torchmetrics_rl2.progress import reports_progress
from torchmetrics_rl2.quality.calibrating import calibrate
from torchmetrics_rl2.quality.calibration import Calibration
from torchmetrics_rl2.quality.measures import MIN_TISSUE
from torchmetrics_rl2.quality.screener import PatchScreener
from torchmetrics_rl2.ranks import Ranks
from torchmetrics_rl2.runtime import Progress, default_workers, versions
from torchmetrics_rl2.screening.finding import FoundSources, find_sources
from torchmetrics_rl2.screening.jobs import screen_all
from torchmetrics_rl2.screening.options import GoodPatches, Outputs, Tiling
from torchmetrics_rl2.screening.outputs.tables import check_libraries, text_of
from torchmetrics_rl2.screening.preview import preview_all
from torchmetrics_rl2.screening.result import ScreenResult, describe, warnings_of
from torchmetrics_rl2.screening.slide_file import TileReader
from torchmetrics_rl2.screening.sources import Source

__all__ = ["screen"]

WARN_REJECTED = 0.3
MAX_SLIDE_WORKERS = 8
INDEPENDENT = (
    "Every file of good patches counts as a slide of its own. Patches of one slide are alike, and the interval of the "
    "false rejection rate is then too narrow: say which belong together, with --calibrate-groups."
)
NO_MPP = (
    "The resolution of the good patches is unknown, and may not be that of the tiles: give it with --target-mpp, "
    "together with --calibrate."
)


@reports_progress
def screen(
    sources: str | Path | Sequence[str | Path],
    out: str | Path = "rl2-screen",
    *,
    weights: str | Path | LatentEncoder = "lung-colon",
    calibration: str | Path | Calibration | GoodPatches | None = None,
    max_false_rejection: float | None = 0.01,
    min_tissue: float = MIN_TISSUE,
    tiling: Tiling = Tiling(),  # noqa: B008
    outputs: Outputs = Outputs(),  # noqa: B008
    warn_rejected: float = WARN_REJECTED,
    overwrite: bool = False,
    preview: int | None = None,
    batch_size: int = 64,
    workers: int | None = None,
    device: str | torch.device | None = None,
    skip_unreadable: bool = False,
    distributed: bool = False,
    progress: Progress | bool | None = None,
) -> ScreenResult:
    """Screen slides, folders of slides or folders of patches; nothing is deleted.

    Args:
        sources: Slides that OpenSlide reads, images of whole sections of more than 4,096 px a side, folders of these,
            or folders, globs or lists of patches.
        out: Folder to write to; what was finished there from the same inputs is left as it is.
        weights: Name or path of weights, or an encoder that has them.
        calibration: Good patches to compare with: the file of a calibration, a calibration, or
            :class:`~torchmetrics_rl2.screening.GoodPatches` to make one; by default those of the domain of the weights.
        max_false_rejection: Share of good patches that may be rejected; ``None`` only ranks.
        min_tissue: Share of a patch that has to be tissue.
        tiling: Size and resolution of patches.
        outputs: What to write in addition to tables and pictures.
        warn_rejected: Warn if more than this share of the tissue of a slide is rejected.
        overwrite: Replace what was screened there from other inputs, or with another calibration.
        preview: Screen only so many patches of each, draw ``preview.png`` and write nothing else.
        batch_size: Patches a batch.
        workers: Processes that read; for slides by default half of the cores, at most 8.
        device: Where to compute; by default a GPU if there is one.
        skip_unreadable: Leave out patches that cannot be read, and count them.
        distributed: Share the slides among the processes of the initialized ``torch.distributed``: each takes the
            largest that is left when it is free, and all return the result.
        progress: ``True`` for bars and ``False`` for none; by default bars in a terminal and in a notebook. Or a
            function, called with what is being done, how much is done, how much there is, and images since the last
            call.

    Raises:
        RL2Error: If nothing is there, the calibration does not fit, or nothing can be written.

    """
    assert not isinstance(progress, bool)  # which @reports_progress takes
    ranks, out = Ranks(distributed), Path(out)

    def prepare() -> tuple[PatchScreener, FoundSources, dict[str, Any]]:
        check_libraries()
        encoder = encoder_of(weights, device)
        readers = default_workers(workers, encoder.device)
        reader = ImageReader(tiling.px, tiling.scale, batch_size, readers, skip_unreadable)
        good = calibration
        if isinstance(good, GoodPatches):
            good = _calibrate(good, encoder, reader, tiling.target_mpp, progress if ranks.rank == 0 else None)
        screener = PatchScreener(
            encoder,
            calibration=good,
            max_false_rejection=max_false_rejection,
            min_tissue=min_tissue,
            device=encoder.device,
        )
        px, mpp = tiling.px_of(screener.calibration, encoder), tiling.mpp_of(screener.calibration, encoder)
        slide_workers = max(1, min(MAX_SLIDE_WORKERS, (os.cpu_count() or 2) // 2)) if workers is None else workers
        found = find_sources(
            [sources] if isinstance(sources, str | Path) else sources,
            out,
            reader=reader,
            tiles=TileReader(px, mpp, min_tissue, batch_size, slide_workers),
            mpp=tiling.mpp,
            mpps=tiling.mpps,
        )
        settings: dict[str, Any] = {
            **{"max_false_rejection": max_false_rejection, "min_tissue": min_tissue, "px": px, "target_mpp": mpp},
            **{"tile": tiling.px, "scale": tiling.scale, "skip_unreadable": skip_unreadable},
        }
        return screener, found, settings

    screener, found, settings = ranks.all(prepare)
    encoder = screener.encoder
    ranks.agree({"weights": encoder.weights_id, "calibration": screener.calibration.id, **versions()})
    told = [left_out_sentence(source, files) for source, files in found.left_out.items()]
    if preview is not None:
        rows = ranks.first(lambda: preview_all(found.sources, out, screener, preview, progress))
    else:
        how: dict[str, Any] = {"settings": settings, "overwrite": overwrite, "ranks": ranks, "progress": progress}
        rows = screen_all(found.sources, out, screener, outputs, **how)
    return ScreenResult(
        slides=rows,
        out=os.fspath(out),
        weights=encoder.name,
        weights_id=encoder.weights_id,
        calibration=describe(screener.calibration),
        threshold=screener.threshold,
        warnings=[
            *told,
            *_warnings(calibration, screener.calibration, found.sources),
            *(sentence for row in rows for sentence in warnings_of(row, warn_rejected)),
        ],
        left_out=[text_of(path) for files in found.left_out.values() for path in files],
        settings={**settings, **asdict(outputs), "device": str(encoder.device)},
        versions=versions(),
    )


def _calibrate(
    good: GoodPatches, encoder: LatentEncoder, reader: ImageReader, mpp: float | None, progress: Progress | None
) -> Calibration:
    """Calibration of good patches, read as the patches of the screen are."""
    return calibrate(
        good.patches,
        encoder,
        groups=good.groups,
        tile=reader.tile,
        scale=reader.scale,
        mpp=mpp,
        workers=reader.workers,
        device=encoder.device,
        skip_unreadable=reader.skip_unreadable,
        progress=progress,
    )


def _warnings(
    given: str | Path | Calibration | GoodPatches | None, used: Calibration, sources: Sequence[Source]
) -> list[str]:
    """Sentences on the calibration."""
    found = []
    if isinstance(given, GoodPatches) and given.groups is None:
        found.append(INDEPENDENT)
    if used.mpp is None and not used.of_weights and any(source.has_target_mpp for source in sources):
        found.append(NO_MPP)
    return found
