"""All files of one screened slide or folder of patches."""

import json
import math
from pathlib import Path
from typing import Any

from torchmetrics_rl2.quality.screener import PatchScreener
from torchmetrics_rl2.runtime import Progress
from torchmetrics_rl2.screening.jobs import Outputs
from torchmetrics_rl2.screening.outputs.coordinates import write_coordinates
from torchmetrics_rl2.screening.outputs.geojson import geojson
from torchmetrics_rl2.screening.outputs.pictures import plot_contact_sheet, plot_heatmap
from torchmetrics_rl2.screening.outputs.tables import text_of, write_table
from torchmetrics_rl2.screening.screen_one import screen_one
from torchmetrics_rl2.screening.sources import PatchFolder, ScreenSource

__all__ = []


def write_folder(
    source: ScreenSource,
    folder: Path,
    name: str,
    screener: PatchScreener,
    outputs: Outputs,
    progress: Progress | None,
) -> dict[str, Any]:
    export = folder / "patches" if outputs.export_patches else None
    if export:
        export.mkdir()
    rows, summary = screen_one(source, screener, progress, export)
    known = {"slide": name, **({"size": summary["size"], "mpp": summary["target_mpp"]} if summary["size"] else {})}
    # Background and ink have no score, whatever it would be.
    written = [{**known, **row, "score": row["score"] if math.isfinite(row["score"]) else None} for row in rows]
    written = [{**row, "path": text_of(row["path"])} if "path" in row else row for row in written]
    write_table(written, folder / "patches")
    threshold = screener.threshold.score if screener.threshold and summary["calibrated"] else None
    measure = "percentile" if summary["calibrated"] else "rank"
    plot_contact_sheet(rows, source.patch, folder / "contact_sheet.png", threshold, measure)
    if isinstance(source, PatchFolder):
        if source.reader.tile is None:  # a list of files cannot say which tile of one
            kept = [text_of(Path(row["path"]).absolute()) for row in rows if row["keep"]]
            (folder / "kept.txt").write_text("".join(f"{path}\n" for path in kept))
        return summary
    plot_heatmap(source.slide, rows, summary["size"], folder / "heatmap.png", summary["calibrated"])
    collection = geojson(rows, summary["size"], name, outputs.tiles, source.slide.origin)
    (folder / "patches.geojson").write_text(json.dumps(collection, allow_nan=False))
    write_coordinates(
        rows, folder, name=name, px=source.px, size=summary["size"], mpp=source.target_mpp, slide=source.slide
    )
    return summary
