"""Pictures of results."""

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

from torchmetrics_rl2.auditing.content_result import CrossTalk
from torchmetrics_rl2.auditing.ladder_result import LadderResult
from torchmetrics_rl2.auditing.result import AuditResult
from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.files import check_folder
from torchmetrics_rl2.runtime import require_matplotlib

__all__ = ["check_plot", "plot_audit"]

COLUMNS = 5
COLORS = {
    "detects": "tab:green",
    "saturates": "tab:olive",
    "blind": "tab:gray",
    "inverts": "tab:red",
    "untested": "tab:purple",
}


def check_plot(path: Path) -> None:
    """Refuse early what cannot be drawn.

    Args:
        path: The picture to write.

    Raises:
        RL2Error: If matplotlib is missing, or the ending is none it knows.

    """
    require_matplotlib()
    from matplotlib.figure import Figure

    kinds = Figure().canvas.get_supported_filetypes()
    check_folder(path)
    if path.is_dir():
        raise RL2Error(f"{path} is a folder; expected the name of a picture to write.")
    if path.suffix[1:] not in kinds:
        raise RL2Error(f"{path} ends in {path.suffix!r}; a picture ends in one of {', '.join(sorted(kinds))}.")


def plot_audit(result: AuditResult, path: str | Path) -> None:
    """Draw an audit on one page: a panel per ladder, its verdict and the AUC of the flow and both simpler models.

    If the weights have kinds of tissue, a matrix says beside them how often look and content differ, by what is wrong.

    Args:
        result: What :func:`~torchmetrics_rl2.auditing.audit` found.
        path: The picture, in a format that matplotlib knows by its ending.

    """
    from matplotlib.figure import Figure

    rows = -(-len(result.ladders) // COLUMNS)
    shown = [row for row in result.cross_talk if row.at != "weakest"]
    height = max(2.1 * rows, 0.2 * len(shown)) + 1.1
    figure = Figure(figsize=(2.6 * COLUMNS + (5 if shown else 0), height), layout="constrained")
    widths = (2.6 * COLUMNS, 5) if shown else (1,)
    left, *right = figure.subfigures(1, len(widths), squeeze=False, width_ratios=widths)[0]
    panels = left.subplots(rows, COLUMNS, squeeze=False).flatten()
    highest = max(severity.value for ladder in result.ladders for severity in ladder.severities) / result.clean
    for panel, ladder in zip(panels, result.ladders, strict=False):
        _panel(panel, ladder, highest)
    for panel in panels[len(result.ladders) :]:
        panel.set_axis_off()
    for place in right:
        _matrix(place.subplots(), shown)
    part = "RL2" if result.part == "whole" else "look"
    figure.suptitle(
        f"{result.name}, {result.n} images of {Path(result.images).name}: {part} in multiples of two clean halves\n"
        "bar: 95 % interval; AUC of flow / Gaussian / hand-crafted at the severity marked by a line",
        fontsize=10,
    )
    figure.savefig(path, dpi=110)


def _matrix(panel: Any, rows: Sequence[CrossTalk]) -> None:
    columns = ("look", "content", "whole", "varies_less")
    shares = [[100 * getattr(row, name) for name in columns] for row in rows]
    panel.imshow(shares, vmin=0, vmax=100, cmap="Blues", aspect="auto")
    for y, x in product(range(len(rows)), range(len(columns))):
        share = shares[y][x]
        panel.text(x, y, f"{share:.0f}", ha="center", va="center", fontsize=7, color="white" if share > 50 else "black")
    panel.set_xticks(range(len(columns)), [name.replace("_", " ") for name in columns], fontsize=8)
    panel.set_yticks(range(len(rows)), [row.wrong for row in rows], fontsize=7)
    panel.xaxis.tick_top()
    panel.tick_params(length=0)
    panel.set_title(f"what differs, in % of draws\nof {rows[0].n} images a side", fontsize=8)


def _panel(panel: Any, ladder: LadderResult, highest: float) -> None:
    amounts = [str(float(f"{severity.amount:.3g}")).removesuffix(".0") for severity in ladder.severities]
    places = range(1, len(amounts) + 1)
    color = COLORS[ladder.verdict]
    panel.semilogy(
        [0, *places], [1, *(severity.value / ladder.clean for severity in ladder.severities)], marker="o", color=color
    )
    for place, severity in zip(places, ladder.severities, strict=True):
        if severity.interval and severity.interval[1] > 0:
            low, high = (max(end / ladder.clean, 0.3) for end in severity.interval)
            panel.plot([place, place], [low, high], color=color, alpha=0.4, linewidth=4)
    panel.axvline(1 + ladder.severities.index(ladder.at_visible), color="lightgray", zorder=0)
    panel.axhline(1, linestyle="--", color="lightgray", zorder=0)
    panel.set(
        ylim=(0.3, 2 * highest),
        xticks=[0, *places],
        xticklabels=["0", *amounts],
    )
    severity = ladder.at_visible
    panel.set_title(f"{ladder.number} {ladder.name}, {ladder.unit}", fontsize=8)
    panel.text(
        0.03,
        0.97,
        f"{ladder.verdict}\n{severity.auc:.2f} / {severity.auc_gaussian:.2f} / {severity.auc_handcrafted:.2f}",
        transform=panel.transAxes,
        va="top",
        fontsize=8,
        color=color,
    )
    panel.tick_params(labelsize=7)
