"""Does the interval of the difference of two generators cover, and does its test keep its level?

    python benchmarks/differences.py CLEAN [--slides SOURCE] [--tile PX] [--n 30 100 300] [--repeats 200]

CLEAN is a source of ``rl2 score``; damaged as in ``ladders.py`` it makes twelve more generators. Real images, and those
of two generators, are drawn with replacement from their latents, the populations. Two draws of one set are a
true null; clean patches and damaged ones, and neighbors of a ladder, have a known difference. Pairs whose own intervals
overlap show what is gained by the shared real images. Then clean patches and each other set are compared as
``rl2 compare`` does it: how often they differ as a whole, by look and by content. ``--slides`` holds files that are
cut by ``--tile``: files are drawn, and are the units, clean and damaged.
"""

import argparse
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Generator, Tensor

from calibration import damaged, draw, encode, load
from torchmetrics_rl2 import LatentEncoder, Statistics, compare
from torchmetrics_rl2.distance.comparison import rank
from torchmetrics_rl2.distance.differences import difference
from torchmetrics_rl2.distance.kinds import PARTS, Kinds

Draw = Callable[[Tensor], Statistics]


def judge(real: Tensor, one: Tensor, other: Tensor, sample: Draw, repeats: int) -> dict[str, float]:
    """Shares of draws: rejected, covered, and with overlapping intervals, of which a share is told apart."""
    truth = float((real.mean(0) - one.mean(0)).square().sum() - (real.mean(0) - other.mean(0)).square().sum())
    rejected = covered = overlapping = apart = 0
    for _ in range(repeats):
        sides = [sample(pool) for pool in (real, one, other)]
        units = [side.units for side in sides]
        assert all(units)
        found = difference(*units)
        rejected += found.p_value < 0.05
        covered += found.interval[0] <= truth <= found.interval[1]
        ends = [compare(sides[0], side).interval for side in sides[1:]]
        if max(low for low, _ in ends) <= min(high for _, high in ends):
            overlapping += 1
            apart += found.p_value < 0.05
    return {
        "rejected": rejected / repeats,
        "covered": covered / repeats,
        "overlapping": overlapping / repeats,
        "told apart": apart / max(overlapping, 1),
    }


def by_file(files: list[str], n: int, generator: Generator) -> Draw:
    """Draws of n files with all their tiles, as groups."""
    members = [torch.tensor([i for i, f in enumerate(files) if f == name]) for name in dict.fromkeys(files)]

    def sample(pool: Tensor) -> Statistics:
        chosen = [members[i] for i in torch.randint(len(members), (n,), generator=generator)]
        return Statistics.of_latents(pool[torch.cat(chosen)], [str(i) for i, rows in enumerate(chosen) for _ in rows])

    return sample


def table(sets: dict[str, Tensor], sample: Draw, repeats: int) -> None:
    """Level of every set, coverage of every pair."""
    real = sets["clean"]
    levels = {name: judge(real, z, z, sample, repeats)["rejected"] for name, z in sets.items()}
    wanted = [("clean", name) for name in sets if name != "clean"]
    wanted += [pair for pair in pairwise(sets) if pair[0].split(",")[0] == pair[1].split(",")[0]]
    pairs = {names: judge(real, *(sets[name] for name in names), sample, repeats) for names in wanted}
    damaged_levels = [level for name, level in levels.items() if name != "clean"]
    covered = [found["covered"] for found in pairs.values()]
    print(f"  null rejected: clean {levels['clean']:.3f}; others {_range(damaged_levels)}")
    print(f"  interval covers: {_range(covered)} of {len(pairs)} pairs")
    close = {names: found for names, found in pairs.items() if found["overlapping"] > 0.1}
    for (one, other), found in close.items():
        print(
            f"  {one} and {other}: own intervals overlap in {found['overlapping']:.2f} of draws, of which "
            f"{found['told apart']:.2f} are told apart"
        )


def by_parts(sets: dict[str, Tensor], kinds: Kinds, n: int, generator: Generator, repeats: int) -> None:
    """How often a set and clean patches differ as a whole, by look and by content."""

    def sample(pool: Tensor) -> Statistics:
        return Statistics.of_latents(pool[torch.randint(len(pool), (n,), generator=generator)], kinds=kinds)

    for name, pool in sets.items():
        found = [
            rank(sample(sets["clean"]), {"clean": sample(sets["clean"]), "other": sample(pool)}) for _ in range(repeats)
        ]
        parts = {part: sum(one.parts[part][0].differs for one in found) / repeats for part in PARTS}
        whole = sum(one.pairs[0].differs for one in found) / repeats
        print(
            f"  clean and {name}: whole {whole:.2f}, look {parts['look']:.2f}, content {parts['content']:.2f}",
            flush=True,
        )


def _range(shares: list[float]) -> str:
    return f"{min(shares):.3f} to {max(shares):.3f}, mean {sum(shares) / len(shares):.3f}"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clean")
    parser.add_argument("--slides")
    parser.add_argument("--tile", type=int)
    parser.add_argument("--n", type=int, nargs="*", default=[30, 100, 300])
    parser.add_argument("--files", type=int, nargs="*", default=[10, 20, 40])
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--weights", default="histology")
    arguments = parser.parse_args()
    encoder, generator = LatentEncoder.load(arguments.weights), Generator().manual_seed(0)
    images, _ = load(arguments.clean, None)
    sets = {"clean": encode(encoder, images, None)} | damaged(encoder, images, None)
    print(f"{encoder.name}, {len(images)} images a set, {arguments.repeats} repeats, seed 0")
    for n in arguments.n:
        print(f"n = {n} a side", flush=True)
        table(sets, lambda pool, n=n: draw(pool, n, generator), arguments.repeats)
        by_parts(sets, encoder.kinds, n, generator, arguments.repeats)
    if arguments.slides:
        images, files = load(arguments.slides, arguments.tile)
        sets = {"clean": encode(encoder, images, None)} | damaged(encoder, images, None)
        for n in arguments.files:
            print(f"{n} files a side of {len(set(files))}, {len(images)} tiles", flush=True)
            table(sets, by_file(files, n, generator), arguments.repeats)


if __name__ == "__main__":
    main()
