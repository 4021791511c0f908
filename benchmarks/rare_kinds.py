"""What a screen loses of good patches of a rare kind, and catches of damaged ones, by kinds of tissue and without.

    python benchmarks/rare_kinds.py TILES --kinds CSV|parent [--fit] [--rare 6] [--n 60] [--repeats 20] [--tile PX]

Files are halved at random. Of one half, patches calibrate: --rare of one kind and --n in all, or all there are. Those
of the other half are judged. With --fit they are thirds, and the first one fits whitening and kinds of the flow, by the
kinds in the table, to features of the weights. Without kinds, the same calibration has all patches in one. Shares of
good patches that are lost and of damaged ones that are caught are means over draws; the change between the two ways
has its standard error.
"""

import argparse
import json
import math
import sys
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, stdev

import torch
from torch import Generator, Tensor

sys.path.insert(0, str(Path(__file__).parent / "paper"))

from experiment import progress, run

from torchmetrics_rl2 import Calibration, LatentEncoder, RL2Error
from torchmetrics_rl2.auditing import auroc
from torchmetrics_rl2.distance.kinds import Kinds
from torchmetrics_rl2.images import ImageReader, find_images, labels_of
from torchmetrics_rl2.networks import RealNVP
from torchmetrics_rl2.pixels import Stain, degrade
from torchmetrics_rl2.pixels.patch_statistics import patch_statistics
from torchmetrics_rl2.quality.measures import MIN_TISSUE, shares

DAMAGE = {
    "blur 1 px": ("gaussian blur", 0.25),
    "blur 2 px": ("gaussian blur", 0.5),
    "noise 5 %": ("gaussian noise", 0.125),
    "JPEG 30": ("jpeg", 70 / 95),
    "pen": ("pen", 0.12),
}
RATES = (0.05, 0.1)
WAYS = ("without kinds", "with kinds")
STAIN = Stain((0.0, 0.0, 0.0), (0.4, 0.6, 0.2))
Row = dict[str, float]


@dataclass(frozen=True)
class Patches:
    """Features and simple statistics of patches, clean under the empty name and damaged; kind and file of each."""

    features: Mapping[str, Tensor]
    statistics: Mapping[str, Tensor]
    kinds: Tensor
    files: Tensor
    names: list[str]


def read(tiles: Path, how: str, tile: int | None, encoder: LatentEncoder) -> Patches:
    """Patches with tissue, measured."""
    paths = find_images(tiles)
    labels = labels_of(how, paths, tiles if tiles.is_dir() else Path(), "kind")
    names, rows = sorted(set(labels.values())), {path: i for i, path in enumerate(paths)}
    features, statistics = defaultdict(list), defaultdict(list)
    kinds, files = list[int](), list[int]()
    for batch in progress(list(ImageReader(tile).read(paths)), "batches measured"):
        tissue = torch.nonzero(shares(batch.images).tissue >= MIN_TISSUE).flatten()
        images = batch.images[tissue]
        kinds += [names.index(labels[batch.paths[i]]) for i in tissue.tolist()]
        files += [rows[batch.paths[i]] for i in tissue.tolist()]
        for name in ("", *DAMAGE) if len(images) else ():
            damaged = degrade(images, *DAMAGE[name]) if name else images
            features[name].append(encoder.features(damaged))
            statistics[name].append(patch_statistics(damaged.float() / 255))
    joined = [{name: torch.cat(parts) for name, parts in found.items()} for found in (features, statistics)]
    return Patches(*joined, torch.tensor(kinds), torch.tensor(files), names)


def fitted(features: Tensor, kinds: Tensor) -> tuple[RealNVP, Kinds]:
    """A flow without couplings, and its kinds, from features and the kind of each."""
    present, rows = kinds.unique(return_inverse=True)
    flow = RealNVP(features.shape[1], layers=0, kinds=len(present)).requires_grad_(False)
    flow.adapt(features, rows)
    return flow, Kinds(flow.base.means, flow.base.log_shares, [str(kind) for kind in present.tolist()])


def judge(patches: Patches, flow: RealNVP, kinds: Kinds, good: Tensor, judged: Tensor, rare: Tensor) -> dict[str, Row]:
    """Shares lost and caught, with kinds and without, of patches of one kind and of all others."""

    def measured(name: str, rows: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        z, log_det = flow(patches.features[name][rows])
        return z, log_det, patches.statistics[name][rows], kinds.of(z)

    flags = torch.zeros(len(good), dtype=torch.bool)
    by_kind = Calibration(*measured("", good), flags, patches.files[good], STAIN, "", "", "good patches")
    found: dict[str, Row] = {}
    for way in WAYS:
        calibration = by_kind if way == WAYS[1] else replace(by_kind, kinds=torch.zeros_like(by_kind.kinds))
        row = found[way] = {}
        clean = calibration.score(*measured("", judged))
        damaged = {name: calibration.score(*measured(name, judged)) for name in DAMAGE}
        for rate in RATES:
            limit = calibration.threshold(rate).score
            row[f"lost of the kind, {rate:g}"] = _share(clean[rare] <= limit)
            row[f"lost of others, {rate:g}"] = _share(clean[~rare] <= limit)
            row[f"caught, {rate:g}"] = fmean(_share(scores <= limit) for scores in damaged.values())
        row |= {f"AUROC, {name}": auroc(clean, scores) for name, scores in damaged.items()}
        row["AUROC"] = fmean(row[f"AUROC, {name}"] for name in DAMAGE)
    return found


def draws(patches: Patches, encoder: LatentEncoder, arguments: argparse.Namespace) -> dict[str, dict[str, list[Row]]]:
    """What is found in each draw, by kind that is rare, with kinds and without."""
    found: dict[str, dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    count = int(patches.files.max()) + 1
    for repeat in progress(range(arguments.repeats), "draws"):
        generator = Generator().manual_seed(arguments.seed + repeat)
        part = torch.randperm(count, generator=generator)[patches.files] * (3 if arguments.fit else 2) // count
        *fit, calibrate, judged = (torch.nonzero(part == i).flatten() for i in range(int(part.max()) + 1))
        flow, kinds = encoder.flow, encoder.kinds
        if fit:
            flow, kinds = fitted(patches.features[""][fit[0]], patches.kinds[fit[0]])
        assert kinds is not None
        for k, name in enumerate(patches.names):
            drawn = calibrate[torch.randperm(len(calibrate), generator=generator)]
            own = patches.kinds[drawn] == k
            chosen = drawn[own][: arguments.rare]
            good = torch.cat([chosen, drawn[~own][: arguments.n - len(chosen)]])
            rare = patches.kinds[judged] == k
            if len(chosen) and rare.any():
                for way, row in judge(patches, flow, kinds, good, judged, rare).items():
                    found[name][way].append(row)
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tiles", type=Path)
    parser.add_argument("--kinds", required=True, metavar="CSV|parent", help="the kind of each, as of rl2 fit")
    parser.add_argument("--fit", action="store_true", help="fit kinds to a third of the files")
    parser.add_argument("--rare", type=int, default=6, help="patches of the rare kind that calibrate")
    parser.add_argument("--n", type=int, default=60, help="patches that calibrate")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--tile", type=int)
    parser.add_argument("--weights", default="lung-colon")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    encoder = LatentEncoder.load(arguments.weights)
    if not arguments.fit and encoder.kinds is None:
        raise RL2Error(f"{encoder.name} has no kinds; give weights that have, or --fit.")
    patches = read(arguments.tiles, arguments.kinds, arguments.tile, encoder)
    found = draws(patches, encoder, arguments)
    table = {kind: summary(ways) for kind, ways in found.items()}
    table["all"] = summary({way: [row for ways in found.values() for row in ways[way]] for way in WAYS})
    if arguments.json:
        print(json.dumps({"weights_id": encoder.weights_id, "patches": len(patches.kinds), "table": table}, indent=1))
        return
    print(f"{encoder.name} ({encoder.weights_id[:12]}), {len(patches.kinds)} patches, {arguments.repeats} draws a kind")
    for kind, numbers in table.items():
        print(f"\n{kind:28}{WAYS[0]:>15}{WAYS[1]:>12}{'change':>9}")
        for name, (before, after, change, error) in numbers.items():
            print(f"  {name:26}{before:15.3f}{after:12.3f}{change:+9.3f} ({error:.3f})")


def summary(ways: Mapping[str, list[Row]]) -> dict[str, tuple[float, float, float, float]]:
    """Of each number: mean without kinds and with them, mean change and its standard error."""
    found = {}
    for name in ways[WAYS[0]][0]:
        before, after = ([row[name] for row in ways[way]] for way in WAYS)
        changes = [b - a for a, b in zip(before, after, strict=True)]
        error = stdev(changes) / math.sqrt(len(changes)) if len(changes) > 1 else math.nan
        found[name] = (fmean(before), fmean(after), fmean(changes), error)
    return found


def _share(rejected: Tensor) -> float:
    return float(rejected.double().mean())


if __name__ == "__main__":
    run(main)
