"""Does the interval cover, and does the test keep its level? Draws with replacement from latents, the population then.

    python benchmarks/calibration.py CLEAN [--other SOURCE ...] [--slides SOURCE] [--tile PX] [--n 50 100 300 1000]
        [--sets NAME ...] [--part content|look]

CLEAN is a source of ``rl2 score``; with the ladders of ``ladders.py`` it makes a dozen more sets. ``--other`` adds sets
of other images. Of every set two draws are compared (a true null), and of every set and CLEAN one draw each (a true
shift). Sets with a few far outliers, made of CLEAN with one patch in twenty occluded, are reported apart. ``--slides``
holds files that are cut by ``--tile``: draws of files, whose tiles resemble each other, with tiles and with files as
units. ``--part`` does the same with a part of RL2 alone.
"""

import argparse
from itertools import combinations

import torch
from torch import Generator, Tensor

from ladders import LADDERS, damage
from torchmetrics_rl2 import LatentEncoder, Statistics, compare
from torchmetrics_rl2.distance.kinds import PARTS
from torchmetrics_rl2.images import ImageReader, find_images


def encode(encoder: LatentEncoder, images: Tensor, part: str | None) -> Tensor:
    """Latents, or their content or look, in float64."""
    z = torch.cat([encoder(batch) for batch in images.split(64)]).double()
    if part is None:
        return z
    if encoder.kinds is None:
        raise SystemExit(f"{encoder.name} has no kinds of tissue, so RL2 has no {part}.")
    content = z @ encoder.kinds.basis
    return content if part == "content" else z - content @ encoder.kinds.basis.T


def load(source: str, tile: int | None) -> tuple[Tensor, list[str]]:
    """Images, and the file of each."""
    batches = list(ImageReader(tile=tile).read(find_images(source)))
    return torch.cat([batch.images for batch in batches]), [str(path) for batch in batches for path in batch.paths]


def damaged(encoder: LatentEncoder, clean: Tensor, part: str | None) -> dict[str, Tensor]:
    """Latents of all ladders."""
    sets = {}
    for name, (ladder, severities) in LADDERS.items():
        for severity in severities:
            sets[f"{name} {severity}"] = encode(encoder, damage(clean, ladder, severity), part)
    return sets


def draw(pool: Tensor, n: int, generator: Generator) -> Statistics:
    """Statistics of n latents, drawn with replacement."""
    return Statistics.of_latents(pool[torch.randint(len(pool), (n,), generator=generator)])


def calibrate(real: Tensor, fake: Tensor, n: int, repeats: int, generator: Generator) -> dict[str, float]:
    """Rejections, coverage of both intervals, and by how many standard errors the mean squared distance is off."""
    truth = float((real.mean(0) - fake.mean(0)).square().sum())
    ratio = float(fake.var(0).sum() / real.var(0).sum())
    squares, rejected, covered, spread = [], 0, 0, 0
    for _ in range(repeats):
        result = compare(draw(real, n, generator), draw(fake, n, generator))
        low, high = result.interval
        squares.append(result.debiased * abs(result.debiased))
        rejected += result.p_value < 0.05
        covered += low <= truth**0.5 <= high
        spread += result.variance_ratio_interval[0] <= ratio <= result.variance_ratio_interval[1]
    found = torch.tensor(squares, dtype=torch.float64)
    return {
        "truth": truth**0.5,
        "off": float((found.mean() - truth) / (found.std() / repeats**0.5)),
        "rejected": rejected / repeats,
        "covered": covered / repeats,
        "spread": spread / repeats,
    }


def power(pool: Tensor, n: int, repeats: int, generator: Generator) -> float:
    """How often a shift of the size called detectable, in the direction of a random patch, is found."""
    found = 0
    for _ in range(repeats):
        real, fake = draw(pool, n, generator), draw(pool, n, generator)
        direction = pool[torch.randint(len(pool), (), generator=generator)] - pool.mean(0)
        moved = pool + compare(real, fake).detectable * direction / direction.norm()
        found += compare(draw(pool, n, generator), draw(moved, n, generator)).p_value < 0.05
    return found / repeats


def clustered(pool: Tensor, files: list[str], n: int, repeats: int, generator: Generator) -> tuple[float, float]:
    """Rejections of a true null between two draws of n files, with tiles and with files as units."""
    members = [torch.tensor([i for i, f in enumerate(files) if f == name]) for name in dict.fromkeys(files)]
    rejected = [0, 0]
    for _ in range(repeats):
        tiles, grouped = [], []
        for _ in range(2):
            chosen = [members[i] for i in torch.randint(len(members), (n,), generator=generator)]
            names = [str(i) for i, rows in enumerate(chosen) for _ in rows]
            z = pool[torch.cat(chosen)]
            tiles.append(Statistics.of_latents(z))
            grouped.append(Statistics.of_latents(z, names))
        for i, sides in enumerate((tiles, grouped)):
            rejected[i] += compare(*sides).p_value < 0.05
    return rejected[0] / repeats, rejected[1] / repeats


def halves(pool: Tensor, files: list[str], repeats: int, generator: Generator) -> tuple[float, float]:
    """The same between random halves of the files."""
    names = list(dict.fromkeys(files))
    rejected = [0, 0]
    for _ in range(repeats):
        order = torch.randperm(len(names), generator=generator).tolist()
        first = {names[i] for i in order[: len(names) // 2]}
        rows = [torch.tensor([i for i, f in enumerate(files) if (f in first) == side]) for side in (True, False)]
        for i, grouped in enumerate((False, True)):
            sides = [Statistics.of_latents(pool[r], [files[j] for j in r] if grouped else None) for r in rows]
            rejected[i] += compare(*sides).p_value < 0.05
    return rejected[0] / repeats, rejected[1] / repeats


def sizes(pool: Tensor, n: int) -> tuple[float, float]:
    """Detectable distance, and value, of two draws of one set; means of 20."""
    generator = Generator().manual_seed(0)
    found = [compare(draw(pool, n, generator), draw(pool, n, generator)) for _ in range(20)]
    return sum(result.detectable for result in found) / 20, sum(result.value for result in found) / 20


def dominated(largest: int, repeats: int) -> float:
    """Rejections of a true null: ten groups of ten simulated latents against ten with one of this size."""
    generator, rejected = Generator().manual_seed(0), 0

    def side(first: int) -> Statistics:
        names = [str(i) for i in range(10) for _ in range(first if i == 0 else 10)]
        means = torch.randn(10, 16, generator=generator)[[int(name) for name in names]]
        return Statistics.of_latents(means + torch.randn(len(names), 16, generator=generator), names)

    for _ in range(repeats):
        rejected += compare(side(10), side(largest)).p_value < 0.05
    return rejected / repeats


def report(name: str, found: dict[str, float], null: bool) -> None:
    """One line of the table."""
    level = f"{found['rejected']:10.3f}" if null else f"{'':10}"
    print(
        f"{name:44}{found['truth']:9.2f}{level}{found['covered']:10.3f}{found['spread']:10.3f}{found['off']:8.2f}",
        flush=True,
    )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clean")
    parser.add_argument("--other", nargs="*", default=[])
    parser.add_argument("--slides")
    parser.add_argument("--tile", type=int)
    parser.add_argument("--n", type=int, nargs="*", default=[50, 100, 300, 1000])
    parser.add_argument("--repeats", type=int, default=1000)
    parser.add_argument("--sets", nargs="*", help="only these, such as 'noise, sd 0.02', beside the clean one")
    parser.add_argument("--part", choices=PARTS, help="of RL2; by default the whole")
    parser.add_argument("--weights", default="lung-colon")
    arguments = parser.parse_args()
    encoder, part = LatentEncoder.load(arguments.weights), arguments.part
    images, _ = load(arguments.clean, None)
    sets = {"clean": encode(encoder, images, part)} | damaged(encoder, images, part)
    sets |= {source: encode(encoder, load(source, arguments.tile)[0], part) for source in arguments.other}
    generator, repeats = Generator().manual_seed(0), arguments.repeats
    outliers = sets["clean"].clone()
    outliers[::20] = sets["occlusion, fraction 0.05"][::20]
    apart = {"clean, 1 in 20 occluded": outliers}
    if arguments.sets is not None:
        sets = {name: z for name, z in sets.items() if name in ("clean", *arguments.sets)}
    print(f"{encoder.name} ({encoder.weights_id[:12]}), {part or 'whole'}, {repeats} repeats, seed 0; images a set:")
    print(", ".join(f"{name} {len(z)}" for name, z in sets.items()))
    for n in arguments.n:
        detectable, value = sizes(sets["clean"], n)
        print(f"\nclean, n = {n}: {detectable:.2f} is found with 80 % power, {value:.2f} is the value of no difference")
        print(f"\nn = {n}{'':37}truth  rejected   covered    spread     off")
        rows = []
        for name, z in (sets | apart).items():
            found = calibrate(z, z, n, repeats, generator)
            report(f"{name}: null", found, null=True)
            rows += [found] if name in sets else []
        pairs = [("clean", name) for name in sets if name != "clean"] + list(
            combinations([name for name in arguments.other if name in sets], 2)
        )
        shifted = []
        for one, two in pairs:
            shifted.append(calibrate(sets[one], sets[two], n, repeats, generator))
            report(f"{one} against {two}", shifted[-1], null=False)
        for name, z in apart.items():
            report(f"clean against {name}", calibrate(sets["clean"], z, n, repeats, generator), null=False)
        print(
            f"rejected {min(r['rejected'] for r in rows):.3f} to {max(r['rejected'] for r in rows):.3f}, mean "
            f"{sum(r['rejected'] for r in rows) / len(rows):.3f}; covered {min(r['covered'] for r in shifted):.3f} to "
            f"{max(r['covered'] for r in shifted):.3f}, mean {sum(r['covered'] for r in shifted) / len(shifted):.3f}; "
            f"more than two standard errors off {sum(abs(r['off']) > 2 for r in rows + shifted)} of "
            f"{len(rows + shifted)}; power {power(sets['clean'], n, repeats, generator):.3f} of clean"
        )
    if arguments.slides:
        images, files = load(arguments.slides, arguments.tile)
        z = encode(encoder, images, part)
        print(f"\n{arguments.slides}: {len(z)} tiles of {len(set(files))} files; a true null is rejected")
        for n in (10, 20, 40):
            tiles, grouped = clustered(z, files, n, repeats, generator)
            print(f"{n} files a side: {tiles:.3f} with tiles as units, {grouped:.3f} with files", flush=True)
        tiles, grouped = halves(z, files, repeats, generator)
        print(f"random halves: {tiles:.3f} with tiles as units, {grouped:.3f} with files")
        for largest in (10, 50, 100, 500):
            print(
                f"simulated groups, one of {largest} beside nine of 10: {dominated(largest, repeats):.3f}", flush=True
            )


if __name__ == "__main__":
    main()
