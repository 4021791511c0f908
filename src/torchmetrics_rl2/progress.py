"""Progress bars on standard error and in notebooks, by rich where it is installed."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.runtime import Progress

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["progress_bars", "reports_progress", "shown"]

P = ParamSpec("P")
R = TypeVar("R")


def reports_progress(verb: Callable[P, R]) -> Callable[P, R]:
    """Let the argument ``progress`` of a function be ``True``, ``False`` or ``None`` too, see :func:`shown`."""

    @wraps(verb)
    def watched(*args: P.args, **kwargs: P.kwargs) -> R:
        options: dict[str, Any] = dict(kwargs)
        with shown(options.get("progress")) as report:
            return verb(*args, **options | {"progress": report})

    return watched


@contextmanager
def shown(progress: Progress | bool | None) -> Iterator[Progress | None]:
    """What to tell of progress: whoever was given, bars, or nobody.

    Args:
        progress: ``True`` for bars, ``False`` for none, ``None`` for bars in a terminal and in a notebook, or a
            function.

    Raises:
        RL2Error: If bars are asked for and rich is missing.

    """
    if callable(progress):
        yield progress
    elif progress or (progress is None and _is_watched() and _has_rich()):
        if not _has_rich():
            raise RL2Error("progress=True needs rich: pip install 'torchmetrics-rl2[cli]'.")
        from rich.console import Console

        with progress_bars(Console(stderr=True)) as report:
            yield report
    else:
        yield None


@contextmanager
def progress_bars(console: "Console") -> Iterator[Progress]:
    """A bar for each thing that is being done, with images/s where images are read."""
    from rich import progress

    columns = (
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(20),
        progress.MofNCompleteColumn(),
        progress.TextColumn("{task.fields[speed]}"),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=console) as bars:
        tasks: dict[str, Any] = {}
        read: dict[str, int] = {}

        def report(what: str, done: int, total: int, images: int) -> None:
            kind = what.partition(",")[0]
            if kind not in tasks:
                tasks[kind] = bars.add_task(what, total=total or None, speed="")
                images = 0  # read before the clock of the bar began
            read[kind] = read.get(kind, 0) + images
            elapsed = bars.tasks[list(tasks).index(kind)].elapsed or 0
            speed = f"{read[kind] / elapsed:.0f} images/s" if read[kind] and elapsed else ""
            bars.update(tasks[kind], description=what, completed=done, total=total or None, speed=speed)

        yield report


def _is_watched() -> bool:
    """Whether somebody looks at standard error, a terminal or a notebook; one process of several is enough."""
    if os.environ.get("LOCAL_RANK", "0") != "0":
        return False
    kernel = sys.modules.get("ipykernel")
    return kernel is not None or bool(sys.stderr and sys.stderr.isatty())


def _has_rich() -> bool:
    try:
        import rich  # noqa: F401
    except ImportError:
        return False
    return True
