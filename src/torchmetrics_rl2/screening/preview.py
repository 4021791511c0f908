"""A few patches of each slide, screened and drawn before a long run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.quality.screener import PatchScreener
from torchmetrics_rl2.runtime import Progress
from torchmetrics_rl2.screening.jobs import FAILURES
from torchmetrics_rl2.screening.outputs.pictures import Shown, plot_contact_sheet
from torchmetrics_rl2.screening.rows import SlideRow
from torchmetrics_rl2.screening.screen_one import screen_one
from torchmetrics_rl2.screening.sources import Source

__all__ = ["preview_all"]


def preview_all(
    sources: Sequence[Source], out: Path, screener: PatchScreener, most: int, progress: Progress | None
) -> list[SlideRow]:
    """Screen a few patches of each source, and write nothing but ``preview.png``.

    Args:
        sources: What to screen.
        out: Where to write.
        screener: With what.
        most: How many tiles or files of each.
        progress: Told of each batch.

    Raises:
        RL2Error: If there are no patches to show, or the picture cannot be written.

    """
    if most < 1:
        raise RL2Error(f"A preview shows at least one patch, but got {most}.")
    rows: list[SlideRow] = []
    shown: list[Shown[Any]] = []
    for source in sources:
        name, path = source.path.name, str(source.path)
        try:
            opened = source.open(most)
            screened = screen_one(opened, screener, progress)
            shown += [Shown(row, opened.patch) for row in screened.rows]
            rows.append(SlideRow(name, path, "finished", summary=screened.summary, new=True))
        except FAILURES as error:
            rows.append(SlideRow(name, path, "failed", str(error)))
    try:
        out.mkdir(parents=True, exist_ok=True)
        threshold = screener.threshold.score if screener.threshold else None
        calibrated = all(row.summary.calibrated for row in rows if row.summary)
        plot_contact_sheet(shown, out / "preview.png", threshold, calibrated)
    except OSError as error:
        raise RL2Error(f"The preview cannot be written to {out}: {error.strerror}.") from error
    return rows
