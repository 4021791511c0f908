"""How often content, look and the whole of RL2 are told from chance, beside FID and KID, on the same draws.

    python benchmarks/content.py TILES --kinds CSV|parent --organ colon [--n 40 100] [--fid DAMAGE ...] [--json]

Both sides are drawn with replacement from the same tiles, which are then the population, and the composition of both is
drawn at random: a multinomial of equal shares of the kinds. The generated side has another composition, its tiles are
damaged, or both. RL2 and its parts are tested as ``rl2 score`` does at 5 %; FID and KID against the 95 % quantile of
three times as many nulls.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent / "paper"))

from experiment import BATCH, progress, run
from inception import inception_features, load_inception
from power import frechet, linear

from torchmetrics_rl2 import LatentEncoder, RL2Error
from torchmetrics_rl2.auditing.draws import Population
from torchmetrics_rl2.distance import Kinds
from torchmetrics_rl2.distance.text import LEVEL
from torchmetrics_rl2.images import ImageReader, find_images, labels_of
from torchmetrics_rl2.pixels import LADDERS, degrade

DAMAGE = {
    "blur 0.5 px": ("gaussian blur", 0.5),
    "blur 1 px": ("gaussian blur", 1),
    "noise 2 %": ("gaussian noise", 0.02),
    "noise 5 %": ("gaussian noise", 0.05),
    "JPEG 50": ("jpeg", 50),
    "eosin, +1/2 octave": ("eosin", 0.5),
    "eosin, -1/2 octave": ("eosin", -0.5),
    "hematoxylin, +1/2 octave": ("hematoxylin", 0.5),
    "white balance, +1/2 octave": ("white balance", 0.5),
    "white balance, -1/2 octave": ("white balance", -0.5),
    "rectangles 5 %": ("rectangles", 0.05),
}
BOTH = "hematoxylin, +1/2 octave"
PARTS = ("content", "look", "whole")
PEERS = ("KID", "FID")
NULLS = 3
Shares = NDArray[np.float64]


def severity_of(ladder: str, amount: float) -> float:
    """The severity at which a ladder has this amount."""
    signs = (1, -1) if LADDERS[ladder].signed else (1,)
    severities = [sign * i / 1000 for i in range(1, 1001) for sign in signs]
    return min(severities, key=lambda severity: abs(LADDERS[ladder].amount(severity) - amount))


def read_kinds(tiles: Path, how: str) -> tuple[Tensor, NDArray[np.str_]]:
    """Images ``(N, 3, H, W)`` of one size, and the kind of each."""
    paths = find_images(tiles)
    labels = labels_of(how, paths, tiles if tiles.is_dir() else Path(), "kind")
    batches = list(ImageReader(batch_size=BATCH).read(paths))
    kinds = np.array([labels[path] for batch in batches for path in batch.paths])
    return torch.cat([batch.images for batch in batches]), kinds


def damaged(clean: Tensor, name: str) -> Tensor:
    """Images under one of the kinds of damage; without a name as they are."""
    if not name:
        return clean
    ladder, amount = DAMAGE[name]
    return degrade(clean, ladder, severity_of(ladder, amount))


def encode_all(encoder: LatentEncoder, clean: Tensor) -> dict[str, Tensor]:
    """Latents of clean images, under the empty name, and of damaged ones."""
    found = {}
    for name in ("", *DAMAGE):
        parts = progress(damaged(clean, name).split(BATCH), f"{name or 'clean'}, batches encoded")
        found[name] = torch.cat([encoder(part) for part in parts])
    return found


def compositions(names: Sequence[str], organ: str) -> dict[str, Shares]:
    """Shares of the kinds in the generated set, by what is wrong with them."""
    equal = np.full(len(names), 1 / len(names))
    inside = np.array([organ in name for name in names])
    if inside.all() or not inside.any():
        raise RL2Error(f"--organ {organ} is part of the name of all kinds or of none: {', '.join(names)}.")

    def tilted(share: float) -> Shares:
        return np.where(inside, share / inside.sum(), (1 - share) / (~inside).sum())

    found = {"nothing": equal, f"only {organ}": tilted(1.0), f"{organ} {inside.mean():.0%} to 60 %": tilted(0.6)}
    for k, name in enumerate(names):
        without = np.where(np.arange(len(names)) == k, 0, 1 / (len(names) - 1))
        found[f"no {name}"] = without
    return found


def draw(rows: Sequence[NDArray[np.int64]], shares: Shares, n: int, draws: np.random.Generator) -> list[int]:
    """Rows of n tiles of a random composition, with replacement."""
    counts = draws.multinomial(n, shares)
    return [int(row) for own, count in zip(rows, counts, strict=True) for row in draws.choice(own, count)]


def rejected(
    kinds: Kinds,
    latents: Mapping[str, Tensor],
    features: Mapping[str, Tensor],
    rows: Sequence[NDArray[np.int64]],
    cells: Mapping[str, tuple[str, Shares]],
    n: int,
    repeats: int,
) -> dict[str, dict[str, float]]:
    """Share of draws in which each distance is told from chance, by what is wrong with the generated set."""
    equal, limits, found = next(iter(cells.values()))[1], dict[str, float](), {}
    for cell, (damage, shares) in progress(list(cells.items()), f"n = {n}, cells"):
        draws = np.random.default_rng([n, 0])
        count = repeats * (1 if found or not features else NULLS)
        pairs = [(draw(rows, equal, n, draws), draw(rows, shares, n, draws)) for _ in range(count)]
        real, fake = (np.array(side) for side in zip(*pairs, strict=True))
        fake += len(latents[""])
        tests = Population(torch.cat([latents[""], latents[damage]]), kinds).tests(real[:repeats], fake[:repeats])
        found[cell] = {name: float((tests.p_values[name] < LEVEL).mean()) for name in PARTS}
        if damage in features:
            both = torch.cat([features[""], features[damage]])
            values = [peers(both[np.concatenate(sides)], n) for sides in zip(real, fake, strict=True)]
            for name, column in zip(PEERS, np.array(values).T, strict=True):
                limit = limits.setdefault(name, float(np.quantile(column, 1 - LEVEL)))
                found[cell][name] = float((column > limit).mean())
    return found


def peers(features: Tensor, n: int) -> tuple[float, float]:
    """KID and FID of the first n features from the others."""
    gram, sides = features @ features.T, (torch.arange(n), torch.arange(n, len(features)))
    return float(linear((gram / features.shape[1] + 1) ** 3, *sides)), float(frechet(gram, *sides))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tiles", help="tiles that took no part, a source of rl2 score")
    parser.add_argument("--kinds", required=True, metavar="CSV|parent", help="the kind of each, as of rl2 fit")
    parser.add_argument("--organ", required=True, help="kinds whose names contain this are one organ")
    parser.add_argument("--weights", default="lung-colon")
    parser.add_argument("--n", type=int, nargs="+", default=[40, 100], help="tiles a side")
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--fid", nargs="*", metavar="DAMAGE", help="KID and FID too, of compositions and such damage")
    parser.add_argument("--inception", metavar="DEFAULT_1.PT")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    encoder = LatentEncoder.load(arguments.weights)
    clean, kinds = read_kinds(Path(arguments.tiles), arguments.kinds)
    names = sorted(set(kinds.tolist()))
    rows = [np.flatnonzero(kinds == name) for name in names]
    network = load_inception(arguments.inception, encoder.device) if arguments.fid is not None else None
    latents, features = encode_all(encoder, clean), {}
    for name in ("", *arguments.fid) if network else ():
        features[name] = inception_features(network, damaged(clean, name), encoder.device, name or "clean")
    mixtures = compositions(names, arguments.organ)
    cells = {name: ("", shares) for name, shares in mixtures.items()}
    cells |= {name: (name, mixtures["nothing"]) for name in DAMAGE}
    tilted = list(mixtures)[2]
    cells |= {f"{tilted}, {name}": (name, mixtures[tilted]) for name in DAMAGE if name == BOTH}
    if encoder.kinds is None:
        raise RL2Error(f"{encoder.name} has no kinds of tissue.")
    found = {n: rejected(encoder.kinds, latents, features, rows, cells, n, arguments.repeats) for n in arguments.n}
    if arguments.json:
        described = {"weights": encoder.name, "weights_id": encoder.weights_id, "tiles": len(clean)}
        print(json.dumps(described | {"repeats": arguments.repeats, "rejected": found}, indent=1))
        return
    print(f"{encoder.name} ({encoder.weights_id[:12]}), {len(clean)} tiles, {arguments.repeats} draws a cell")
    for n, table in found.items():
        columns = list(next(iter(table.values())))
        print(f"\n{f'n = {n}, wrong:':44}" + "".join(f"{name:>9}" for name in columns))
        for cell, shares in table.items():
            print(f"{cell:44}" + "".join(f"{shares[name]:9.2f}" if name in shares else f"{'':9}" for name in columns))


if __name__ == "__main__":
    run(main)
