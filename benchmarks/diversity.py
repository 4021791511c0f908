"""How often a generator that repeats few images is noticed, and how often one that does not is blamed.

    python benchmarks/diversity.py LC25000 [--crops GLAS ...] [--n 50 100 200] [--draws 50] [--json]

Repeated are 5 to 40 tiles of LC25000 that no threshold was chosen on, each time changed a little in another way. Real
ones are other tiles. In other rows nothing is repeated more than among real tiles, but all of a side is changed alike,
of one kind, or has neighbors. ``--crops`` are folders of larger images, of which crops are more sets without repeats.
No network takes part.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor
from torchvision.transforms.v2.functional import jpeg, resized_crop, rotate

sys.path.insert(0, str(Path(__file__).parent / "paper"))
sys.path.insert(0, str(Path(__file__).parents[1] / "recipes"))

from experiment import BATCH, progress, run

from lc25000 import KINDS, NAMES, read_all, tiles
from torchmetrics_rl2.distance import DiversityResult, find_repeats
from torchmetrics_rl2.distance.diversity import has_contrast
from torchmetrics_rl2.distance.text import LEVEL
from torchmetrics_rl2.images import ImageReader, find_images
from torchmetrics_rl2.pixels import damage, thumbnails_of
from torchmetrics_rl2.pixels.batch import to_8_bit

SPLITS = ("stop", "reference", "report")
DISTINCT = (5, 10, 20, 40)
PART, OF_PART = 0.2, 10
REPEATED, VERSIONS = 60, 40
"""Tiles that are repeated, and how many changed versions of each there are to draw from."""

ONE_KIND, BLUR = 40, 1.5
CROP, OF_IMAGES = 224, 10
NULLS = 4
Draws = np.random.Generator
Rows = NDArray[np.int64]
Change = Callable[[Tensor, Draws], Tensor]
Row = dict[str, float]


def eight_bit(image: Tensor) -> Tensor:
    """Of a float image."""
    return to_8_bit(image).to(torch.uint8)


def turned(image: Tensor, draws: Draws) -> Tensor:
    """By a multiple of 90 degrees, and mirrored or not."""
    image = image.rot90(int(draws.integers(4)), (1, 2))
    return image.flip(2) if draws.integers(2) else image


def compressed(image: Tensor, draws: Draws) -> Tensor:
    """As JPEG of quality 60 to 90."""
    return jpeg(image, int(draws.integers(60, 91)))


def blurred(image: Tensor, draws: Draws) -> Tensor:
    """By up to 1 px."""
    return eight_bit(damage.gaussian_blur(image.float() / 255, float(draws.uniform(0.05, 1)), Generator()))


def noisy(image: Tensor, draws: Draws) -> Tensor:
    """By up to 3 %."""
    own = Generator().manual_seed(int(draws.integers(2**31)))
    return eight_bit(damage.gaussian_noise(image.float() / 255, float(draws.uniform(0.005, 0.03)), own))


def restained(image: Tensor, draws: Draws) -> Tensor:
    """Hematoxylin and eosin by up to a quarter of an octave each."""
    shares = image.float() / 255
    for stain in (0, 1):
        shares = damage.stain_gain(stain)(shares, float(draws.uniform(-0.25, 0.25)), Generator())
    return eight_bit(shares)


def all_of_these(image: Tensor, draws: Draws) -> Tensor:
    """One after the other."""
    for change in (turned, restained, blurred, noisy, compressed):
        image = change(image, draws)
    return image


def shifted(image: Tensor, draws: Draws) -> Tensor:
    """By up to a twentieth of the side in both directions; what comes in is the mirrored edge."""
    size, most = image.shape[-1], image.shape[-1] // 20
    down, right = draws.integers(2 * most + 1, size=2).tolist()
    return _padded(image, most)[:, down : down + size, right : right + size].to(torch.uint8)


def rotated(image: Tensor, draws: Draws) -> Tensor:
    """By up to 25 degrees; what comes in is the mirrored edge."""
    size, most = image.shape[-1], image.shape[-1] // 3
    found = rotate(_padded(image, most), float(draws.uniform(-25, 25)), interpolation=2)
    return found[:, most : most + size, most : most + size].round().to(torch.uint8)


def cut_anew(image: Tensor, draws: Draws) -> Tensor:
    """Four fifths of the side, from anywhere in it, enlarged."""
    size = image.shape[-1]
    part = 4 * size // 5
    top, left = draws.integers(size - part + 1, size=2).tolist()
    return resized_crop(image, top, left, part, part, [size, size], antialias=True)


def _padded(image: Tensor, by: int) -> Tensor:
    return torch.nn.functional.pad(image[None].float(), (by, by, by, by), mode="reflect")[0]


CHANGES: dict[str, Change] = {
    "exact": lambda image, _: image,
    "turned by 90 degrees and mirrored": turned,
    "JPEG 60 to 90": compressed,
    "blur of up to 1 px": blurred,
    "noise of up to 3 %": noisy,
    "stains, up to 1/4 octave": restained,
    "all of these": all_of_these,
    "shifted by up to 5 %": shifted,
    "rotated by up to 25 degrees": rotated,
    "cut anew, 4/5 of the side": cut_anew,
}


def thumbnails(images: Tensor) -> Tensor:
    """Of all images."""
    return torch.cat([thumbnails_of(batch) for batch in images.split(BATCH)])


def share(found: Sequence[DiversityResult], distinct: int | None = None) -> Row:
    """What is said of all draws, and how far the number of distinct images is off where it is known."""
    wrong = [abs(one.distinct / distinct - 1) for one in found] if distinct else []
    return {
        "noticed": float(np.mean([one.is_lost for one in found])),
        "p < .05": float(np.mean([one.p_value < LEVEL for one in found])),
        "repeated": float(np.mean([one.share for one in found])),
        "expected": float(np.mean([one.expected for one in found])),
        "distinct": float(np.median([one.distinct for one in found])),
        "number off by": float(np.median(wrong)) if distinct else np.nan,
    }


def repeats(images: Tensor, splits: NDArray[np.str_], sizes: Sequence[int], draws: int, seed: int) -> dict[str, Row]:
    """Rows of generators that repeat few of the tiles that no threshold was chosen on, always or in part."""
    random, table = np.random.default_rng(seed), {}
    clean, repeated = thumbnails(images), random.permutation(np.flatnonzero(splits == "report"))[:REPEATED]
    for name, change in CHANGES.items():
        made = [
            thumbnails(torch.stack([change(images[row], random) for _ in range(VERSIONS)]))
            for row in progress(repeated, f"{name}, tiles changed")
        ]
        for n, (distinct, part) in product(sizes, [*((distinct, 1.0) for distinct in DISTINCT), (OF_PART, PART)]):
            found, count = [], round(part * n)
            for _ in range(draws):
                own = random.permutation(len(repeated))[:distinct]
                others = random.permutation(np.setdiff1d(np.arange(len(images)), repeated[own]))
                fake = torch.stack([made[i][random.integers(VERSIONS)] for i in random.choice(own, count)])
                fake = torch.cat([fake, clean[others[n : 2 * n - count]]])
                found.append(find_repeats(fake, clean[others[:n]]))
            which = f"{n}" if part == 1 else f"{part:.0%} of {n}"
            table[f"{which} of {distinct} tiles, {name}"] = share(found, distinct + n - count)
    return table


def nulls(
    images: Tensor, kinds: NDArray[np.str_], splits: NDArray[np.str_], sizes: Sequence[int], draws: int, seed: int
) -> dict[str, Row]:
    """Rows of generators that repeat nothing more than real tiles do."""
    random, table, clean = np.random.default_rng(seed), {}, thumbnails(images)
    soft = thumbnails(torch.stack([eight_bit(damage.gaussian_blur(one / 255, BLUR, Generator())) for one in images]))
    copies = thumbnails(torch.stack([turned(one, random) for one in images]))

    def row(name: str, draw: Callable[[], tuple[Tensor, Tensor]]) -> None:
        table[name] = share([find_repeats(*draw()) for _ in range(draws)])

    def halves(fake: Tensor, n: int, rows: Rows) -> Callable[[], tuple[Tensor, Tensor]]:
        def draw() -> tuple[Tensor, Tensor]:
            a, b = np.split(random.permutation(rows)[: 2 * n], 2)
            return fake[a], clean[b]

        return draw

    def of_kind(kind: str) -> tuple[Tensor, Tensor]:
        rows = random.permutation(len(clean))
        own = rows[kinds[rows] == kind][:ONE_KIND]
        return clean[own], clean[rows[~np.isin(rows, own)][: len(own)]]

    def copied(n: int) -> tuple[Tensor, Tensor]:
        rows = random.permutation(len(clean))[:n]
        return copies[rows], clean[rows]

    def twins(n: int) -> tuple[Tensor, Tensor]:
        a, b = np.split(random.permutation(len(clean))[: 2 * (n // 2)], 2)
        return torch.cat([clean[a], copies[a]]), torch.cat([clean[b], copies[b]])

    every, kept = np.arange(len(clean)), np.flatnonzero(splits == "report")
    row(f"{len(kept) // 2} other tiles of those no threshold was chosen on", halves(clean, len(kept) // 2, kept))
    for n in sizes:
        row(f"{n} other tiles", halves(clean, n, every))
        row(f"{n} other tiles, all blurred by {BLUR} px", halves(soft, n, every))
        row(f"{n} tiles, the real ones turned", lambda n=n: copied(n))
        row(f"{n // 2} tiles with a turned copy each, on both sides", lambda n=n: twins(n))
    for kind in KINDS:
        row(f"{ONE_KIND} tiles, all {NAMES[kind]}", lambda kind=kind: of_kind(kind))
    return table


def of_crops(folder: str, sizes: Sequence[int], draws: int, seed: int) -> dict[str, Row]:
    """Rows of crops of large images, none repeated, with images as groups and without groups."""
    paths = find_images(folder)
    batches = list(ImageReader(tile=CROP, batch_size=BATCH).read(paths))
    numbers = {path: i for i, path in enumerate(paths)}
    of = np.array([numbers[path] for batch in batches for path in batch.paths])
    found, random, table = thumbnails(torch.cat([batch.images for batch in batches])), np.random.default_rng(seed), {}
    rows = has_contrast(found).numpy()
    found, of = found[rows], of[rows]

    def draw(n: int, few: int | None) -> tuple[Rows, Rows]:
        images = random.permutation(of.max() + 1)
        own = images[: few or len(images) // 2]
        sides = np.isin(of, own), np.isin(of, images[len(own) :])
        a, b = (random.permutation(np.flatnonzero(side))[:n] for side in sides)
        return a, b

    for n in sizes:
        results: dict[str, list[DiversityResult]] = {"images as groups": [], "no groups": []}
        few = []
        for _ in range(draws):
            a, b = draw(n, None)
            named = {"fake_groups": [str(one) for one in of[a]], "real_groups": [str(one) for one in of[b]]}
            results["images as groups"].append(find_repeats(found[a], found[b], **named))
            results["no groups"].append(find_repeats(found[a], found[b]))
            a, b = draw(n, OF_IMAGES)
            few.append(find_repeats(found[a], found[b]))
        name = Path(folder).name
        table |= {f"{name}, up to {n} crops, {how}": share(results[how]) for how in results}
        table[f"{name}, up to {n} crops of {OF_IMAGES} images, no groups"] = share(few)
    light, few = np.argsort(found.mean((1, 2)).numpy(), kind="stable")[: len(found) // 4], []
    for _ in range(draws):
        a = random.permutation(light)[: len(light) // 2]
        b = random.permutation(np.setdiff1d(np.arange(len(found)), a))[: len(a)]
        few.append(find_repeats(found[a], found[b]))
    table[f"{name}, {len(a)} of the lightest quarter of all crops, no groups"] = share(few)
    return table


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the LC25000 images, in any folder layout")
    parser.add_argument("--crops", nargs="+", default=[], help="folders of images of which crops are taken")
    parser.add_argument("--n", type=int, nargs="+", default=[50, 100, 200], help="images a side")
    parser.add_argument("--draws", type=int, default=50, help=f"of each row; {NULLS} times as many without repeats")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    wanted = tiles(SPLITS, variants=[0])
    images = read_all(arguments.folder, wanted)
    kinds, splits = (np.array([getattr(tile, name) for tile in wanted]) for name in ("kind", "split"))
    sizes, draws, seed = arguments.n, arguments.draws, arguments.seed
    table = nulls(images, kinds, splits, sizes, NULLS * draws, seed)
    for folder in arguments.crops:
        table |= of_crops(folder, sizes, NULLS * draws, seed)
    table |= repeats(images, splits, sizes, draws, seed)
    if arguments.json:
        print(json.dumps({"draws": draws, "seed": seed, "rows": table}, indent=1))
        return
    print(f"{draws} draws a row, {NULLS * draws} of those without repeats, seed {seed}")
    print(f"{'generated side':64}" + "".join(f"{name:>15}" for name in next(iter(table.values()))))
    for name, row in table.items():
        print(f"{name:64}" + "".join(f"{'' if np.isnan(value) else f'{value:.3f}':>15}" for value in row.values()))


if __name__ == "__main__":
    run(main)
