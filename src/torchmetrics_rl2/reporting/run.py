"""One HTML file, with all that a browser needs inside."""

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from torchmetrics_rl2.auditing.result import AuditResult
from torchmetrics_rl2.distance.comparison import ComparisonResult
from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.files import check_folder
from torchmetrics_rl2.scoring.scored import Scored

__all__ = ["report_to"]

NEEDED = ("bokeh", "jinja2")


def report_to(path: str | Path) -> Callable[[Scored | AuditResult | ComparisonResult], None]:
    """What writes a score, as ``score(..., report=report_to("out.html"))``, an audit or a comparison as one HTML file.

    The file needs no network and no other file. That of a score holds small copies of some 400 images at most, and
    names of files.

    Args:
        path: The file, ``.html``; one that is there is replaced.

    Raises:
        RL2Error: If it cannot be written, or Bokeh or Jinja is missing; before any image is read.

    Example:
        >>> from torchmetrics_rl2.reporting import report_to
        >>> report_to("report.txt")
        Traceback (most recent call last):
        ...
        torchmetrics_rl2.errors.RL2Error: A report is an .html file, but got report.txt.

    """
    file = Path(path)
    _check(file)

    return partial(_write, file)  # and no closure: it goes to the processes of other devices


def _write(file: Path, found: Scored | AuditResult | ComparisonResult) -> None:
    if isinstance(found, Scored):
        from torchmetrics_rl2.reporting.score_page import page_of_score

        text = page_of_score(found)
    elif isinstance(found, ComparisonResult):
        from torchmetrics_rl2.reporting.comparison_page import page_of_comparison

        text = page_of_comparison(found)
    else:
        from torchmetrics_rl2.reporting.audit_page import page_of_audit

        text = page_of_audit(found)
    part = file.with_name(f"{file.name}.part")
    try:
        # Names of files need not be UTF-8, and Python keeps such bytes as surrogates.
        part.write_text(text, encoding="utf-8", errors="backslashreplace")
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


def _check(file: Path) -> None:
    if file.suffix.lower() not in (".html", ".htm"):
        raise RL2Error(f"A report is an .html file, but got {file}.")
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise RL2Error(f"Reports need {' and '.join(missing)}: pip install 'torchmetrics-rl2[report]'.")
    check_folder(file)
    if file.is_dir():
        raise RL2Error(f"{file} is a folder; expected the name of an .html file to write.")
