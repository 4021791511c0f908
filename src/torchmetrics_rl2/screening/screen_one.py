"""One slide or folder of patches, screened."""

import hashlib
import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torchvision.transforms.v2.functional import to_pil_image

from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.pixels.stain import Stain
from torchmetrics_rl2.quality.screener import PatchScreener
from torchmetrics_rl2.runtime import Progress
from torchmetrics_rl2.screening.domain import Domain, domain_of
from torchmetrics_rl2.screening.outputs.tables import count_reasons
from torchmetrics_rl2.screening.sources import PatchFolder, ScreenSource, SlideSource

__all__ = ["screen_one"]


def screen_one(
    source: ScreenSource, screener: PatchScreener, progress: Progress | None = None, export: Path | None = None
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Screen one slide or folder of patches.

    Args:
        source: What to screen; it was prepared.
        screener: With what.
        progress: Whom to tell.
        export: Folder for kept patches as PNG files.

    Returns:
        A row for each patch, and the row of the slide.

    """
    total = source.prepare()
    if progress:
        progress(f"patches, {source.path.name}", 0, total, 0)
    stain, sample = source.sample()
    domain = domain_of(screener, sample)
    calibrated = not screener.calibration.of_weights or domain.verdict in ("same", "shifted")
    judge = screener if calibrated else screener.only_ranking()
    rows: list[dict[str, Any]] = []
    started = time.monotonic()
    for images, where in source.batches():
        try:
            verdicts = judge(images, stain)
        except RL2Error as error:
            raise RL2Error(f"{where[0].get('path', source.path)}: {error}") from error
        for i, place in enumerate(where):
            rows.append(
                {
                    **place,
                    **{
                        name: round(float(getattr(verdicts, name)[i]), 4)
                        for name in ("percentile", "score", "log_likelihood", "tissue", "ink")
                    },
                    "keep": bool(verdicts.keep[i]),
                    "reasons": "; ".join(verdicts.reasons[i]),
                }
            )
            if export and verdicts.keep[i]:
                to_pil_image(images[i]).save(_png(export, source.path.stem, place))
        if progress:
            progress(f"patches, {source.path.name}", source.done, total, len(images))
    if isinstance(source, PatchFolder) and not rows:
        raise RL2Error(f"None of the files of {source.path} could be read.")
    # Batches form by size, so the order of rows follows the files again.
    rows.sort(key=lambda row: (row["path"], row["tile"]) if "path" in row else (row["y"], row["x"]))
    scores = torch.tensor([row["score"] for row in rows]).double()
    for row, below in zip(rows, torch.searchsorted(scores.sort().values, scores).tolist(), strict=True):
        row["rank"] = round(100 * below / len(rows), 2)
    return rows, _summary(source, rows, stain, domain, calibrated, time.monotonic() - started)


def _png(folder: Path, slide: str, place: Mapping[str, Any]) -> Path:
    """A file for a patch, none twice."""
    if "x" in place:
        return folder / f"{slide}_{place['x']}_{place['y']}.png"
    path = Path(place["path"])
    png = folder / f"{path.parent.name}_{path.stem}_{place['tile']}.png"
    if not png.exists():
        return png
    return png.with_stem(f"{png.stem}_{hashlib.sha256(os.fsencode(path)).hexdigest()[:8]}")


def _summary(
    source: ScreenSource,
    rows: Sequence[Mapping[str, Any]],
    stain: Stain,
    domain: Domain,
    calibrated: bool,
    seconds: float,
) -> dict[str, Any]:
    kept = sum(row["keep"] for row in rows)
    tissue = [row for row in rows if row["reasons"] != "background"]
    percentiles = sorted(row["percentile"] for row in rows if math.isfinite(row["score"]))
    summary: dict[str, Any] = {
        "patches": len(tissue),
        "kept": kept,
        "kept_share": kept / len(tissue) if tissue else 0.0,
        "background": len(rows) - len(tissue),
        "reasons": "; ".join(f"{name} {n}" for name, n in count_reasons(tissue).items()),
        "calibrated": calibrated,
        "median_percentile": percentiles[len(percentiles) // 2] if percentiles else None,
        **{f"domain_{name}" if name != "verdict" else "domain": value for name, value in asdict(domain).items()},
    }
    for name, values in asdict(stain).items():
        summary |= {f"{name}_{c}": round(v, 4) for c, v in zip(("red", "green", "blue"), values, strict=True)}
    if isinstance(source, SlideSource):
        summary |= {"mpp": source.slide.mpp, "target_mpp": source.target_mpp, "px": source.px}
        summary |= {"size": source.slide.field(source.px, source.target_mpp)}
    else:
        summary |= {"mpp": source.mpp, "target_mpp": source.mpp, "px": None, "size": None}
        summary |= {"unreadable": len(source.reader.unreadable)}
    return summary | {"seconds": round(seconds, 1)}
