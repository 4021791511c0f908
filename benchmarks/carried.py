"""How far damage moves content, in shares of look: as it is, and without what its look carries along.

    python benchmarks/carried.py TILES --weights lung-colon

Each ladder of damage at the severity that a person clearly sees and at twice that, on tiles that did not fit the
weights. The second share is what a difference of content has to exceed, see ``docs/content.md``.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent / "paper"))

from experiment import BATCH, progress, run

from torchmetrics_rl2 import LatentEncoder, RL2Error
from torchmetrics_rl2.images import ImageReader, find_images
from torchmetrics_rl2.pixels import LADDERS, degrade

DAMAGE = [
    (name, sign * min(times * ladder.visible, 1.0))
    for name, ladder in LADDERS.items()
    for sign in ((1, -1) if ladder.signed else (1,))
    for times in (1, 2)
]


def main() -> None:
    """Print a row for each kind of damage, the largest share first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tiles", help="tiles that took no part, a source of rl2 score")
    parser.add_argument("--weights", default="lung-colon")
    arguments = parser.parse_args()
    encoder = LatentEncoder.load(arguments.weights)
    if encoder.kinds is None:
        raise RL2Error(f"{encoder.name} has no kinds of tissue.")
    basis, axes = encoder.kinds.basis, encoder.kinds.axes
    batches = list(ImageReader(batch_size=BATCH).read(find_images(arguments.tiles)))
    clean = torch.cat([batch.images for batch in batches])

    def mean(images: Tensor) -> Tensor:
        return torch.cat([encoder(part) for part in images.split(BATCH)]).double().mean(0)

    base, rows = mean(clean), []
    for name, severity in progress(DAMAGE, "damage"):
        shift = mean(degrade(clean, name, severity)) - base
        content = shift @ basis
        look = (shift - content @ basis.T).norm()
        rows.append((f"{name} {severity:+.2f}", float(content.norm() / look), float((shift @ axes).norm() / look)))
    shares = np.array([row[1:] for row in rows])
    print(
        f"{encoder.name} ({encoder.weights_id[:12]}), {len(clean)} tiles: content in shares of look, and what is left"
    )
    for name, *both in sorted(rows, key=lambda row: -row[1]):
        print(f"{name:26}{both[0]:8.2f}{both[1]:8.2f}")
    for label, of_all in (("mean", shares.mean(0)), ("most", shares.max(0))):
        print(f"{label:26}{of_all[0]:8.2f}{of_all[1]:8.2f}")


if __name__ == "__main__":
    with torch.no_grad():
        run(main)
