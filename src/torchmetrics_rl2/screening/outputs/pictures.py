"""Pictures of a screen: a heatmap over the thumbnail of a slide, and the worst, borderline and best patches."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from torchmetrics_rl2.images.slide import Slide
from torchmetrics_rl2.screening.outputs.geojson import COLORS, KEPT
from torchmetrics_rl2.screening.outputs.tables import text_of

__all__ = ["plot_contact_sheet", "plot_heatmap"]

EACH, COLUMNS = 24, 12
MEASURES = {"percentile": "percentile among good patches", "rank": "UNCALIBRATED: rank within the slide, %"}

Row = Mapping[str, Any]


def plot_heatmap(slide: Slide, rows: Sequence[Row], size: float, path: Path, calibrated: bool) -> None:
    """Draw percentiles over the thumbnail, and what was cut, by reason, beside it.

    Args:
        slide: The slide.
        rows: Its patches, with ``x``, ``y``, ``percentile``, ``keep`` and ``reasons``.
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
    squares = [Rectangle((row["x"], row["y"]), size, size) for row in rows]
    map_of = PatchCollection(squares, cmap="RdYlGn", alpha=0.55, linewidth=0)
    map_of.set_array([row["percentile" if calibrated else "rank"] for row in rows])
    map_of.set_clim(0, 100)
    left.add_collection(map_of)
    figure.colorbar(map_of, ax=left, shrink=0.6, label=MEASURES["percentile" if calibrated else "rank"])
    kinds = [KEPT if row["keep"] else str(row["reasons"]).partition(";")[0] for row in rows]
    colors = {kind: "#{:02x}{:02x}{:02x}".format(*color) for kind, color in COLORS.items()}
    right.add_collection(PatchCollection(squares, facecolors=[colors[kind] for kind in kinds], alpha=0.5, linewidth=0))
    counted = {kind: kinds.count(kind) for kind in COLORS if kind in kinds}
    handles = [Patch(color=colors[kind], label=f"{kind}: {n}") for kind, n in counted.items()]
    right.legend(handles=handles, loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8)
    judged = "" if calibrated else "; UNCALIBRATED, ranked only"
    figure.suptitle(
        f"{text_of(slide.path.name)}: {len([row for row in rows if row['keep']])} of "
        f"{len([row for row in rows if row['reasons'] != 'background'])} patches with tissue kept{judged}"
    )
    figure.savefig(path, dpi=110)


def plot_contact_sheet(
    rows: Sequence[Row], read: Callable[[Row], Tensor], path: Path, threshold: float | None, measure: str = "percentile"
) -> None:
    """Draw the 24 worst, 24 borderline and 24 best patches, with percentile or rank, and reason.

    Args:
        rows: Patches, with ``score``, ``percentile``, ``keep`` and ``reasons``.
        read: Gives the pixels of one, uint8 ``(3, H, W)``.
        path: The picture.
        threshold: Score below which patches were cut; the borderline ones are nearest to it, or the middle ones.
        measure: ``percentile``, or ``rank`` where percentiles mean nothing.

    """
    from matplotlib.figure import Figure

    chosen = _chosen(rows, threshold)
    lines = sum(-(-len(part) // COLUMNS) for part in chosen.values())
    if lines == 0:
        return
    figure = Figure(figsize=(1.35 * COLUMNS, 1.72 * lines), layout="constrained")
    panels = figure.subplots(lines, COLUMNS, squeeze=False)
    line = 0
    for name, part in chosen.items():
        for i, row in enumerate(part):
            panel = panels[line + i // COLUMNS, i % COLUMNS]
            panel.imshow(read(row).permute(1, 2, 0).numpy())
            mark = "kept" if row["keep"] else str(row["reasons"]).replace("; ", ",\n")
            panel.set_title(f"{name if i == 0 else ''} {row[measure]:.1f} %\n{mark}".strip(), fontsize=6, pad=2)
        line += -(-len(part) // COLUMNS)
    for panel in panels.flatten():
        panel.set_axis_off()
    figure.suptitle(MEASURES[measure], fontsize=8)
    figure.savefig(path, dpi=110)


def _chosen(rows: Sequence[Row], threshold: float | None) -> dict[str, list[Row]]:
    """Worst, borderline and best of those with enough tissue, if there are such, none twice."""
    tissue = [row for row in rows if row["reasons"] != "background"]
    ranked = sorted(tissue or rows, key=lambda row: row["score"])
    third = len(ranked) // 3
    each = min(EACH, third - third % COLUMNS if third > COLUMNS else max(1, third), len(ranked))
    worst, best = ranked[:each], ranked[len(ranked) - each :]
    rest = ranked[each : len(ranked) - each]
    middle = rest[len(rest) // 2]["score"] if rest else 0.0
    near = middle if threshold is None else threshold
    borderline = sorted(sorted(rest, key=lambda row: abs(row["score"] - near))[:each], key=lambda row: row["score"])
    return {"worst": worst, "borderline": borderline, "best": best[::-1]}
