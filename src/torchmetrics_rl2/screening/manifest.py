"""What a screen keeps for the next one: whose folder is finished, from which inputs, and under which name."""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.files import sha256_of
from torchmetrics_rl2.quality.calibration import Calibration
from torchmetrics_rl2.quality.screener import PatchScreener
from torchmetrics_rl2.runtime import versions
from torchmetrics_rl2.screening.outputs.tables import text_of
from torchmetrics_rl2.screening.rows import SlideRow, SlideSummary
from torchmetrics_rl2.screening.sources import Source

__all__ = [
    "RECORD",
    "error_file",
    "freeze",
    "is_finished",
    "manifest_of",
    "names_of",
    "put_in_place",
    "row_of",
    "write_record",
]

MAX_NAME_BYTES = 150
RECORD = "screen.json"
"""What is in the folder of a finished screen."""


def manifest_of(source: Source, screener: PatchScreener, settings: Mapping[str, Any]) -> dict[str, Any]:
    """All that the screen of a source depends on."""
    return {
        "input": source.identity,
        "settings": {**settings, "mpp": source.mpp},
        "weights_id": screener.encoder.weights_id,
        "calibration": screener.calibration.id,
        "versions": {key: value for key, value in versions().items() if key != "python"},
    }


def write_record(folder: Path, path: Path, manifest: Mapping[str, Any], summary: SlideSummary) -> None:
    """Write what the next screen goes by: inputs, summary, and a checksum of each file."""
    written = sorted(file for file in folder.rglob("*") if file.is_file())
    files = {str(file.relative_to(folder)): sha256_of(file) for file in written}
    record = {"path": text_of(path), "manifest": manifest, "summary": asdict(summary), "files": files}
    (folder / RECORD).write_text(json.dumps(record, indent=1, allow_nan=False), encoding="utf-8")


def is_finished(folder: Path, manifest: Mapping[str, Any], overwrite: bool) -> bool:
    """Whether a folder was screened from the same inputs, and all its files are as they were.

    Raises:
        RL2Error: If it was screened otherwise, and is not to be overwritten.

    """
    if not os.path.lexists(folder):
        return False
    if not (folder / RECORD).is_file():
        raise RL2Error(f"{folder} exists already, and is not of a screen. Choose another --out, or move it.")
    changed: list[str] = []
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
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
            f"{folder} was screened before, and this has changed since: {', '.join(changed[:5])}. It was left as it "
            "is. Choose another --out, or replace it with --overwrite."
        )
    if changed and extra:
        raise RL2Error(f"{folder} has files that are not of a screen, such as {min(extra)}. Move them first.")
    return not changed


def _flat(manifest: Mapping[str, Any]) -> dict[str, Any]:
    parts = {key: value if isinstance(value, dict) else {key: value} for key, value in manifest.items()}
    return {name: value for part in parts.values() for name, value in part.items()}


def put_in_place(part: Path, folder: Path) -> None:
    """Give a finished folder its name; an earlier screen of that name is removed only when the new one is there."""
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

    Raises:
        RL2Error: If the folder is not of a screen, or of one with another calibration.

    """
    if path.parent.exists() and not path.parent.is_dir():
        raise RL2Error(f"{path.parent} is a file; expected a folder to write the screen to.")
    path.parent.mkdir(parents=True, exist_ok=True)
    table = path.with_name("slides.csv")
    if table.exists() and not table.read_bytes().startswith(b'"slide","path"'):
        raise RL2Error(f"{table} exists already, and is not of a screen. Choose another --out, or move it.")
    if path.exists() and (others or not overwrite) and Calibration.load(path).id != calibration.id:
        way = f"move {others[0]} out of it" if overwrite else "replace what is there with --overwrite"
        raise RL2Error(
            f"{path.parent} has a screen with another calibration, and percentiles of the two do not compare. Choose "
            f"another --out, continue with --calibration {path}, or {way}."
        )
    calibration.save(path)


def error_file(out: Path, name: str) -> Path:
    """Where it is said why a slide failed."""
    return out / f"{name}.error.txt"


def row_of(out: Path, name: str, path: str = "", new: bool = False) -> SlideRow:
    """Row of a slide, from what is in its folder, or from why there is none.

    Args:
        out: Where the screen was written to.
        name: Of the slide.
        path: Where it is, if its folder does not say.
        new: Whether it was screened just now.

    """
    failed = error_file(out, name)
    error = failed.read_text(encoding="utf-8", errors="replace").strip() if failed.exists() else ""
    try:
        record = json.loads((out / name / RECORD).read_text(encoding="utf-8"))
        summary, calibration = SlideSummary(**record["summary"]), record["manifest"]["calibration"]
        return SlideRow(name, record["path"], "left" if error else "finished", error, summary, calibration, new)
    except (OSError, ValueError, KeyError, TypeError):
        if error:
            return SlideRow(name, path, "failed", error, new=new)
        return SlideRow(name, path, "unfinished", "another process is at work on it", new=new)


def names_of(sources: Sequence[Source]) -> list[str]:
    """A name for each, of its file; where two share one, with that of its folder."""
    given = [source.name for source in sources]
    names = []
    for source, own in zip(sources, given, strict=True):
        parts = [own] if given.count(own) == 1 else [*source.path.absolute().parent.parts[-2:], source.path.name]
        name = text_of("__".join(parts)).replace("/", "_").replace("*", "_").strip(". ")
        names.append(name.encode()[:MAX_NAME_BYTES].decode(errors="ignore") or "patches")
    if len(set(names)) < len(names):
        raise RL2Error(f"Two slides would have the name {max(names, key=names.count)}. Screen them into two folders.")
    return names
