"""The folder in which a fit keeps features and checkpoints until its weights are written."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.files import check_writable
from torchmetrics_rl2.fitting.kinds_picture import kinds_picture
from torchmetrics_rl2.fitting.settings import FitSettings, JointSettings
from torchmetrics_rl2.fitting.split import Split
from torchmetrics_rl2.images.hub_datasets import DATASET
from torchmetrics_rl2.images.packed import holder_of
from torchmetrics_rl2.images.reader import ImageReader
from torchmetrics_rl2.quality.calibrating import beside
from torchmetrics_rl2.weights.backbone import Backbone
from torchmetrics_rl2.weights.file import Weights

__all__ = ["describe", "kept_for_resume", "open_run", "remove_run", "run_folder"]

RECORD = "run.json"


def run_folder(out: Path) -> Path:
    """Where a run keeps features and checkpoints until its weights are written."""
    return out.with_suffix(".fit")


def describe(
    split: Split,
    backbone: Backbone,
    settings: FitSettings,
    joint: JointSettings | None,
    reader: ImageReader,
    kinds: Mapping[Path, str] | int | None,
    groups: Mapping[Path, str] | None = None,
) -> dict[str, Any]:
    """What a run has to have in common with the one that it resumes; groups count where a fit is within them."""
    sizes: dict[Path, int] = {}
    for path in (path for paths in vars(split).values() for path in paths):
        if (file := holder_of(path)) not in sizes:
            sizes[file] = 0 if file.suffix == f".{DATASET}" else file.stat().st_size  # a data set is in memory
    listed = {
        side: [(str(path.resolve()), sizes[holder_of(path)]) for path in paths] for side, paths in vars(split).items()
    }
    return {
        "images": hashlib.sha256(json.dumps(listed).encode()).hexdigest(),
        "backbone": Weights(backbone.preprocessing, backbone.state_dict, {}, {}).backbone_id,
        "settings": asdict(settings),
        "joint training": joint and [asdict(joint), reader.batch_size],
        "tile and scale": [reader.tile, reader.scale],
        "kinds": sorted([str(path.resolve()), name] for path, name in kinds.items())
        if isinstance(kinds, Mapping)
        else kinds,
        "groups": sorted([str(path.resolve()), name] for path, name in groups.items())
        if groups and settings.within_groups
        else None,
    }


def open_run(out: Path, resume: bool, description: dict[str, Any]) -> Path:
    """The folder of a new run, or of an interrupted one of the same description."""
    run = run_folder(out)
    record = run / RECORD
    check_writable(out)
    if there := [str(path) for path in (beside(out), kinds_picture(out)) if path.exists()]:
        raise RL2Error(
            f"{' and '.join(there)} may be written anew. Remove what is there, or choose another name than {out}."
        )
    if run.exists() and not record.is_file():
        raise RL2Error(f"The run would be kept in {run}, which is something else. Choose another output, or move it.")
    # Lightning starts the other processes of a machine with the same command, and this set.
    if record.exists() and not resume and "LOCAL_RANK" not in os.environ:
        raise RL2Error(f"{run} holds an interrupted run. Go on with --resume, or remove the folder.")
    if resume and not record.exists():
        raise RL2Error(f"There is no interrupted run {run} to resume. Leave out --resume to start one.")
    if record.exists():
        try:
            before = json.loads(record.read_text(encoding="utf-8"))
            changed = [key for key in description if description[key] != before[key]]
        except (ValueError, KeyError, TypeError) as error:
            raise RL2Error(f"{record} is damaged. Remove the folder, and leave out --resume.") from error
        if changed:
            raise RL2Error(
                f"{run} is a run with other {', '.join(changed)}. Resume with the same, or remove the folder."
            )
        return run
    try:
        run.mkdir()
        record.write_text(json.dumps(description, indent=1), encoding="utf-8")
    except OSError as error:
        raise RL2Error(f"The run cannot be kept in {run}: {error.strerror}.") from error
    return run


@contextmanager
def kept_for_resume(run: Path, files: str, done: str) -> Iterator[None]:
    """Whoever fails after some work is told that it is kept; a run without any is removed."""
    try:
        yield
    except RL2Error as error:
        if any(run.glob(files)):
            raise RL2Error(f"{error} What was {done} is kept; go on with --resume.") from error
        remove_run(run)
        raise


def remove_run(run: Path) -> None:
    """Remove what a run keeps, and the folder if nothing else is in it."""
    for file in (*run.glob("*.pt"), *run.glob("*.ckpt"), run / RECORD):
        file.unlink(missing_ok=True)
    with suppress(OSError):
        run.rmdir()
