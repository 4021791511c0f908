"""One slide or folder of patches, screened."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Generic

import torch
from torch import Tensor

from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.pixels.stain import Stain
from torchmetrics_rl2.quality.screener import PatchScreener
from torchmetrics_rl2.runtime import Progress
from torchmetrics_rl2.screening.domain import Domain, domain_of
from torchmetrics_rl2.screening.rows import P, PatchRow, SlideSummary, count_reasons
from torchmetrics_rl2.screening.sources import Batch, Opened

__all__ = ["Screened", "screen_one"]

MEASURED = ("percentile", "score", "log_likelihood", "tissue", "ink", "black")


@dataclass(frozen=True)
class Screened(Generic[P]):
    """What a screen found.

    Args:
        rows: A row for each patch, in the order of places.
        summary: Of all of them.
        threshold: Score at or below which patches were rejected; ``None`` if none was rejected by its score.

    """

    rows: Sequence[PatchRow[P]]
    summary: SlideSummary
    threshold: float | None


def screen_one(
    opened: Opened[P],
    screener: PatchScreener,
    progress: Progress | None = None,
    export: Callable[[P, Tensor], None] | None = None,
) -> Screened[P]:
    """Screen one slide or folder of patches.

    Args:
        opened: What to screen.
        screener: With what. Outside of the domain of the weights, their own calibration ranks and rejects only
            background, ink and black.
        progress: Told of each batch.
        export: Given each kept patch, uint8 ``(3, H, W)``.

    Raises:
        RL2Error: If patches cannot be read, or have another size than the good ones.

    """
    what = f"patches, {opened.path.name}"
    if progress:
        progress(what, 0, opened.total, 0)
    stain, sample = opened.sample()
    domain = domain_of(screener, sample, stain)
    calibrated = not screener.calibration.of_weights or domain.verdict in ("same", "shifted")
    judge = screener if calibrated else screener.ranking()
    rows: list[PatchRow[P]] = []
    started = time.monotonic()
    for batch in opened.batches():
        found = _judged(batch, judge, stain, opened)
        rows += found
        for row, image in zip(found, batch.images, strict=True):
            if export and row.keep:
                export(row.place, image)
        if progress:
            progress(what, batch.done, opened.total, len(found))
    if not rows:
        raise RL2Error(f"None of the files of {opened.path} could be read.")
    rows = _ranked(rows)
    threshold = judge.threshold.score if judge.threshold else None
    return Screened(rows, _summary(opened, rows, stain, domain, calibrated, time.monotonic() - started), threshold)


def _judged(batch: Batch[P], judge: PatchScreener, stain: Stain, opened: Opened[P]) -> list[PatchRow[P]]:
    try:
        verdicts = judge(batch.images, stain)
    except ValueError as error:
        raise RL2Error(f"{batch.places[0].label(opened.path)}: {error}") from error
    rows = []
    for i, place in enumerate(batch.places):
        measured = {name: round(float(getattr(verdicts, name)[i]), 4) for name in MEASURED}
        rows.append(PatchRow(place, **measured, keep=bool(verdicts.keep[i]), reasons=verdicts.reasons[i]))
    return rows


def _ranked(rows: Sequence[PatchRow[P]]) -> list[PatchRow[P]]:
    """Rows in the order of their places, as batches form by size, with the share of them that score lower."""
    ordered = sorted(rows, key=lambda row: row.place.order)
    scores = torch.tensor([row.score for row in ordered]).double()
    below = torch.searchsorted(scores.sort().values, scores).tolist()
    return [replace(row, rank=round(100 * n / len(rows), 2)) for row, n in zip(ordered, below, strict=True)]


def _summary(
    opened: Opened[P],
    rows: Sequence[PatchRow[P]],
    stain: Stain,
    domain: Domain,
    calibrated: bool,
    seconds: float,
) -> SlideSummary:
    kept = sum(row.keep for row in rows)
    tissue = [row for row in rows if not row.is_background]
    percentiles = sorted(row.percentile for row in rows if math.isfinite(row.score))
    colors: dict[str, Any] = {}
    for name, values in asdict(stain).items():
        colors |= {f"{name}_{c}": round(v, 4) for c, v in zip(("red", "green", "blue"), values, strict=True)}
    grid: dict[str, Any] = asdict(opened.grid)
    return SlideSummary(
        patches=len(tissue),
        kept=kept,
        kept_share=kept / len(tissue) if tissue else 0.0,
        background=len(rows) - len(tissue),
        reasons="; ".join(f"{name} {n}" for name, n in count_reasons(tissue).items()),
        calibrated=calibrated,
        median_percentile=percentiles[len(percentiles) // 2] if percentiles else None,
        domain=domain.verdict,
        domain_rl2=domain.rl2,
        domain_low=domain.low,
        domain_high=domain.high,
        domain_shift=domain.shift,
        **colors,
        **grid,
        unreadable=opened.unreadable,
        seconds=round(seconds, 1),
    )
