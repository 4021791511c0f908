"""All files of one screened slide or folder of patches."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from torchmetrics_rl2.screening.options import Outputs
from torchmetrics_rl2.screening.outputs.pictures import Shown, plot_contact_sheet
from torchmetrics_rl2.screening.outputs.tables import write_table
from torchmetrics_rl2.screening.rows import P, PatchRow
from torchmetrics_rl2.screening.screen_one import Screened
from torchmetrics_rl2.screening.sources import Opened, sha256_of_text

__all__ = ["exporter", "write_folder"]


def write_folder(opened: Opened[P], screened: Screened[P], folder: Path, name: str, outputs: Outputs) -> None:
    """Write tables and pictures of what was found.

    Args:
        opened: What was screened.
        screened: What was found.
        folder: Where to.
        name: Of the slide.
        outputs: What to write.

    """
    summary = screened.summary
    known = {} if summary.size is None else {"size": summary.size, "mpp": summary.target_mpp}
    write_table([{"slide": name, **known, **_columns(row)} for row in screened.rows], folder / "patches")
    shown = [Shown(row, opened.patch) for row in screened.rows]
    plot_contact_sheet(shown, folder / "contact_sheet.png", screened.threshold, summary.calibrated)
    opened.write(screened.rows, folder, name, outputs, summary.calibrated)


def _columns(row: PatchRow[Any]) -> dict[str, Any]:
    """A row as text and numbers; background, ink and black have no score."""
    return {
        **row.place.columns(),
        "percentile": row.percentile,
        "score": row.score if math.isfinite(row.score) else None,
        "log_likelihood": row.log_likelihood,
        "tissue": row.tissue,
        "ink": row.ink,
        "black": row.black,
        "keep": row.keep,
        "reasons": "; ".join(row.reasons),
        "rank": row.rank,
    }


def exporter(opened: Opened[P], folder: Path) -> Callable[[P, Tensor], None]:
    """Writes patches as PNG files into a new folder; two of the same name get a checksum of their path."""
    folder.mkdir()

    def export(place: P, image: Tensor) -> None:
        png = folder / f"{place.file_stem(opened.path.stem)}.png"
        if png.exists():
            checksum = sha256_of_text(place.label(opened.path))
            png = png.with_stem(f"{png.stem}_{checksum[:8]}")
        to_pil_image(image).save(png)

    return export
