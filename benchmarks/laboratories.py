"""How well weights see damage and tissue in real images of laboratories, most of which their backbone has not met.

    python benchmarks/laboratories.py MANY_LABS LC25000 --weights histology [--sets SET ...] [--also NAME=SOURCE ...]

For each data set of ``recipes/many_labs.csv``, for LC25000, and for other images, cut into tiles of 224 px:

- ``fit``: one Gaussian with Ledoit-Wolf covariance, fitted to features of 64 patches; mean AUROC by family of damage of
  48 others, of other images or groups, at the severities that a person clearly sees. Beside it the fifteen hand-crafted
  statistics, standardized and as they are, the better of the two.
- ``probe``: balanced accuracy of a linear probe of the kinds that the set has labels of; five folds of images, or of
  groups where they are known, as many folds as groups where these are fewer.
- ``louder``: how far each visible damage moves the mean latent, over how far that of the clean patches lies from the
  mean of all other sets; the share of damage that moves it further, and the median ratio.
- ``regions``: of sets with two groups or more of 24 patches, such as slides or patients: the median debiased RL2 of one
  group from another, and that of a group under blur of 1 px, noise of 5 % and JPEG 50 from itself.

About two minutes a set on two CPU cores. ``--json`` prints all numbers.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import mean, median

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1] / "recipes"))

import lc25000
from many_labs import lab_images, locate, read
from torchmetrics_rl2 import LatentEncoder
from torchmetrics_rl2.functional import resnet_l2
from torchmetrics_rl2.images import ImageReader, find_images
from torchmetrics_rl2.images.sampling import evenly
from torchmetrics_rl2.networks import RealNVP
from torchmetrics_rl2.networks.gaussian import Gaussian
from torchmetrics_rl2.pixels import LADDERS, degrade, handcrafted_statistics

JUDGED, PX = 48, 224
FAMILIES = tuple(dict.fromkeys(ladder.family for ladder in LADDERS.values()))
DAMAGE = [
    (name, sign * ladder.visible) for name, ladder in LADDERS.items() for sign in ((1, -1) if ladder.signed else (1,))
]
MODERATE = [("gaussian blur", 1 / 4), ("gaussian noise", 0.05 / 0.4), ("jpeg", 50 / 95)]
OF_GROUP, MIN_OF_GROUP = 40, 24
HANDCRAFTED = "hand-crafted"
NUMBERS = ("probe", "foreign", "louder", "ratio", "regions", "damage")
PROBED = {"crc_val_he_7k_jpg", "ebhi_seg", "osteosarcoma_utsw"}


@dataclass(frozen=True)
class Patch:
    """Pixels, what must stay together, the image, and the kind of tissue."""

    pixels: Tensor
    unit: str
    image: str
    kind: str


def patches_of(name: str, many_labs: Path, lc25000_folder: Path) -> list[Patch]:
    """All patches of a set, tiles of 224 px or whole images that are smaller."""
    if name == "lc25000":
        tiles = lc25000.tiles(["report"], variants=[0])
        paths = lc25000.locate(lc25000_folder, tiles)
        return [Patch(lc25000.read(p), t.source_tile_id, t.name, t.kind) for t, p in zip(tiles, paths, strict=True)]
    rows, found = [row for row in lab_images(["fit", "stop", "reference"]) if row.set == name], []
    for row, path in zip(rows, locate(many_labs, rows), strict=True):
        image = read(path)
        px = min(PX, row.width, row.height)
        for y in range(row.height % px // 2, row.height - px + 1, px):
            for x in range(row.width % px // 2, row.width - px + 1, px):
                found.append(Patch(image[:, y : y + px, x : x + px], row.group or row.name, row.name, row.kind))
    return found


def tiles_of(source: str) -> list[Patch]:
    """All tiles of other images; those of one file stay together."""
    batches = ImageReader(tile=PX).read(find_images(source))
    return [
        Patch(pixels, str(path), str(path), "")
        for batch in batches
        for pixels, path in zip(batch.images, batch.paths, strict=True)
    ]


def halves(patches: Sequence[Patch], fit: int) -> tuple[list[Patch], list[Patch]]:
    """So many patches to fit and others to judge, of other groups or images."""
    units = list(dict.fromkeys(patch.unit for patch in patches))
    first = set(units[::2])
    sides = [patch for patch in patches if patch.unit in first], [p for p in patches if p.unit not in first]
    return evenly(sides[0], fit), evenly(sides[1], JUDGED)


def stacked(patches: Sequence[Patch]) -> Tensor:
    """Their pixels, ``(N, 3, H, W)``."""
    return torch.stack([patch.pixels for patch in patches])


def features(encoder: LatentEncoder | None, images: Tensor) -> Tensor:
    """Features of uint8 images; hand-crafted statistics without an encoder."""
    parts = images.split(32)
    if encoder is None:
        return torch.cat([handcrafted_statistics(part.float() / 255) for part in parts])
    return torch.cat([encoder.features(part) for part in parts])


def shrunk(fitted: Tensor) -> Callable[[Tensor], Tensor]:
    """Log-likelihood under one Gaussian of the features as they are."""
    flow = RealNVP(fitted.shape[1], layers=0).requires_grad_(False)
    flow.linear.adapt(fitted)
    return flow.log_prob


def aurocs(
    log_prob: Callable[[Tensor], Tensor], clean: Tensor, damaged: dict[tuple[str, float], Tensor]
) -> list[float]:
    """Mean AUROC of each family."""
    scores, found = -log_prob(clean).detach().numpy(), {family: list[float]() for family in FAMILIES}
    for (name, _), numbers in damaged.items():
        both = np.concatenate([scores, -log_prob(numbers).detach().numpy()])
        labels = np.repeat([0, 1], [len(scores), len(numbers)])
        found[LADDERS[name].family].append(float(roc_auc_score(labels, both)))
    return [mean(found[family]) for family in FAMILIES]


def probe(encoder: LatentEncoder | None, patches: Sequence[Patch]) -> float:
    """Balanced accuracy of five folds of images, from the mean features of each image; the mean of four deals."""
    names = list(dict.fromkeys(patch.image for patch in patches))
    numbers = features(encoder, stacked(patches))
    rows = [[i for i, patch in enumerate(patches) if patch.image == name] for name in names]
    x = torch.stack([numbers[own].mean(0) for own in rows]).numpy()
    y = np.array([patches[own[0]].kind for own in rows])
    units = np.array([patches[own[0]].unit for own in rows])
    common = np.isin(y, [kind for kind in set(y) if (y == kind).sum() >= 5])
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000, class_weight="balanced"))
    found, count = [], min(5, len(set(units[common])))
    for seed in range(4):
        folds = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
        found += cross_val_score(
            model, x[common], y[common], groups=units[common], cv=folds, scoring="balanced_accuracy"
        ).tolist()
    return float(np.mean(found))


def regions(encoder: LatentEncoder, patches: Sequence[Patch]) -> dict[str, float]:
    """Distance of a group from another, and of a group that is damaged from itself; nothing of a single group."""
    groups: dict[str, list[Patch]] = {}
    for patch in patches:
        groups.setdefault(patch.unit, []).append(patch)
    pixels = [stacked(evenly(own, OF_GROUP)) for own in groups.values() if len(own) >= MIN_OF_GROUP]
    if len(pixels) < 2:
        return {}
    clean = [encoder(images) for images in pixels]
    damaged = [
        float(resnet_l2(own, encoder(degrade(images, *damage)), debiased=True))
        for own, images in zip(clean, pixels, strict=True)
        for damage in MODERATE
    ]
    between = [float(resnet_l2(one, other, debiased=True)) for one, other in combinations(clean, 2)]
    return {"regions": median(between), "damage": median(damaged)}


def main() -> None:
    """Judge each encoder on each set, and print tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("many_labs", type=Path, help="a folder with a folder for each set of many_labs.csv")
    parser.add_argument("lc25000", type=Path, help="the LC25000 images at 224 px")
    parser.add_argument("--weights", action="append", required=True, help="names or paths")
    parser.add_argument("--sets", nargs="*", help="all by default; none without names")
    parser.add_argument("--also", action="append", default=[], metavar="NAME=SOURCE", help="images of elsewhere")
    parser.add_argument("--fit", type=int, default=64, help="patches that the Gaussians are fitted to")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    encoders: dict[str, LatentEncoder | None] = {name: LatentEncoder.load(name) for name in arguments.weights}
    encoders[HANDCRAFTED] = None
    every = [*dict.fromkeys(row.set for row in lab_images(["fit"])), "lc25000"]
    sets = [name for name in every if name != "openslide_OS-1_crop"] if arguments.sets is None else arguments.sets
    others = dict(one.partition("=")[::2] for one in arguments.also)
    if not all(others.values()) or {*others} & {*sets} or not [*sets, *others]:
        parser.error("Give --sets with names, or --also NAME=SOURCE with names that are no sets.")
    found: dict[str, dict[str, dict[str, object]]] = {name: {} for name in encoders}
    latents: dict[str, dict[str, tuple[Tensor, list[Tensor]]]] = {name: {} for name in arguments.weights}
    for name in [*sets, *others]:
        given = others.get(name)
        patches = patches_of(name, arguments.many_labs, arguments.lc25000) if given is None else tiles_of(given)
        fit, judged = halves(patches, arguments.fit)
        images = stacked(judged)
        seen = {damage: degrade(images, *damage) for damage in DAMAGE}
        for label, encoder in encoders.items():
            fitted, clean = features(encoder, stacked(fit)), features(encoder, images)
            damaged = {damage: features(encoder, pixels) for damage, pixels in seen.items()}
            ways = [shrunk(fitted), Gaussian(fitted).log_prob] if encoder is None else [shrunk(fitted)]
            row: dict[str, object] = {"fit": max((aurocs(way, clean, damaged) for way in ways), key=mean)}
            if name in PROBED:
                row["probe"] = probe(encoder, patches)
            found[label][name] = row
            if encoder:
                row |= regions(encoder, patches)
                both = encoder.flow(torch.cat([fitted, clean]))[0].mean(0)
                base = encoder.flow(clean)[0].mean(0)
                latents[label][name] = both, [encoder.flow(x)[0].mean(0) - base for x in damaged.values()]
        seen_so_far = {label: by_set[name] for label, by_set in found.items()}
        print(f"{name}: {len(fit)} fit, {len(judged)} judged, {json.dumps(seen_so_far)}", file=sys.stderr, flush=True)
    for label, by_set in latents.items():
        for name, (own, moved) in by_set.items():
            rest = [other for key, (other, _) in by_set.items() if key != name]
            if rest:
                apart = float((own - torch.stack(rest).mean(0)).norm())
                ratios = [float(shift.norm()) / apart for shift in moved]
                found[label][name] |= {
                    "foreign": apart,
                    "louder": mean(ratio > 1 for ratio in ratios),
                    "ratio": median(ratios),
                }
    print(json.dumps(found, indent=2) if arguments.json else text(found))


def text(found: dict[str, dict[str, dict[str, object]]]) -> str:
    """Tables of all weights."""
    lines = []
    for label, by_set in found.items():
        lines += [f"## {label}", f"| set | all | {' | '.join(FAMILIES)} | {' | '.join(NUMBERS)} |"]
        lines += ["|" + "---|" * (len(FAMILIES) + 2 + len(NUMBERS))]
        for name, row in by_set.items():
            fit = row["fit"]
            assert isinstance(fit, list)
            others = [f"{row[key]:.2f}" if key in row else "" for key in NUMBERS]
            lines.append(f"| {name} | {' | '.join(f'{x:.3f}' for x in [mean(fit), *fit])} | {' | '.join(others)} |")
        every = np.array([row["fit"] for row in by_set.values()])
        means = " | ".join(f"{x:.3f}" for x in [every.mean(), *every.mean(0)])
        lines += [f"| mean | {means} {'| ' * len(NUMBERS)}|", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    with torch.no_grad():
        main()
