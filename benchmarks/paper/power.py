"""How often RL2, KID and FID detect weak damage at small numbers of patches, each with the same permutation test.

    python benchmarks/paper/power.py CLEAN [--n 40] [--fid] [--weights NAME_OR_PATH]

Each test sets n clean patches against n other ones, clean or damaged, and permutes the sides 99 times; it rejects at
5 %. The column test is the test of ``rl2 score``, without permutations.
"""

import json
from collections.abc import Callable, Sequence

import torch
from experiment import encode, load, load_encoder, options, progress, run
from inception import inception_features, load_inception
from torch import Generator, Tensor

from torchmetrics_rl2 import RL2Error, Statistics, compare
from torchmetrics_rl2.pixels import LADDERS, degrade

DAMAGE = {"gaussian blur": 0.5, "gaussian noise": 0.02}
DRAWS, PERMUTATIONS = 200, 99
PAPER = "fewer images are needed than for FID; no test is given"

Distance = Callable[[Tensor, Tensor, Tensor], Tensor]


def linear(gram: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Squared debiased distance of means, and so RL2, of rows and columns of a Gram matrix."""

    def within(rows: Tensor) -> Tensor:
        pairs = gram[rows][:, rows]
        return (pairs.sum() - pairs.trace()) / (len(rows) * (len(rows) - 1))

    return within(first) + within(second) - 2 * gram[first][:, second].mean()


def frechet(gram: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """FID from a Gram matrix of features."""

    def centered(rows: Tensor, columns: Tensor) -> Tensor:
        block = gram[rows][:, columns]
        return block - block.mean(0) - block.mean(1, keepdim=True) + block.mean()

    shift = gram[first][:, first].mean() + gram[second][:, second].mean() - 2 * gram[first][:, second].mean()
    traces = centered(first, first).trace() / (len(first) - 1) + centered(second, second).trace() / (len(second) - 1)
    root = torch.linalg.svdvals(centered(first, second)).sum() / ((len(first) - 1) * (len(second) - 1)) ** 0.5
    return shift + traces - 2 * root


def rejects(distance: Distance, gram: Tensor, first: Tensor, second: Tensor, generator: Generator) -> bool:
    """Whether the permutation test rejects at 5 %."""
    found, rows, as_far = distance(gram, first, second), torch.cat([first, second]), 1
    for _ in range(PERMUTATIONS):
        mixed = rows[torch.randperm(len(rows), generator=generator)]
        as_far += int(distance(gram, mixed[: len(first)], mixed[len(first) :]) >= found)
    return as_far <= 0.05 * (PERMUTATIONS + 1)


def shares(tests: dict[str, tuple[Distance, Tensor]], latents: Tensor, n: int, count: int) -> dict[str, float]:
    """Share rejected of n of the first rows against n others of the last; both are of the same ``count`` patches."""
    rejected = dict.fromkeys(["test", *tests], 0)
    generator = Generator().manual_seed(0)
    for _ in progress(range(DRAWS), "tests"):
        drawn = torch.randperm(count, generator=generator)[: 2 * n]
        first, second = drawn[:n], drawn[n:] + len(latents) - count
        sides = (Statistics.of_latents(latents[rows]) for rows in (first, second))
        rejected["test"] += (compare(*sides).p_value or 0) < 0.05
        for name, (distance, gram) in tests.items():
            rejected[name] += rejects(distance, gram, first, second, generator)
    return {name: times / DRAWS for name, times in rejected.items()}


def main(argv: Sequence[str] | None = None) -> None:
    """Print the shares."""
    parser = options(__doc__)
    parser.add_argument("clean", metavar="CLEAN")
    parser.add_argument("--n", type=int, default=40, help="patches a side")
    parser.add_argument("--fid", action="store_true", help="FID and KID too")
    parser.add_argument("--inception", metavar="DEFAULT_1.PT")
    arguments = parser.parse_args(argv)
    encoder, clean = load_encoder(arguments), load(arguments.clean, arguments)
    if 2 * arguments.n > len(clean):
        raise RL2Error(f"{arguments.n} against {arguments.n} takes {2 * arguments.n} patches, but got {len(clean)}.")
    sets = {"none": clean}
    for name, amount in DAMAGE.items():
        sets[f"{name} {amount}"] = degrade(clean, name, amount / LADDERS[name].amount(1))
    network = load_inception(arguments.inception, encoder.device) if arguments.fid else None
    latents = {name: encode(encoder, images, name).latents.double() for name, images in sets.items()}
    features = {
        name: inception_features(network, images, encoder.device, name) for name, images in sets.items() if network
    }
    rows = {}
    for name in sets:
        both = torch.cat([latents["none"], latents[name]])
        tests: dict[str, tuple[Distance, Tensor]] = {"RL2": (linear, both @ both.T)}
        if features:
            inception = torch.cat([features["none"], features[name]])
            gram = inception @ inception.T
            tests |= {"KID": (linear, (gram / inception.shape[1] + 1) ** 3), "FID": (frechet, gram)}
        rows[name] = shares(tests, both, arguments.n, len(clean))
    if arguments.json:
        print(json.dumps({"weights": encoder.name, "n": arguments.n, "tests": DRAWS, "rejected": rows}))
        return
    print(f"{encoder.name}, {arguments.n} against {arguments.n} of {len(clean)}, rejected of {DRAWS} tests at 5 %")
    for name, row in rows.items():
        print(f"{name:22}" + "".join(f"{test:>8} {share:5.1%}" for test, share in row.items()))
    print(f"paper: {PAPER}")


if __name__ == "__main__":
    run(main)
