"""Which copies of training tiles are found among generated ones, and how often tiles that are none are called copies.

    python benchmarks/copies.py LC25000 [--glas GLAS] [--only CHANGE ...] [--draws 20] [--json]

Training, held-out and generated tiles are other source tiles of LC25000, none of which fitted the weights. A share of
the generated ones is replaced by copies of training tiles, changed in one way. In other rows all generated tiles are
changed alike and none is a copy. With ``--glas``, crops of other images of GlaS are a second set without copies, with
images as groups.
"""

import argparse
import io
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image

sys.path.insert(0, str(Path(__file__).parent / "paper"))
sys.path.insert(0, str(Path(__file__).parents[1] / "recipes"))

from experiment import BATCH, progress, run

from lc25000 import KINDS, NAMES, read_all, tiles
from torchmetrics_rl2 import LatentEncoder
from torchmetrics_rl2.distance import CopiesResult, find_copies
from torchmetrics_rl2.distance.text import LEVEL
from torchmetrics_rl2.images import ImageReader, find_images
from torchmetrics_rl2.pixels import LADDERS, degrade
from torchmetrics_rl2.scoring.copies import whitened
from torchmetrics_rl2.scoring.encoding import views_of

SPLITS = ("stop", "reference", "report")
TRAIN, HELD_OUT, FAKE, ONE_KIND = 150, 100, 100, 40
CROP = 224
SHARES = (0.05, 0.2, 1.0)
NULLS = 5
Rows = NDArray[np.int64]
Views = list[Tensor]
Change = Callable[[Tensor], Tensor]


def damage(ladder: str, amount: float) -> Change:
    """A ladder of damage at the severity that has this amount."""
    signs = (1, -1) if LADDERS[ladder].signed else (1,)
    severities = [sign * i / 1000 for i in range(1, 1001) for sign in signs]
    severity = min(severities, key=lambda one: abs(LADDERS[ladder].amount(one) - amount))
    return lambda images: degrade(images, ladder, severity)


def compressed(quality: int) -> Change:
    """As JPEG files."""

    def change(images: Tensor) -> Tensor:
        found = []
        for image in images:
            buffer = io.BytesIO()
            to_pil_image(image).save(buffer, "JPEG", quality=quality)
            found.append(pil_to_tensor(Image.open(buffer)))
        return torch.stack(found)

    return change


def shifted(images: Tensor) -> Tensor:
    """Moved by a tenth of the side; what comes in is the mirrored edge."""
    by = images.shape[-1] // 10
    padded = torch.nn.functional.pad(images.float(), (by, 0, by, 0), mode="reflect")
    return padded[..., : images.shape[-2], : images.shape[-1]].to(torch.uint8)


def mixed(images: Tensor) -> Tensor:
    """Each with the next one, half and half."""
    return ((images.float() + images.float().roll(-1, 0)) / 2).round().to(torch.uint8)


CHANGES: dict[str, Change] = {
    "exact": lambda images: images,
    "JPEG 75": compressed(75),
    "JPEG 40": compressed(40),
    "mirrored": lambda images: images.flip(3),
    "rotated by 90 degrees": lambda images: images.rot90(1, (2, 3)),
    "blur of 0.5 px": damage("gaussian blur", 0.5),
    "blur of 1 px": damage("gaussian blur", 1),
    "blur of 2 px": damage("gaussian blur", 2),
    "noise of 2 %": damage("gaussian noise", 0.02),
    "noise of 5 %": damage("gaussian noise", 0.05),
    "eosin, +1/2 octave": damage("eosin", 0.5),
    "hematoxylin, +1/2 octave": damage("hematoxylin", 0.5),
    "shifted by 10 %": shifted,
    "two tiles, half and half": mixed,
}
OTHERS = ("blur of 1 px", "hematoxylin, +1/2 octave")


def encode(encoder: LatentEncoder, images: Tensor, name: str) -> Views:
    """Latents of all images in all views."""
    batches = [views_of(encoder, batch) for batch in progress(images.split(BATCH), f"{name}, batches encoded")]
    return [torch.cat(view) for view in zip(*batches, strict=True)]


def at(views: Views, rows: Rows) -> Views:
    """Some of the images."""
    return [view[rows] for view in views]


def search(train: Views, held_out: Views, fake: Views, **groups: list[str]) -> CopiesResult:
    """As ``score(held_out=)`` does it."""
    views = whitened(train, held_out, fake)
    return find_copies(views[2], views[0], views[1], **groups)


def summary(found: list[tuple[CopiesResult, int]]) -> dict[str, float]:
    """Means over draws of results whose first generated images are copies, so many."""
    cells = []
    for result, count in found:
        called = [int(pair.image) for pair in result.pairs if pair.is_copy]
        right, nulls = sum(one < count for one in called), result.n_fake - count
        wrong = len(called) - right
        cells.append(
            (
                right / count if count else np.nan,
                wrong / nulls if nulls else np.nan,
                wrong / max(len(called), 1),
                float(result.count > 0),
                float(result.p_value < LEVEL),
            )
        )
    names = ("found", "called wrongly", "false discoveries", "any", "p < .05")
    return {name: float(value) for name, value in zip(names, np.mean(cells, 0), strict=True)}


def measured(
    encoder: LatentEncoder, folder: Path, draws: int, seed: int, only: Sequence[str]
) -> dict[str, dict[str, float]]:
    """All rows of the table of LC25000, or those of some changes."""
    wanted = tiles(SPLITS, variants=[0])
    clean = read_all(folder, wanted)
    random = np.random.default_rng(seed)
    order = random.permutation(len(clean))
    train, others = order[:TRAIN], order[TRAIN:]
    plain = encode(encoder, clean, "tiles")
    table = {}

    def nulls(name: str, generated: Views, kind: str = "") -> None:
        found, kinds = [], np.array([tile.kind for tile in wanted])
        for _ in range(NULLS * draws):
            rows = random.permutation(len(clean))
            own = rows[kinds[rows] == kind][:ONE_KIND] if kind else rows[:FAKE]
            a, b = np.split(rows[~np.isin(rows, own)][: TRAIN + HELD_OUT], [TRAIN])
            found.append((search(at(plain, a), at(plain, b), at(generated, own)), 0))
        table[name] = summary(found)

    def copies(name: str, changed: Views) -> None:
        for share in SHARES:
            count, found = round(share * FAKE), []
            for _ in range(draws):
                rows = random.permutation(others)
                own = at(changed, random.permutation(len(changed[0]))[:count])
                rest = at(plain, rows[HELD_OUT : HELD_OUT + FAKE - len(own[0])])
                fake = [torch.cat(sides) for sides in zip(own, rest, strict=True)]
                found.append((search(at(plain, train), at(plain, rows[:HELD_OUT]), fake), len(own[0])))
            table[f"{share:.0%} {name}"] = summary(found)

    for name in only or CHANGES:
        copies(name, encode(encoder, CHANGES[name](clean[train]), name))
    if only:
        return table
    nulls("none", plain)
    for kind in KINDS:
        nulls(f"none, all {NAMES[kind]}", plain, kind)
    for name in OTHERS:
        nulls(f"none, all with {name}", encode(encoder, CHANGES[name](clean), f"all, {name}"))
    ids = {wanted[row].source_tile_id for row in train}
    again = {tile.source_tile_id: tile for tile in tiles(SPLITS, variants=[1, 2, 3]) if tile.source_tile_id in ids}
    name = "another file of the tile"
    copies(name, encode(encoder, read_all(folder, list(again.values())), name))
    return table


def crops(folder: str) -> tuple[Tensor, NDArray[np.int64]]:
    """Tiles of all images of a source, and the number of the image of each."""
    paths = find_images(folder)
    batches = list(ImageReader(tile=CROP, batch_size=BATCH).read(paths))
    numbers = {path: i for i, path in enumerate(paths)}
    of = np.array([numbers[path] for batch in batches for path in batch.paths])
    return torch.cat([batch.images for batch in batches]), of


def of_crops(encoder: LatentEncoder, folder: str, draws: int, seed: int) -> dict[str, dict[str, float]]:
    """Rows of crops of other images, none a copy, with images as groups and without groups."""
    images, of = crops(folder)
    plain, random = encode(encoder, images, "crops"), np.random.default_rng(seed)
    found: Mapping[str, list[tuple[CopiesResult, int]]] = {"groups": [], "no groups": []}
    for _ in range(draws):
        parts = np.array_split(random.permutation(of.max() + 1), 3)
        sides = [np.flatnonzero(np.isin(of, part)) for part in parts]
        views = [at(plain, rows) for rows in sides]
        names = [[str(one) for one in of[rows]] for rows in sides]
        groups = {"train_groups": names[0], "held_out_groups": names[1], "fake_groups": names[2]}
        found["groups"].append((search(*views, **groups), 0))
        found["no groups"].append((search(*views), 0))
    return {f"none, crops of other images, {name}": summary(results) for name, results in found.items()}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the LC25000 images, in any folder layout")
    parser.add_argument("--glas", help="images of which crops are taken, a source of rl2 score")
    parser.add_argument("--weights", default="histology")
    parser.add_argument("--only", nargs="+", choices=CHANGES, default=(), help="copies changed so, and nothing else")
    parser.add_argument("--draws", type=int, default=20, help="of each row; five times as many without copies")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    encoder = LatentEncoder.load(arguments.weights)
    table = measured(encoder, arguments.folder, arguments.draws, arguments.seed, arguments.only)
    if arguments.glas:
        table |= of_crops(encoder, arguments.glas, 5 * arguments.draws, arguments.seed)
    if arguments.json:
        print(json.dumps({"weights": encoder.name, "draws": arguments.draws, "rows": table}, indent=1))
        return
    print(f"{encoder.name} ({encoder.weights_id[:12]}), {arguments.draws} draws a row, seed {arguments.seed}")
    print(f"{'copies among the generated tiles':48}" + "".join(f"{name:>19}" for name in next(iter(table.values()))))
    for name, row in table.items():
        print(f"{name:48}" + "".join(f"{'' if np.isnan(value) else f'{value:.3f}':>19}" for value in row.values()))


if __name__ == "__main__":
    run(main)
