"""How many patches of one's own does a fit need to see damage? AUROC against the number of patches.

    python benchmarks/number_of_patches.py FIT JUDGED [--n 16 32 64 128 256 512] [--tile 224] [--weights histology]
        [--draws 5] [--json]

FIT and JUDGED are sources of ``rl2 score`` of one laboratory, of other images or slides. One Gaussian with Ledoit-Wolf
covariance is fitted to the features of so many patches of FIT, drawn at random, and judged on up to 48 patches of
JUDGED, clean against damaged at the severities that a person clearly sees: mean AUROC of the eight families, and its
least and most over the draws. Beside it the same of the fifteen hand-crafted statistics. Two minutes on two CPU cores.
"""

import argparse
import json
import random
import sys
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from torch import Tensor

from laboratories import DAMAGE, FAMILIES, HANDCRAFTED, JUDGED, aurocs, features, shrunk

sys.path.insert(0, str(Path(__file__).parent / "paper"))

from experiment import progress, run

from torchmetrics_rl2 import LatentEncoder
from torchmetrics_rl2.images import ImageReader, find_images
from torchmetrics_rl2.images.sampling import evenly
from torchmetrics_rl2.pixels import degrade


def read(source: str, tile: int | None) -> Tensor:
    """All patches of a source."""
    return torch.cat([batch.images for batch in ImageReader(tile=tile).read(find_images(source))])


def curve(fitted: Tensor, clean: Tensor, damaged: dict[tuple[str, float], Tensor], n: int, draws: int) -> list[Any]:
    """Mean AUROC of the families for each draw of so many patches, and the mean of each family."""
    found = []
    for seed in range(draws):
        rows = random.Random(seed).sample(range(len(fitted)), n)
        found.append(aurocs(shrunk(fitted[rows]), clean, damaged))
    return [[mean(one) for one in found], [mean(family) for family in zip(*found, strict=True)]]


def main() -> None:
    """Print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fit")
    parser.add_argument("judged")
    parser.add_argument("--n", type=int, nargs="+", default=[16, 32, 64, 128, 256, 512])
    parser.add_argument("--tile", type=int, default=224)
    parser.add_argument("--weights", default="histology")
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    encoder = LatentEncoder.load(arguments.weights)
    fitted, judged = read(arguments.fit, arguments.tile), read(arguments.judged, arguments.tile)
    judged = judged[evenly(range(len(judged)), JUDGED)]
    rows: list[dict[str, Any]] = []
    for name, seeing in ((arguments.weights, encoder), (HANDCRAFTED, None)):
        of_fitted, clean = features(seeing, fitted), features(seeing, judged)
        damaged = {step: features(seeing, degrade(judged, *step)) for step in progress(DAMAGE, f"damage, {name}")}
        if seeing is None:  # their scales differ by far, and the covariance is shrunk towards a common one
            center, scale = of_fitted.mean(0), of_fitted.std(0)
            of_fitted, clean = (of_fitted - center) / scale, (clean - center) / scale
            damaged = {step: (numbers - center) / scale for step, numbers in damaged.items()}
        for n in (n for n in arguments.n if n <= len(fitted)):
            means, families = curve(of_fitted, clean, damaged, n, arguments.draws)
            rows.append(
                {"features": name, "n": n, "means": means, "families": dict(zip(FAMILIES, families, strict=True))}
            )
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return
    print(f"{len(fitted)} patches to draw from, {len(judged)} judged, {arguments.draws} draws")
    print(f"| features | n | {' | '.join(FAMILIES)} | mean | of draws |\n|{'---|' * (len(FAMILIES) + 4)}")
    for row in rows:
        cells = [f"{value:.2f}" for value in row["families"].values()]
        means = row["means"]
        ends = f"{mean(means):.3f} | {min(means):.3f} to {max(means):.3f}"
        print(f"| {row['features']} | {row['n']} | {' | '.join(cells)} | {ends} |")


if __name__ == "__main__":
    run(main)
