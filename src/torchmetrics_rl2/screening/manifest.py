"""What a screen keeps for the next one: whose folder is finished, of what inputs, and under which name."""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.quality.calibration import Calibration
from torchmetrics_rl2.screening.outputs.tables import text_of
from torchmetrics_rl2.screening.sources import RECORD, PatchFolder, ScreenSource
from torchmetrics_rl2.storage import sha256_of

__all__ = ["freeze", "is_finished", "names_of", "put_in_place", "row_of"]

LONGEST_NAME = 150


def is_finished(folder: Path, manifest: Mapping[str, Any], overwrite: bool) -> bool:
    """Whether it was screened from the same inputs, and all its files are as they were.

    Raises:
        RL2Error: If it was screened otherwise, and is not to be overwritten.

    """
    if not os.path.lexists(folder):
        return False
    if not (folder / RECORD).is_file():
        raise RL2Error(f"{folder} is there already, and is not of a screen. Choose another --out, or move it.")
    changed: list[str] = []
    try:
        record = json.loads((folder / RECORD).read_text())
        now, before = _flat(json.loads(json.dumps(manifest))), _flat(record["manifest"])
        changed += [key for key in {**now, **before} if now.get(key) != before.get(key)]
        for name, digest in record["files"].items():
            changed += [] if (folder / name).is_file() and sha256_of(folder / name) == digest else [name]
        extra = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        extra -= {RECORD, *record["files"]}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        changed, extra = [*changed, RECORD], set()
    if changed and not overwrite:
        raise RL2Error(
            f"{folder} was screened before, and what it depends on is not the same: {', '.join(changed[:5])}. It was "
            "left as it is. Choose another --out, or replace it with --overwrite."
        )
    if changed and extra:
        raise RL2Error(f"{folder} holds what is not of a screen, {min(extra)} for one. Move it before you overwrite.")
    return not changed


def _flat(manifest: Mapping[str, Any]) -> dict[str, Any]:
    parts = {key: value if isinstance(value, dict) else {key: value} for key, value in manifest.items()}
    return {name: value for part in parts.values() for name, value in part.items()}


def put_in_place(part: Path, folder: Path) -> None:
    """Give a finished folder its name; one that was there before, of a screen, goes only when the new one is there."""
    old = part.with_suffix(".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    part.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def freeze(calibration: Calibration, path: Path, overwrite: bool, others: Sequence[str]) -> None:
    """Keep the calibration with what it judged.

    Args:
        calibration: Of this screen.
        path: Where it is kept.
        overwrite: Whether another one may be replaced.
        others: Slides that were screened there before, and are not of this screen.

    """
    if path.parent.exists() and not path.parent.is_dir():
        raise RL2Error(f"{path.parent} is a file; expected a folder to write the screen to.")
    path.parent.mkdir(parents=True, exist_ok=True)
    table = path.with_name("slides.csv")
    if table.exists() and not table.read_bytes().startswith(b'"slide","path"'):
        raise RL2Error(f"{table} is there already, and is not of a screen. Choose another --out, or move it.")
    if path.exists() and (others or not overwrite) and Calibration.load(path).id != calibration.id:
        kept = f"leave {others[0]} out of it" if overwrite else "replace what is there with --overwrite"
        raise RL2Error(
            f"{path.parent} holds a screen with another calibration, and percentiles of the two do not compare. Choose "
            f"another --out, or go on with --calibration {path}, or {kept}."
        )
    calibration.save(path)


def row_of(out: Path, name: str, path: str = "") -> dict[str, Any]:
    """Row of a slide, from what is in its folder, or from why there is none."""
    row: dict[str, Any] = {"slide": name, "path": path}
    failed = out / f"{name}.error.txt"
    error = failed.read_text().strip() if failed.exists() else ""
    try:
        record = json.loads((out / name / RECORD).read_text())
        of = {"calibration": record["manifest"]["calibration"]}
        row["path"] = record["path"]
        return {**row, "status": "left" if error else "finished", "error": error, **record["summary"], **of}
    except (OSError, ValueError, KeyError, TypeError):
        if error:
            return {**row, "status": "failed", "error": error}
        return {**row, "status": "unfinished", "error": "another process is at work on it"}


def names_of(sources: Sequence[ScreenSource]) -> list[str]:
    """A name for each, of its file; where two share one, with that of its folder."""
    stems = [_stem(source) for source in sources]
    names = []
    for source, stem in zip(sources, stems, strict=True):
        parts = [stem] if stems.count(stem) == 1 else [*source.path.absolute().parent.parts[-2:], source.path.name]
        name = text_of("__".join(parts)).replace("/", "_").replace("*", "_").strip(". ")
        names.append(name.encode()[:LONGEST_NAME].decode(errors="ignore") or "patches")
    if len(set(names)) < len(names):
        raise RL2Error(f"Two slides would have the name {max(names, key=names.count)}. Screen them into two folders.")
    return names


def _stem(source: ScreenSource) -> str:
    if isinstance(source, PatchFolder):
        path = source.path
        while "*" in path.name or "?" in path.name:  # a glob
            path = path.parent
        return path.resolve().name
    return source.path.stem
