"""What all verbs share: progress on standard error, results on standard output, warnings as one line."""

import io
import json
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, NoReturn, cast

import typer
from rich import progress
from rich.console import Console

if TYPE_CHECKING:
    from torchmetrics_rl2.runtime import Progress
    from torchmetrics_rl2.weights.download import Received


def drop(stream: IO[str]) -> None:
    """Lose what is still in a stream that takes nothing; it would fail again at the end of Python."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class _StandardError(io.TextIOBase):
    """Standard error as it is now; one that takes nothing, as on a full disk, ends no run."""

    def write(self, text: str) -> int:
        """Write, or lose it."""
        self._try("write", text)
        return len(text)

    def flush(self) -> None:
        """Flush, or lose it."""
        self._try("flush")

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return bool(sys.stderr and sys.stderr.isatty())

    def fileno(self) -> int:
        """That of standard error."""
        return sys.stderr.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """That of standard error."""
        return sys.stderr.encoding if sys.stderr else "utf-8"

    def _try(self, method: str, *arguments: str) -> None:
        try:
            if sys.stderr is not None:
                getattr(sys.stderr, method)(*arguments)
        except OSError:
            drop(sys.stderr)


errors = Console(file=cast(IO[str], _StandardError()), soft_wrap=True, highlight=False, markup=False, emoji=False)


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
        typer.echo(f"{len(reasons)} file(s) could not be read and were left out:")
    for reason in reasons:
        typer.echo(f"  {reason}")


def fail(message: str, code: int = 2) -> NoReturn:
    """End with a sentence on standard error and an exit code."""
    errors.print(f"Error: {message}")
    sys.exit(code)
