"""Screens of many slides or folders of patches: resumed, isolated from each other's failures, shared out."""

import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from torchvision.transforms.v2.functional import to_pil_image

from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.images import Progress
from torchmetrics_rl2.scoring import versions
from torchmetrics_rl2.screen_files import count_reasons, geojson, text_of, write_coordinates, write_table
from torchmetrics_rl2.screen_manifest import freeze, is_finished, names_of, put_in_place, row_of
from torchmetrics_rl2.screen_pictures import plot_contact_sheet, plot_heatmap
from torchmetrics_rl2.screen_sources import RECORD, PatchFolder, ScreenSource, SlideSource
from torchmetrics_rl2.screening import PatchScreener
from torchmetrics_rl2.slide_domain import Domain, domain_of
from torchmetrics_rl2.stain import Stain
from torchmetrics_rl2.weights.download import sha256_of

__all__ = ["Outputs", "screen_cohort", "screen_one"]

CALIBRATION = "calibration.safetensors"


@dataclass(frozen=True)
class Outputs:
    """What is written for each slide, beside tables and pictures.

    Args:
        tiles: A polygon for each patch in GeoJSON instead of one for each region.
        export_patches: Kept patches as PNG files.

    """

    tiles: bool = False
    export_patches: bool = False


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


def screen_cohort(
    sources: Sequence[ScreenSource],
    out: str | Path,
    screener: PatchScreener,
    outputs: Outputs = Outputs(),
    *,
    settings: Mapping[str, Any],
    overwrite: bool = False,
    share: tuple[int, int] = (0, 1),
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """Screen slides and folders of patches, and write what is found; what is finished is not done again.

    Each has a folder of its own below ``out``, which appears when it is finished, with a manifest of its inputs. If
    these are the same again, versions and calibration included, it is left as it is; if not, it fails, unless
    ``overwrite`` is asked for. A slide that fails leaves a row that says why, and the others go on.

    Args:
        sources: What to screen.
        out: Where to write.
        screener: With what.
        outputs: What to write.
        settings: What else the result depends on, for the manifest.
        overwrite: Replace what was screened from other inputs.
        share: Which of how many processes this is; slides are dealt out among them.
        progress: Whom to tell.

    Raises:
        RL2Error: If nothing can be written there, or it holds a screen with another calibration.

    Returns:
        The rows of all slides: ``status`` is ``finished``, ``failed`` with an ``error``, ``left`` where an earlier
        screen from other inputs was left as it is, or ``unfinished`` where another process is still at it; ``new`` says
        which were screened by this one.

    """
    out = Path(out)
    rank, processes = share
    named = dict(zip(names_of(sources), sources, strict=True))
    others = sorted({record.parent.name for record in out.glob(f"*/{RECORD}")} - named.keys())
    try:
        if rank == 0:
            freeze(screener.calibration, out / CALIBRATION, overwrite, others)
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RL2Error(f"The screen cannot be written to {out}: {error.strerror}.") from error
    mine = list(named.items())[rank::processes]
    new = set()
    for done, (name, source) in enumerate(mine):
        if progress and len(mine) > 1:
            progress("slides", done, len(mine), 0)
        if _screen_to_folder(source, out, name, screener, outputs, settings, overwrite, progress):
            new.add(name)
    if progress and len(mine) > 1:
        progress("slides", len(mine), len(mine), 0)
    with FileLock(out / ".slides.lock"):
        rows = [{**row_of(out, name, text_of(source.path)), "new": name in new} for name, source in named.items()]
        before = [row_of(out, name) for name in others]
        _write_cohort([*rows, *(row for row in before if row["status"] in ("finished", "left"))], out)
    (out / ".slides.lock").unlink(missing_ok=True)
    return rows


def _screen_to_folder(
    source: ScreenSource,
    out: Path,
    name: str,
    screener: PatchScreener,
    outputs: Outputs,
    settings: Mapping[str, Any],
    overwrite: bool,
    progress: Progress | None,
) -> bool:
    """Screen one, unless it is finished; whether it was screened."""
    part, failed, lock = (out / name for name in (f".{name}.part", f"{name}.error.txt", f".{name}.lock"))
    try:
        with FileLock(lock, timeout=0):
            try:
                failed.unlink(missing_ok=True)
                manifest = {
                    "input": source.identity,
                    "settings": {**settings, **asdict(outputs), "mpp": source.mpp},
                    "weights_id": screener.encoder.weights_id,
                    "calibration": screener.calibration.id,
                    "versions": {key: value for key, value in versions().items() if key != "python"},
                }
                if is_finished(out / name, manifest, overwrite):
                    return False
                shutil.rmtree(part, ignore_errors=True)
                part.mkdir()
                summary = _write(source, part, name, screener, outputs, progress)
                written = sorted(path for path in part.rglob("*") if path.is_file())
                files = {str(path.relative_to(part)): sha256_of(path) for path in written}
                record = {"path": text_of(source.path), "manifest": manifest, "summary": summary, "files": files}
                (part / RECORD).write_text(json.dumps(record, indent=1, allow_nan=False))
                put_in_place(part, out / name)
                return True
            except (RL2Error, OSError, RuntimeError, ValueError) as error:
                # Whatever a slide does to its readers, the others go on.
                shutil.rmtree(part, ignore_errors=True)
                failed.write_text(text_of(f"{error}\n"))
                return False
            finally:
                lock.unlink(missing_ok=True)
    except Timeout:
        return False  # another process is at work on it


def _write(
    source: ScreenSource,
    folder: Path,
    name: str,
    screener: PatchScreener,
    outputs: Outputs,
    progress: Progress | None,
) -> dict[str, Any]:
    export = folder / "patches" if outputs.export_patches else None
    if export:
        export.mkdir()
    rows, summary = screen_one(source, screener, progress, export)
    known = {"slide": name, **({"size": summary["size"], "mpp": summary["target_mpp"]} if summary["size"] else {})}
    # Background and ink have no score, whatever it would be.
    written = [{**known, **row, "score": row["score"] if math.isfinite(row["score"]) else None} for row in rows]
    written = [{**row, "path": text_of(row["path"])} if "path" in row else row for row in written]
    write_table(written, folder / "patches")
    threshold = screener.threshold.score if screener.threshold and summary["calibrated"] else None
    measure = "percentile" if summary["calibrated"] else "rank"
    plot_contact_sheet(rows, source.patch, folder / "contact_sheet.png", threshold, measure)
    if isinstance(source, PatchFolder):
        if source.reader.tile is None:  # a list of files cannot say which tile of one
            kept = [text_of(Path(row["path"]).absolute()) for row in rows if row["keep"]]
            (folder / "kept.txt").write_text("".join(f"{path}\n" for path in kept))
        return summary
    plot_heatmap(source.slide, rows, summary["size"], folder / "heatmap.png", summary["calibrated"])
    collection = geojson(rows, summary["size"], name, outputs.tiles, source.slide.origin)
    (folder / "patches.geojson").write_text(json.dumps(collection, allow_nan=False))
    write_coordinates(
        rows, folder, name=name, px=source.px, size=summary["size"], mpp=source.target_mpp, slide=source.slide
    )
    return summary


def _write_cohort(rows: Sequence[Mapping[str, Any]], out: Path) -> None:
    """The table of slides, whole or not at all."""
    columns = list(dict.fromkeys(key for row in rows for key in row if key != "new"))
    part = out / f".slides-{os.getpid()}"
    write_table([{key: row.get(key) for key in columns} for row in rows], part)
    for ending in (".csv", ".parquet"):
        part.with_suffix(ending).replace(out / f"slides{ending}")
