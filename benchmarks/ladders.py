"""RL2 of clean patches and of the same patches blurred, noised, peppered and occluded, three strengths each.

    python benchmarks/ladders.py CLEAN [--real REAL] [--weights NAME_OR_PATH] [--tile PX] [--json] [--plot PNG]

Sources are those of ``rl2 score``. AUC is that of the log-likelihood, clean patches against damaged: 0.5 is chance.
"""

import argparse
import json
import math
from collections.abc import Callable

import torch
from torch import Generator, Tensor
from torchvision.transforms.v2.functional import gaussian_blur

from torchmetrics_rl2 import LatentEncoder, Statistics, compare
from torchmetrics_rl2.flow import log_likelihood
from torchmetrics_rl2.images import ImageReader, find_images

Damage = Callable[[Tensor, float, Generator], Tensor]


def blur(images: Tensor, sigma: float, _: Generator) -> Tensor:
    """Gaussian blur; strength is sigma in px."""
    return gaussian_blur(images, [2 * math.ceil(4 * sigma) + 1] * 2, [sigma])


def noise(images: Tensor, sd: float, generator: Generator) -> Tensor:
    """Gaussian noise; strength is its sd, of a range of 1."""
    return images + sd * torch.randn(images.shape, generator=generator)


def impulse(images: Tensor, fraction: float, generator: Generator) -> Tensor:
    """Salt and pepper; strength is the fraction of pixels."""
    draw = torch.rand((len(images), 1, *images.shape[2:]), generator=generator)
    return images.masked_fill(draw < fraction / 2, 0).masked_fill(draw > 1 - fraction / 2, 1)


def occlusion(images: Tensor, fraction: float, generator: Generator) -> Tensor:
    """Black rectangles (Heusel et al. 2017), five an image; strength is the fraction of the area, overlaps aside."""
    height, width = images.shape[-2:]
    images = images.clone()
    rows, columns = (round(side * math.sqrt(fraction / 5)) for side in (height, width))
    for image in images:
        for _ in range(5):
            top = int(torch.randint(height - rows + 1, (), generator=generator))
            left = int(torch.randint(width - columns + 1, (), generator=generator))
            image[:, top : top + rows, left : left + columns] = 0
    return images


LADDERS: dict[str, tuple[Damage, tuple[float, ...]]] = {
    "blur, sigma px": (blur, (0.5, 1, 2)),
    "noise, sd": (noise, (0.02, 0.05, 0.1)),
    "salt and pepper, fraction": (impulse, (0.01, 0.02, 0.05)),
    "occlusion, fraction": (occlusion, (0.05, 0.2, 0.4)),
}


def encode(encoder: LatentEncoder, images: Tensor) -> tuple[Statistics, Tensor]:
    """Statistics of latents, and log-likelihoods."""
    parts = []
    for batch in images.split(32):
        z, log_det = encoder.encode(batch)
        parts.append((z, log_likelihood(z, log_det)))
    z, likelihood = (torch.cat(values) for values in zip(*parts, strict=True))
    return Statistics.of_latents(z, weights=encoder.name, weights_id=encoder.weights_id), likelihood


def auc(clean: Tensor, damaged: Tensor) -> float:
    """Probability that a damaged patch is less likely than a clean one."""
    return float((damaged[:, None] < clean).float().mean() + (damaged[:, None] == clean).float().mean() / 2)


def plot(rows: list[tuple[str, float, float, float, float]], path: str) -> None:
    """Draw one panel a ladder, with the clean value as a dashed line."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(LADDERS), figsize=(11, 2.8), sharey=True, layout="constrained")
    for axis, name in zip(axes, LADDERS, strict=True):
        _, strengths, values, *_ = zip(*(row for row in rows if row[0] == name), strict=True)
        axis.semilogy(range(len(values)), values, marker="o")
        axis.axhline(rows[0][2], linestyle="--", color="grey")
        axis.set(xticks=range(len(values)), xticklabels=strengths, xlabel=name)
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
    for name, (damage, strengths) in LADDERS.items():
        for strength in strengths:
            damaged = damage(clean.float() / 255, strength, Generator().manual_seed(0)).clamp(0, 1)
            statistics, score = encode(encoder, (damaged * 255).round().to(torch.uint8))
            result = compare(reference, statistics)
            rows.append((name, strength, result.value, result.debiased, auc(likelihood, score)))
    if arguments.plot:
        plot(rows, arguments.plot)
    if arguments.json:
        print(json.dumps({"weights": encoder.name, "n": len(clean), "n_real": len(reference), "rows": rows}))
        return
    print(f"{encoder.name} ({encoder.weights_id[:12]}), {len(clean)} patches against {len(reference)}")
    print(f"{'ladder':28}{'strength':>9}{'RL2':>10}{'debiased':>10}{'x clean':>9}{'AUC':>7}")
    for name, strength, value, debiased, area in rows:
        print(f"{name:28}{strength:9}{value:10.3f}{debiased:10.3f}{value / rows[0][2]:9.2f}{area:7.2f}")


if __name__ == "__main__":
    main()
