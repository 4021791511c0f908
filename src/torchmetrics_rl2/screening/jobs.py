"""Screens of many slides or folders of patches: resumed, isolated from each other's failures, shared out."""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from filelock import Timeout

from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.files import locked
from torchmetrics_rl2.quality.screener import PatchScreener
from torchmetrics_rl2.ranks import Ranks
from torchmetrics_rl2.runtime import Progress
from torchmetrics_rl2.screening.manifest import (
    RECORD,
    error_file,
    freeze,
    is_finished,
    manifest_of,
    names_of,
    put_in_place,
    row_of,
    write_record,
)
from torchmetrics_rl2.screening.options import Outputs
from torchmetrics_rl2.screening.outputs.folder import exporter, write_folder
from torchmetrics_rl2.screening.outputs.tables import text_of, write_table
from torchmetrics_rl2.screening.rows import SlideRow
from torchmetrics_rl2.screening.screen_one import screen_one
from torchmetrics_rl2.screening.sources import Source

__all__ = ["FAILURES", "screen_all"]

CALIBRATION = "calibration.safetensors"
FAILURES = (RL2Error, OSError, RuntimeError, ValueError)
"""Whatever a slide does to its readers, the others go on."""


def screen_all(
    sources: Sequence[Source],
    out: Path,
    screener: PatchScreener,
    outputs: Outputs = Outputs(),  # noqa: B008
    *,
    settings: Mapping[str, Any],
    overwrite: bool = False,
    ranks: Ranks | None = None,
    progress: Progress | None = None,
) -> list[SlideRow]:
    """Screen slides and folders of patches, and write what is found; what is finished is not done again.

    Each has a folder of its own below ``out``, which appears when it is finished, with a manifest of its inputs. If
    these are the same again, versions and calibration included, it is left as it is; if not, it fails, unless
    ``overwrite`` is given. A slide that fails leaves a row that says why, and the others go on.

    Args:
        sources: What to screen.
        out: Where to write.
        screener: With what.
        outputs: What to write.
        settings: What else the result depends on, for the manifest.
        overwrite: Replace what was screened from other inputs.
        ranks: The processes that screen together; each takes the largest slide that is left when it is free.
        progress: Told of each batch and slide.

    Raises:
        RL2Error: If nothing can be written there, or it has a screen with another calibration.

    Returns:
        A row for each source.

    """
    ranks = ranks or Ranks()
    named = dict(zip(names_of(sources), sources, strict=True))
    ranks.first(lambda: _prepare(out, screener, overwrite, sorted(_screened(out) - named.keys())))
    job = _Job(out, screener, outputs, {**settings, **asdict(outputs)}, overwrite, progress)
    order = list(named) if ranks.size == 1 else sorted(named, key=lambda name: -_size(named[name]))
    several = progress if len(order) > 1 else None

    def screen(number: int) -> bool:
        if several:
            several("slides", number, len(order), 0)
        return job.screen(named[order[number]], order[number])

    screened = ranks.shared(len(order), screen)
    if several:
        several("slides", len(order), len(order), 0)
    by_any = {name for name, new in zip(order, screened, strict=True) if new}

    def listed() -> list[SlideRow]:
        with locked(out / ".slides.lock"):
            rows = [row_of(out, name, text_of(source.path), name in by_any) for name, source in named.items()]
            before = [row_of(out, name) for name in sorted({*_screened(out), *_failed(out)} - named.keys())]
            _write_slides([*rows, *(row for row in before if row.status != "unfinished")], out)
        return rows

    return ranks.first(listed)


@dataclass(frozen=True)
class _Job:
    """How sources are screened to folders; see :func:`screen_all`."""

    out: Path
    screener: PatchScreener
    outputs: Outputs
    settings: Mapping[str, Any]
    overwrite: bool
    progress: Progress | None = field(repr=False)

    def screen(self, source: Source, name: str) -> bool:
        """Screen one, unless it is finished; whether it was screened."""
        try:
            with locked(self.out / f".{name}.lock", timeout=0):
                return self._screen(source, name)
        except Timeout:
            return False  # another process is at work on it

    def _screen(self, source: Source, name: str) -> bool:
        part, failed = self.out / f".{name}.part", error_file(self.out, name)
        try:
            failed.unlink(missing_ok=True)
            manifest = manifest_of(source, self.screener, self.settings)
            if is_finished(self.out / name, manifest, self.overwrite):
                return False
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            opened = source.open()
            export = exporter(opened, part / "patches") if self.outputs.export_patches else None
            screened = screen_one(opened, self.screener, self.progress, export)
            write_folder(opened, screened, part, name, self.outputs)
            write_record(part, source.path, manifest, screened.summary)
            put_in_place(part, self.out / name)
            return True
        except FAILURES as error:
            shutil.rmtree(part, ignore_errors=True)
            failed.write_text(text_of(f"{error}\n"), encoding="utf-8")
            return False


def _prepare(out: Path, screener: PatchScreener, overwrite: bool, others: Sequence[str]) -> None:
    try:
        freeze(screener.calibration, out / CALIBRATION, overwrite, others)
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RL2Error(f"The screen cannot be written to {out}: {error.strerror}.") from error


def _screened(out: Path) -> set[str]:
    """Slides that were screened, also by other processes."""
    return {record.parent.name for record in out.glob(f"*/{RECORD}")}


def _failed(out: Path) -> set[str]:
    """Slides of earlier screens that failed."""
    ending = error_file(out, "").name
    return {file.name.removesuffix(ending) for file in out.glob(f"*{ending}") if file.is_file()}


def _size(source: Source) -> int:
    """Bytes of a slide, by which the largest comes first."""
    return source.path.stat().st_size if source.path.is_file() else 0


def _write_slides(rows: Sequence[SlideRow], out: Path) -> None:
    """The table of slides, whole or not at all."""
    written = [row.columns() for row in rows]
    columns = list(dict.fromkeys(key for row in written for key in row))
    part = out / f".slides-{os.getpid()}"
    write_table([{key: row.get(key) for key in columns} for row in written], part)
    for ending in (".csv", ".parquet"):
        part.with_suffix(ending).replace(out / f"slides{ending}")
