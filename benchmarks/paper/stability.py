"""How many images does a value take? RL2, plain and debiased, FID and KID of ever more images, repeated.

    python benchmarks/paper/stability.py CLEAN [--real SOURCE | --halves] [--fid] [--damage NAME] [--plot PNG]

CLEAN is a source of ``rl2 score``. n of its patches, clean and with one kind of damage, are drawn ``--repeats`` times
without replacement, and compared with all real patches. Draws of more than half of the patches resemble each other,
which makes their sd too small: have twice as many patches as the greatest n that matters. With ``--fid`` see
``inception.py``.

Printed are mean and sd of each value at each n, and from which n on mean - sd to mean + sd stays within 10 % of the
value of all patches. That of clean patches is next to nothing for the unbiased ones, debiased RL2 and KID, of which
it therefore asks too much: look at the damaged ones. Paper: RL2 is stable from about 300 images on.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any

import torch
from experiment import add_sides, described, encode, load_encoder, options, progress, reference_of, rl2, run, sides
from inception import frechet_distance, inception_of, kernel_distance
from torch import Generator, Tensor

from torchmetrics_rl2 import RL2Error
from torchmetrics_rl2.pixels import LADDERS, degrade

PAPER = "RL2 is stable from about 300 images on"
WITHIN = 0.1
COUNTS = (10, 20, 50, 100, 200, 300, 500, 1000, 2000)

Values = Callable[[Tensor], dict[str, float]]


def draws(pool: int, n: int, repeats: int, seed: int) -> list[Tensor]:
    """Rows of so many draws without replacement; one will do where n is all there is."""
    generator = Generator().manual_seed(seed)
    return [torch.randperm(pool, generator=generator)[:n] for _ in range(1 if n == pool else repeats)]


def stable_from(rows: Sequence[dict[str, Any]], metric: str) -> int | None:
    """The smallest n from which on mean and sd stay near the value of all images, which is the last row."""
    target = rows[-1][metric]["mean"]
    stable = None
    for row in reversed(rows):
        mean, sd = row[metric]["mean"], row[metric]["sd"]
        if abs(mean - target) + sd > WITHIN * abs(target):
            break
        stable = row["n"]
    # All images are near all images, which says nothing.
    return stable if stable != rows[-1]["n"] else None


def climb(values: Values, pool: int, counts: Sequence[int], repeats: int, seed: int, what: str) -> list[dict[str, Any]]:
    """Mean and sd of all values at each n."""
    rows = []
    for n in progress(counts, f"{what}, numbers of images"):
        found = [values(chosen) for chosen in draws(pool, n, repeats, seed)]
        row: dict[str, Any] = {"n": n}
        for metric in found[0]:
            column = torch.tensor([one[metric] for one in found], dtype=torch.float64)
            row[metric] = {"mean": float(column.mean()), "sd": float(column.std()) if len(column) > 1 else 0.0}
        rows.append(row)
    return rows


def plot(tables: dict[str, list[dict[str, Any]]], path: str) -> None:
    """Draw a panel for each metric, with a band of one sd."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    metrics = [key for key in next(iter(tables.values()))[0] if key != "n"]
    figure, axes = plt.subplots(1, len(metrics), figsize=(3.2 * len(metrics), 3), layout="constrained", squeeze=False)
    for axis, metric in zip(axes[0], metrics, strict=True):
        for name, rows in tables.items():
            counts, mean, sd = zip(*((row["n"], row[metric]["mean"], row[metric]["sd"]) for row in rows), strict=True)
            (line,) = axis.plot(counts, mean, marker="o", markersize=3, label=name)
            low, high = zip(*((m - s, m + s) for m, s in zip(mean, sd, strict=True)), strict=True)
            axis.fill_between(counts, low, high, color=line.get_color(), alpha=0.2)
        axis.set(xscale="log", xlabel="images", title=metric)
        axis.axhline(0, color="gray", linewidth=0.5)
    axes[0][0].legend()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(argv: Sequence[str] | None = None) -> None:
    """Print the tables, and draw them."""
    parser = options(__doc__)
    add_sides(parser)
    parser.add_argument("--damage", choices=LADDERS, default="gaussian blur", metavar="NAME")
    parser.add_argument("--severity", type=float, help="0 to 1; by default the weakest that is clearly visible")
    parser.add_argument("--counts", type=int, nargs="+", default=COUNTS, metavar="N")
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--plot", metavar="PNG")
    arguments = parser.parse_args(argv)
    if min(arguments.counts) < 2 or arguments.repeats < 2:
        raise RL2Error(
            "A mean and its sd take at least two images and two repeats; give greater --counts or --repeats."
        )
    encoder = load_encoder(arguments)
    inception = inception_of(arguments, encoder.device)
    clean, real = sides(arguments.clean, arguments)
    reference = reference_of(encoder, real)
    real_features = inception(real, "real") if inception and real is not None else None
    counts = [*sorted({n for n in arguments.counts if n < len(clean)}), len(clean)]
    ladder = LADDERS[arguments.damage]
    severity = ladder.visible if arguments.severity is None else arguments.severity
    damaged = f"{ladder.name} {ladder.amount(severity):g} ({ladder.unit})"
    tables = {}
    for name, images in (("clean", clean), (damaged, degrade(clean, ladder.name, severity, arguments.seed))):
        latents = encode(encoder, images, name).latents
        features = inception(images, name) if inception else None

        def values(chosen: Tensor, latents: Tensor = latents, features: Tensor | None = features) -> dict[str, float]:
            found = dict(zip(("RL2", "RL2 debiased"), rl2(reference, latents[chosen]), strict=True))
            if features is not None and real_features is not None:
                found["FID"] = frechet_distance(real_features, features[chosen])
                found["KID"] = kernel_distance(real_features, features[chosen])
            return found

        tables[name] = climb(values, len(images), counts, arguments.repeats, arguments.seed, name)
    metrics = [key for key in tables["clean"][0] if key != "n"]
    stable = {name: {m: stable_from(rows, m) for m in metrics} for name, rows in tables.items()}
    if arguments.plot:
        plot(tables, arguments.plot)
    if arguments.json:
        about = described(encoder, reference, arguments) | {"n": len(clean), "repeats": arguments.repeats}
        print(json.dumps(about | {"tables": tables, "stable_from": stable, "paper": PAPER}))
        return
    print(f"{encoder.name} ({encoder.weights_id[:12]}), {len(clean)} patches, {len(reference)} real")
    for name, rows in tables.items():
        print(f"\n{name}\n{'n':>9}" + "".join(f"{metric:>22}" for metric in metrics))
        for row in rows:
            cells = (f"{row[m]['mean']:.4g} +- {row[m]['sd']:.2g}" for m in metrics)
            print(f"{row['n']:9}" + "".join(f"{cell:>22}" for cell in cells))
        print(f"{'from':>9}" + "".join(f"{stable[name][m] or 'none':>22}" for m in metrics))
    print(f"\npaper: {PAPER}")


if __name__ == "__main__":
    run(main)
