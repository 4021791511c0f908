"""Pictures of a screen: a heatmap over the thumbnail of a slide, and the worst, borderline and best patches."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic

from torch import Tensor

from torchmetrics_rl2.images.slide import Slide
from torchmetrics_rl2.screening.outputs.geojson import COLORS, KEPT, class_of
from torchmetrics_rl2.screening.outputs.tables import text_of
from torchmetrics_rl2.screening.rows import P, PatchRow, SlidePlace

__all__ = ["Shown", "plot_contact_sheet", "plot_heatmap"]

EACH, COLUMNS = 24, 12
WIDTH, HEIGHT, HEAD, TITLE = 1.35, 1.72, 0.25, 0.44
"""Of a patch with its title, of the first line, and of a title, in inches."""
MEASURES = {"percentile": "percentile among good patches", "rank": "UNCALIBRATED: rank within the slide, %"}


@dataclass(frozen=True)
class Shown(Generic[P]):
    """A patch of a contact sheet.

    Args:
        row: What was found of it.
        read: Gives the pixels of a place, uint8 ``(3, H, W)``.

    """

    row: PatchRow[P]
    read: Callable[[P], Tensor]

    def pixels(self) -> Tensor:
        """Its pixels, uint8 ``(3, H, W)``."""
        return self.read(self.row.place)


def _measure(calibrated: bool) -> str:
    return "percentile" if calibrated else "rank"


def plot_heatmap(slide: Slide, rows: Sequence[PatchRow[SlidePlace]], size: float, path: Path, calibrated: bool) -> None:
    """Draw percentiles over the thumbnail, and beside it what was rejected, by reason.

    Args:
        slide: The slide.
        rows: Its patches.
        size: Side of a patch on level 0.
        path: The picture.
        calibrated: Whether percentiles mean something; else ranks within the slide are drawn.

    """
    from matplotlib.collections import PatchCollection
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch, Rectangle

    figure = Figure(figsize=(15, min(30, 6.3 * slide.extent[1] / slide.extent[0] + 0.8)), layout="constrained")
    left, right = figure.subplots(1, 2)
    (x, y), (width, height) = slide.origin, slide.extent
    for panel in (left, right):
        panel.imshow(slide.thumbnail, extent=(x, x + width, y + height, y))
        panel.set_axis_off()
    squares = [Rectangle((row.place.x, row.place.y), size, size) for row in rows]
    measure = _measure(calibrated)
    scores = PatchCollection(squares, cmap="RdYlGn", alpha=0.55, linewidth=0)
    scores.set_array([getattr(row, measure) for row in rows])
    scores.set_clim(0, 100)
    left.add_collection(scores)
    figure.colorbar(scores, ax=left, shrink=0.6, label=MEASURES[measure])
    kinds = [class_of(row) for row in rows]
    colors = {kind: "#{:02x}{:02x}{:02x}".format(*color) for kind, color in COLORS.items()}
    right.add_collection(PatchCollection(squares, facecolors=[colors[kind] for kind in kinds], alpha=0.5, linewidth=0))
    counted = {kind: kinds.count(kind) for kind in COLORS if kind in kinds}
    handles = [Patch(color=colors[kind], label=f"{kind}: {n}") for kind, n in counted.items()]
    right.legend(handles=handles, loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8)
    figure.suptitle(
        f"{text_of(slide.path.name)}: {kinds.count(KEPT)} of {sum(not row.is_background for row in rows)} patches with "
        f"tissue kept{'' if calibrated else '; UNCALIBRATED, ranked only'}"
    )
    figure.savefig(path, dpi=110)


def plot_contact_sheet(shown: Sequence[Shown[Any]], path: Path, threshold: float | None, calibrated: bool) -> None:
    """Draw the 24 worst, 24 borderline and 24 best patches, with percentile or rank, and reasons.

    Args:
        shown: Patches; without any there is no picture.
        path: The picture.
        threshold: Score at or below which patches were rejected; the borderline ones are nearest to it, or in the
            middle if there is none.
        calibrated: Whether percentiles mean something; else ranks within the slide are shown.

    """
    from matplotlib.figure import Figure

    chosen = _chosen(shown, threshold)
    lines = sum(-(-len(part) // COLUMNS) for part in chosen.values())
    if lines == 0:
        return
    measure = _measure(calibrated)
    # One panel for all: with one for each patch Matplotlib takes seconds a slide.
    wide, high = WIDTH * COLUMNS, HEIGHT * lines + HEAD
    figure = Figure(figsize=(wide, high))
    panel = figure.add_axes((0, 0, 1, 1))
    top = HEAD
    for name, part in chosen.items():
        for i, one in enumerate(part):
            middle, below = WIDTH * (i % COLUMNS + 0.5), top + HEIGHT * (i // COLUMNS) + TITLE
            pixels = one.pixels().permute(1, 2, 0).numpy()
            height, width = (1.27 * side / max(pixels.shape[:2]) for side in pixels.shape[:2])
            panel.imshow(pixels, extent=(middle - width / 2, middle + width / 2, below + height, below))
            verdict = KEPT if one.row.keep else ",\n".join(one.row.reasons)
            title = f"{name if i == 0 else ''} {getattr(one.row, measure):.1f} %\n{verdict}".strip()
            panel.text(middle, below - 0.03, title, fontsize=5.5, ha="center")
        top += HEIGHT * -(-len(part) // COLUMNS)
    panel.set(xlim=(0, wide), ylim=(high, 0))
    panel.set_axis_off()
    figure.suptitle(MEASURES[measure], fontsize=8, y=0.995, va="top")
    figure.savefig(path, dpi=110)


def _chosen(shown: Sequence[Shown[Any]], threshold: float | None) -> dict[str, list[Shown[Any]]]:
    """Worst, borderline and best of those with tissue, or of all if there are no such; none twice."""

    def score(one: Shown[Any]) -> float:
        return one.row.score

    ranked = sorted([one for one in shown if not one.row.is_background] or shown, key=score)
    third = len(ranked) // 3
    each = min(EACH, third - third % COLUMNS if third > COLUMNS else max(1, third), len(ranked))
    worst, best = ranked[:each], ranked[max(each, len(ranked) - each) :]
    rest = ranked[each : len(ranked) - each]
    middle = score(rest[len(rest) // 2]) if rest else 0.0
    near = middle if threshold is None else threshold
    borderline = sorted(sorted(rest, key=lambda one: abs(score(one) - near))[:each], key=score)
    return {"worst": worst, "borderline": borderline, "best": best[::-1]}
