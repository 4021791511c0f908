"""How well maps of a report find damage in a known place of an image.

    python benchmarks/places.py report.txt --real stop.txt [--weights histology] [--side 72] [--json]

Every image is damaged in one square, by default of 72 px of 224 px, a tenth of it, at a random place. Printed for each
damage are the median share of the map inside the square, and the mean AUC of cells, those in the square against the
others; cells that are half in it do not count. A minute on two CPU cores.
"""

import argparse
import json
from pathlib import Path
from statistics import mean, median

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch.nn import functional as F

from torchmetrics_rl2 import LatentEncoder
from torchmetrics_rl2.explaining.places import CELL, places
from torchmetrics_rl2.images import ImageReader, find_images
from torchmetrics_rl2.images.sampling import evenly
from torchmetrics_rl2.pixels import degrade

IMAGES, REALS = 24, 24
DAMAGE = {
    "black": None,
    "a color": None,
    "blur of 2 px": ("gaussian blur", 0.5),
    "noise of 10 %": ("gaussian noise", 0.25),
    "JPEG 20": ("jpeg", 80 / 95),
    "twice the eosin": ("eosin", 1.0),
}


def damaged(images: Tensor, name: str, side: int) -> tuple[Tensor, Tensor]:
    """Images with a square of damage, and where it is, ``(N, H, W)``."""
    generator = torch.Generator().manual_seed(0)
    found = images.clone()
    where = torch.zeros(len(images), *images.shape[-2:], dtype=torch.bool)
    spec = DAMAGE[name]
    whole = degrade(images, *spec) if spec else torch.zeros_like(images)
    for row in range(len(images)):
        y, x = torch.randint(images.shape[-1] - side, (2,), generator=generator).tolist()
        color = torch.randint(256, (3, 1, 1), generator=generator, dtype=torch.uint8)
        square = (slice(None), slice(y, y + side), slice(x, x + side))
        found[row][square] = color if name == "a color" else whole[row][square]
        where[row][square[1:]] = True
    return found, where


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path, help="images to damage")
    parser.add_argument("--real", type=Path, required=True, help="other images, to compare with")
    parser.add_argument("--weights", default="histology")
    parser.add_argument("--side", type=int, default=72, help="of the square, in pixels (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    encoder = LatentEncoder.load(arguments.weights)

    def read(path: Path, count: int) -> Tensor:
        files = evenly(find_images(path), count)
        return torch.cat([batch.images for batch in ImageReader().read(files)])

    def encode(images: Tensor) -> Tensor:
        z: Tensor = encoder.flow(encoder.features(images))[0]
        return z

    images, reals = read(arguments.images, IMAGES), read(arguments.real, REALS)
    real_mean, found = encode(reals).mean(0), {}
    for name in DAMAGE:
        seen, where = damaged(images, name, arguments.side)
        maps = places(seen, reals, encode(seen).mean(0) - real_mean, encode)
        area = F.avg_pool2d(where[:, None].double(), CELL)[:, 0]
        inside = [float((one * part).sum() / one.sum()) for one, part in zip(maps, area, strict=True) if one.sum() > 0]
        aucs = []
        for one, part in zip(maps, area, strict=True):
            clear = (part < 0.1) | (part > 0.9)
            aucs.append(float(roc_auc_score((part > 0.5)[clear].numpy(), one[clear].numpy())))
        found[name] = {"inside": median(inside), "auc": mean(aucs), "seen": len(inside) / len(images)}
    if arguments.json:
        print(json.dumps(found, indent=2))
        return
    share = (arguments.side / images.shape[-1]) ** 2
    print(f"n = {len(images)}, {share:.0%} of each image is damaged, {arguments.weights}")
    for name, row in found.items():
        print(f"| {name} | {row['inside']:.2f} | {row['auc']:.2f} |")
    print(f"mean: {np.mean([row['inside'] for row in found.values()]):.2f}")


if __name__ == "__main__":
    with torch.no_grad():
        main()
