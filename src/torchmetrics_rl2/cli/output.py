"""What all verbs share: progress on standard error, results on standard output, warnings as one line."""

import json
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

import typer
from rich import progress
from rich.console import Console

if TYPE_CHECKING:
    from torchmetrics_rl2.runtime import Progress
    from torchmetrics_rl2.weights.download import Received

errors = Console(stderr=True, soft_wrap=True, highlight=False, markup=False, emoji=False)


@contextmanager
def progress_bars() -> Iterator["Progress"]:
    """Bars on standard error, and warnings as one line."""
    from torchmetrics_rl2.progress import progress_bars as bars

    with _plain_warnings(), bars(errors) as report:
        yield report


@contextmanager
def download_bar(name: str) -> Iterator["Received"]:
    """A bar while bytes arrive, and none if all are here."""
    columns = (
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(20),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
    )
    with _plain_warnings(), progress.Progress(*columns, console=errors) as bars:
        tasks: list[progress.TaskID] = []

        def report(done: int, total: int) -> None:
            if not tasks:
                tasks.append(bars.add_task(name, total=total or None))
            bars.update(tasks[0], completed=done)

        yield report


@contextmanager
def _plain_warnings() -> Iterator[None]:
    def show(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        if not issubclass(category, (DeprecationWarning, FutureWarning)):
            errors.print(f"Warning: {message}")

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def print_json(result: Any) -> None:
    """JSON on standard output."""
    typer.echo(json.dumps(result, indent=2, allow_nan=False))


def print_unreadable(reasons: Sequence[str]) -> None:
    """What was left out, and why."""
    if reasons:
        typer.echo(f"{len(reasons)} files could not be read and were left out:")
    for reason in reasons:
        typer.echo(f"  {reason}")


def fail(message: str) -> NoReturn:
    """End with a sentence on standard error and exit code 2."""
    errors.print(f"Error: {message}")
    sys.exit(2)
