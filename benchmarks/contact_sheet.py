"""Draw all ladders of damage on one patch: a row a ladder, the clean patch first.

    python benchmarks/contact_sheet.py examples/cmu/reference/x0896_y1120.jpg docs/images/degradations.jpg

Signed ladders go from their lowest to their highest severity. Coarser magnification shows less than the whole place.
"""

import argparse
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch.nn.functional import pad

from torchmetrics_rl2.images import read_image
from torchmetrics_rl2.pixels import LADDERS, Ladder, degrade

COLUMNS, PLACES = 2, 6


def severities(ladder: Ladder) -> list[float]:
    """Severities of a ladder from the clean patch on; of a signed one from the lowest to the highest."""
    severities = list(ladder.severities)
    return [*(-severity for severity in severities[::-1]), *severities] if ladder.signed else [0.0, *severities]


def main() -> None:
    """Draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("patch", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    patch = read_image(arguments.patch)[None]
    side = patch.shape[-1]
    rows = -(-len(LADDERS) // COLUMNS)
    figure = Figure(figsize=(PLACES * COLUMNS * 1.15, rows * 1.42))
    panels = figure.subplots(rows, PLACES * COLUMNS)
    figure.subplots_adjust(0.005, 0.005, 0.995, 0.975, 0.04, 0.4)
    for panel in panels.flatten():
        panel.set_axis_off()
    for number, ladder in enumerate(LADDERS.values()):
        for place, severity in enumerate(severities(ladder)):
            damaged = degrade(patch, ladder.name, severity)[0]
            missing = side - damaged.shape[-1]
            damaged = pad(damaged, (missing // 2, missing - missing // 2) * 2, value=255)
            panel = panels[number % rows, number // rows * PLACES + place]
            panel.imshow(damaged.permute(1, 2, 0).to(torch.uint8).numpy())
            amount = f"{ladder.amount(severity):.3g}" if severity else "clean"
            title = f"{number + 1} {ladder.name} ({ladder.unit})\n{amount}" if place == 0 else amount
            panel.set_title(title, fontsize=5.5, loc="left")
    figure.savefig(arguments.out, dpi=100, pil_kwargs={"quality": 80})


if __name__ == "__main__":
    main()
