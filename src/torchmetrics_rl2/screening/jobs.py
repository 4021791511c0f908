"""Screens of many slides or folders of patches: resumed, isolated from each other's failures, shared out."""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.quality.screener import PatchScreener
from torchmetrics_rl2.runtime import Progress, versions
from torchmetrics_rl2.screening.manifest import freeze, is_finished, names_of, put_in_place, row_of
from torchmetrics_rl2.screening.outputs.folder import write_folder
from torchmetrics_rl2.screening.outputs.tables import text_of, write_table
from torchmetrics_rl2.screening.sources import RECORD, ScreenSource
from torchmetrics_rl2.storage import sha256_of

__all__ = ["Outputs", "screen_cohort"]

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
                summary = write_folder(source, part, name, screener, outputs, progress)
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


def _write_cohort(rows: Sequence[Mapping[str, Any]], out: Path) -> None:
    """The table of slides, whole or not at all."""
    columns = list(dict.fromkeys(key for row in rows for key in row if key != "new"))
    part = out / f".slides-{os.getpid()}"
    write_table([{key: row.get(key) for key in columns} for row in rows], part)
    for ending in (".csv", ".parquet"):
        part.with_suffix(ending).replace(out / f"slides{ending}")
