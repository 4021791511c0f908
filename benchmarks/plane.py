"""Draw content across and look up, in multiples of the real-against-real baseline: damage, compositions, generators.

    python benchmarks/plane.py TILES --kinds CSV|parent --organ colon [--generated NAME=SOURCE ...] -o plane.png

Tiles, compositions and damage are those of ``content.py``. Generated images go the way LC25000's did, see
``generated_lung.py``, and are set against the tiles whose kinds have a name that contains NAME. Points are means of
twenty draws of 100 a side, and crosses reach over 80 % of them. Needs matplotlib.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from content import DAMAGE, compositions, draw, encode_all, read_kinds
from generated_lung import as_lc25000
from torchmetrics_rl2 import LatentEncoder, RL2Result, compare
from torchmetrics_rl2.images import find_images

N, REPEATS = 100, 20
Points = dict[str, NDArray[np.float64]]


def multiples(results: list[RL2Result]) -> NDArray[np.float64]:
    """Multiples of content and look of each draw, ``(draws, 2)``."""
    return np.array([[part.baseline_multiple for part in (one.content, one.look) if part] for one in results])


def measure(encoder: LatentEncoder, latents: dict[str, Tensor], kinds: NDArray[np.str_], organ: str) -> Points:
    """Points of compositions and damage."""
    names = sorted(set(kinds.tolist()))
    rows = [np.flatnonzero(kinds == name) for name in names]
    mixtures = compositions(names, organ)
    cells = {name: ("", shares) for name, shares in mixtures.items()}
    cells |= {name: (name, mixtures["nothing"]) for name in DAMAGE}
    found = {}
    for cell, (damage, shares) in cells.items():
        draws = np.random.default_rng(0)
        results = []
        for _ in range(REPEATS):
            real, fake = draw(rows, mixtures["nothing"], N, draws), draw(rows, shares, N, draws)
            results.append(compare(encoder.statistics(latents[""][real]), encoder.statistics(latents[damage][fake])))
        found["real tiles" if cell == "nothing" else cell] = multiples(results)
    return found


def generated(encoder: LatentEncoder, tiles: Tensor, kinds: NDArray[np.str_], name: str, source: str) -> Points:
    """The point of generated images against the tiles of their organ, drawn with replacement."""
    images = torch.stack([as_lc25000(path) for path in find_images(source)])
    latents = torch.cat([encoder(batch) for batch in images.split(32)])
    real = tiles[[name in kind for kind in kinds]]
    draws, results = np.random.default_rng(0), []
    for _ in range(REPEATS):
        sides = (pool[draws.integers(len(pool), size=N)] for pool in (real, latents))
        results.append(compare(*map(encoder.statistics, sides)))
    return {f"{name} of a diffusion model": multiples(results)}


def plot(points: Points, ratio: float, leaks: tuple[float, float], out: str) -> None:
    """Draw them; ``ratio`` is that of the baselines of look and content, and leaks are those of the kinds."""
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(8.5, 6), layout="constrained")
    means = {name: values.mean(0) for name, values in points.items()}
    right, top = 1.6 * np.max(list(means.values()), axis=0)
    ends = np.array([0.3, 2 * max(right, top)])
    axis.fill_betweenx(ends, 0.01, leaks[0] * ratio * ends, color="tab:orange", alpha=0.08, lw=0)
    axis.fill_between(ends, 0.01, leaks[1] / ratio * ends, color="tab:blue", alpha=0.08, lw=0)
    axis.axhline(1, color="gray", lw=0.8, ls=":")
    axis.axvline(1, color="gray", lw=0.8, ls=":")
    for name, values in points.items():
        color = "tab:orange" if name in DAMAGE else "black" if name == "real tiles" else "tab:blue"
        color = "tab:red" if "model" in name else color
        x, y = values.mean(0)
        low, high = np.quantile(values, [0.1, 0.9], axis=0)
        axis.errorbar(x, y, [[y - low[1]], [high[1] - y]], [[x - low[0]], [high[0] - x]], fmt="o", color=color, lw=0.8)
        below = name.endswith("-1/2 octave") or name.startswith("no ")
        axis.annotate(
            _label(name, means), (x, y), (5, -11 if below else 4), textcoords="offset points", fontsize=8, color=color
        )
    axis.set(xscale="log", yscale="log", xlim=(0.5, right), ylim=(0.6, top))
    axis.set(xlabel="content: which tissue is shown (x baseline)", ylabel="look: how it is shown (x baseline)")
    axis.set_title("1x is what two random samples of real tiles score. Shaded: what the other part alone may leak")
    figure.savefig(out, dpi=110)


def _label(name: str, means: Points) -> str:
    """Its name; compositions without a kind lie close together, and one of them has the name of all."""
    missing = {other: mean[0] for other, mean in means.items() if other.startswith("no ")}
    if name not in missing:
        return name
    return "a kind missing, each in turn" if name == min(missing, key=lambda other: missing[other]) else ""


def main() -> None:
    """Draw the picture and print its points."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tiles", help="tiles that took no part, a source of rl2 score")
    parser.add_argument("--kinds", required=True, metavar="CSV|parent")
    parser.add_argument("--organ", required=True)
    parser.add_argument("--generated", nargs="*", default=[], metavar="NAME=SOURCE")
    parser.add_argument("--weights", default="lung-colon")
    parser.add_argument("-o", "--out", default="plane.png", metavar="PNG")
    arguments = parser.parse_args()
    encoder = LatentEncoder.load(arguments.weights)
    clean, kinds = read_kinds(Path(arguments.tiles), arguments.kinds)
    latents = encode_all(encoder, clean)
    points = measure(encoder, latents, kinds, arguments.organ)
    for pair in arguments.generated:
        name, _, source = pair.partition("=")
        points |= generated(encoder, latents[""], kinds, name, source)
    half = latents[""][torch.randperm(len(clean), generator=torch.Generator().manual_seed(0))[:N]]
    alike = compare(*[encoder.statistics(half)] * 2).to_dict()
    assert encoder.kinds is not None
    plot(points, alike["look"]["baseline"] / alike["content"]["baseline"], encoder.kinds.leaks, arguments.out)
    for name, values in points.items():
        print(f"{name:34}content {values.mean(0)[0]:6.2f}x   look {values.mean(0)[1]:6.2f}x")


if __name__ == "__main__":
    main()
