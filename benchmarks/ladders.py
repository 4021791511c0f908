"""RL2 of clean patches and of the same patches blurred, noised, peppered and occluded, three severities each.

    python benchmarks/ladders.py CLEAN [--real REAL] [--weights NAME_OR_PATH] [--tile PX] [--json] [--plot PNG]

Sources are those of ``rl2 score``. AUC is that of the log-likelihood, clean patches against damaged: 0.5 is chance.
"""

import argparse
import json

import torch
from torch import Tensor

from torchmetrics_rl2 import LatentEncoder, Statistics, compare
from torchmetrics_rl2.auditing import auroc
from torchmetrics_rl2.images import ImageReader, find_images
from torchmetrics_rl2.pixels import degradations

LADDERS = {
    "blur, sigma px": ("gaussian blur", (0.5, 1, 2)),
    "noise, sd": ("gaussian noise", (0.02, 0.05, 0.1)),
    "salt and pepper, fraction": ("salt and pepper", (0.01, 0.02, 0.05)),
    "occlusion, fraction": ("rectangles", (0.05, 0.2, 0.4)),
}
"""The damage of the package and its amounts."""


def damage(images: Tensor, ladder: str, amount: float) -> Tensor:
    """Damaged uint8 patches; the amount of all four is in proportion to the severity."""
    return degradations.degrade(images, ladder, amount / degradations.LADDERS[ladder].amount(1))


def encode(encoder: LatentEncoder, images: Tensor) -> tuple[Statistics, Tensor]:
    """Statistics of latents, and log-likelihoods."""
    parts = []
    for batch in images.split(32):
        z, log_det = encoder.encode(batch)
        parts.append((z, encoder.flow.log_likelihood(z, log_det)))
    z, likelihood = (torch.cat(values) for values in zip(*parts, strict=True))
    return encoder.statistics(z), likelihood


def plot(rows: list[tuple[str, float, float, float, float]], path: str) -> None:
    """Draw one panel a ladder, with the clean value as a dashed line."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(LADDERS), figsize=(11, 2.8), sharey=True, layout="constrained")
    for axis, name in zip(axes, LADDERS, strict=True):
        _, severities, values, *_ = zip(*(row for row in rows if row[0] == name), strict=True)
        axis.semilogy(range(len(values)), values, marker="o")
        axis.axhline(rows[0][2], linestyle="--", color="gray")
        axis.set(xticks=range(len(values)), xticklabels=severities, xlabel=name)
    axes[0].set_ylabel("RL2 (dashed: clean)")
    figure.savefig(path, dpi=110)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clean")
    parser.add_argument("--real")
    parser.add_argument("--weights", default="lung-colon")
    parser.add_argument("--tile", type=int)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--plot", metavar="PNG", help="also draw the ladders, needs matplotlib")
    arguments = parser.parse_args()
    reader = ImageReader(tile=arguments.tile)
    encoder = LatentEncoder.load(arguments.weights)

    def load(source: str) -> Tensor:
        return torch.cat([batch.images for batch in reader.read(find_images(source))])

    if arguments.real:
        reference, _ = encode(encoder, load(arguments.real))
    else:
        reference = encoder.reference_statistics
    clean = load(arguments.clean)
    statistics, likelihood = encode(encoder, clean)
    result = compare(reference, statistics)
    rows = [("clean", 0.0, result.value, result.debiased, 0.5)]
    for name, (ladder, severities) in LADDERS.items():
        for severity in severities:
            statistics, score = encode(encoder, damage(clean, ladder, severity))
            result = compare(reference, statistics)
            rows.append((name, severity, result.value, result.debiased, auroc(likelihood, score)))
    if arguments.plot:
        plot(rows, arguments.plot)
    if arguments.json:
        print(json.dumps({"weights": encoder.name, "n": len(clean), "n_real": len(reference), "rows": rows}))
        return
    print(f"{encoder.name} ({encoder.weights_id[:12]}), {len(clean)} patches against {len(reference)}")
    print(f"{'ladder':28}{'severity':>9}{'RL2':>10}{'debiased':>10}{'x clean':>9}{'AUC':>7}")
    for name, severity, value, debiased, area in rows:
        print(f"{name:28}{severity:9}{value:10.3f}{debiased:10.3f}{value / rows[0][2]:9.2f}{area:7.2f}")


if __name__ == "__main__":
    main()
