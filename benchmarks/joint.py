"""How well single damaged patches are told from clean ones: the flow of each weights file, and two baselines.

    python benchmarks/joint.py --fit FIT --judge CLEAN --backbone NAME_OR_PATH ... [--tile PX] [--limit N] [--json]

AUROC of clean patches against the same damaged, at the weakest severity of each ladder that a person clearly sees, in
both directions where a ladder has two; mean of each family, and of the families. For each weights file: the
log-likelihood of its flow, and of one Gaussian with the Ledoit-Wolf covariance of the same features of FIT. Last, the
same Gaussian of the fifteen hand-crafted statistics. FIT should be the images that fitted the flows; CLEAN took no
part.
"""

import argparse
import json
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from torchmetrics_rl2 import LatentEncoder
from torchmetrics_rl2.auditing import auroc
from torchmetrics_rl2.images import ImageReader, find_images
from torchmetrics_rl2.networks import Gaussian
from torchmetrics_rl2.pixels import LADDERS, degrade, handcrafted_statistics

Scores = Callable[[Tensor], list[Tensor]]


def in_batches(function: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """A function of images, computed a few at a time."""
    return torch.cat([function(batch) for batch in images.split(32)])


def handcrafted(images: Tensor) -> Tensor:
    """Fifteen statistics of uint8 images."""
    return handcrafted_statistics(images.float() / 255)


def scores_of(encoder: LatentEncoder, fit: Tensor) -> Scores:
    """Log-likelihoods of images under the flow, and under one Gaussian of the same features."""
    density = Gaussian(in_batches(encoder.features, fit))

    @torch.no_grad()
    def scores(images: Tensor) -> list[Tensor]:
        features = in_batches(encoder.features, images)
        return [encoder.flow.log_prob(features), density.log_prob(features)]

    return scores


def damages(images: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Damaged patches of each ladder at its visible severity, and the family of the ladder."""
    for ladder in LADDERS.values():
        for severity in (-ladder.visible, ladder.visible) if ladder.signed else (ladder.visible,):
            yield ladder.family, degrade(images, ladder.name, severity)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fit", required=True, help="images that the baselines are fitted to")
    parser.add_argument("--judge", required=True, help="clean images to damage")
    parser.add_argument("--backbone", nargs="+", required=True, help="names or files of weights")
    parser.add_argument("--tile", type=int)
    parser.add_argument("--limit", type=int, help="judge this many images, spread evenly over the list")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()

    def load(source: str, limit: int | None = None) -> Tensor:
        paths = find_images(source)
        paths = paths[:: max(1, len(paths) // limit)][:limit] if limit else paths
        return torch.cat([batch.images for batch in ImageReader(arguments.tile).read(paths)])

    fit, clean = load(arguments.fit), load(arguments.judge, arguments.limit)
    density = Gaussian(in_batches(handcrafted, fit))
    ways: list[Scores] = [scores_of(LatentEncoder.load(name), fit) for name in arguments.backbone]
    ways.append(lambda images: [density.log_prob(in_batches(handcrafted, images))])
    names = [name + of for name in arguments.backbone for of in (", flow", ", Gaussian")] + ["hand-crafted, Gaussian"]

    def score(images: Tensor) -> list[Tensor]:
        return [values for way in ways for values in way(images)]

    undamaged = score(clean)
    found: dict[str, list[list[float]]] = {}
    for family, damaged in damages(clean):
        found.setdefault(family, []).append([auroc(*pair) for pair in zip(undamaged, score(damaged), strict=True)])
    means = {family: torch.tensor(areas).mean(0) for family, areas in found.items()}
    means["mean"] = torch.stack(list(means.values())).mean(0)
    rows = {name: {family: float(mean[i]) for family, mean in means.items()} for i, name in enumerate(names)}
    if arguments.json:
        print(json.dumps({"n_fit": len(fit), "n_judge": len(clean), "rows": rows}))
        return
    print(f"AUROC of {len(clean)} patches, clean against damaged; baselines fitted to {len(fit)}")
    print("| | " + " | ".join(means) + " |")
    print("|---" * (len(means) + 1) + "|")
    for name, row in rows.items():
        print(f"| {name} | " + " | ".join(f"{area:.2f}" for area in row.values()) + " |")


if __name__ == "__main__":
    main()
