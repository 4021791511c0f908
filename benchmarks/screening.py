"""How well a screen tells damaged from clean patches, what it loses of clean ones, and what it says of other stains.

    python benchmarks/screening.py CLEAN --good GOOD [--tile PX] [--good-groups parent|file|CSV] [--weights NAME]
        [--families NAME ...] [--other PATH[@SCALE] ...] [--seed 0] [--limit N] [--json FILE]

GOOD calibrates, CLEAN is judged, and no slide, tile or patient is in both. Everything is damaged at the severity that a
person clearly sees, see ``rl2 audit``. Families of damage: AUROC of the score as ``rl2 screen`` ranks, of fifteen
hand-crafted statistics (one Gaussian fitted to GOOD), of the flow's likelihood as it was fitted, and of one Gaussian of
its latents (fitted to GOOD). Intervals are 95 %, from 500 draws of units. The false rejection rate of clean patches is
that of their score. Domain: RL2 of 50 patches, drawn by the seed, against GOOD; --other has more of them, of another
scanner or, with @0.5, at twice the mpp.
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path
from statistics import fmean

import torch
from torch import Generator, Tensor

from torchmetrics_rl2 import Calibration, LatentEncoder, PatchScreener, RL2Error, Verdicts, calibrate
from torchmetrics_rl2.auditing import auroc
from torchmetrics_rl2.images import ImageReader, find_images, groups_of
from torchmetrics_rl2.networks import Gaussian
from torchmetrics_rl2.pixels import HANDCRAFTED, LADDERS, Stain, degrade, stain_of
from torchmetrics_rl2.quality.measures import MIN_TISSUE, measure, shares
from torchmetrics_rl2.screening.domain import domain_of

DAMAGE = ("focus", "noise", "impulse", "occlusion", "blank", "compression")
DRAWS, SET = 500, 50
NOMINAL = (0.01, 0.05)
Scores = dict[str, Tensor]


class Judge:
    """All scores of images."""

    def __init__(self, encoder: LatentEncoder, calibration: Calibration, stain: Stain) -> None:
        self.screener = PatchScreener(encoder, calibration=calibration, max_false_rejection=0.05)
        self.stain = stain
        good = calibration.statistics[:, : len(HANDCRAFTED)], calibration.latents
        self.handcrafted, self.latents = (Gaussian(numbers) for numbers in good)

    def __call__(self, images: Tensor) -> tuple[Scores, Verdicts]:
        """Scores by name, and verdicts, of uint8 images ``(N, 3, H, W)``."""
        found = defaultdict(list)
        verdicts = []
        for batch in images.split(64):
            verdicts.append(self.screener(batch, self.stain))
            z, _, statistics, _, likelihood = measure(self.screener.encoder, batch)
            found["screen"].append(verdicts[-1].score)
            found["fifteen statistics"].append(self.handcrafted.log_prob(statistics[:, : len(HANDCRAFTED)]))
            found["flow"].append(likelihood)
            found["Gaussian of latents"].append(self.latents.log_prob(z))
        return {name: torch.cat(parts).double() for name, parts in found.items()}, Verdicts.cat(verdicts)


def interval(clean: Tensor, damaged: list[Tensor], units: Tensor, generator: Generator) -> tuple[float, float]:
    """95 % interval of the mean AUROC of several kinds of damage to the same images, from draws of their units."""
    count = int(units.max()) + 1
    rows = [torch.nonzero(units == unit).flatten() for unit in range(count)]
    drawn = []
    for _ in range(DRAWS):
        chosen = torch.cat([rows[i] for i in torch.randint(count, (count,), generator=generator).tolist()])
        drawn.append(fmean(auroc(clean[chosen], one[chosen]) for one in damaged))
    low, high = torch.tensor(drawn).quantile(torch.tensor([0.025, 0.975])).tolist()
    return low, high


def false_rejections(calibration: Calibration, score: Tensor, units: Tensor, generator: Generator) -> dict[str, object]:
    """False rejection rates of clean patches at nominal 1 % and 5 %, promised and seen, with intervals from draws."""
    found: dict[str, object] = {}
    count = int(units.max()) + 1
    rows = [torch.nonzero(units == unit).flatten() for unit in range(count)]
    for nominal in NOMINAL:
        try:
            threshold = calibration.threshold(nominal)
        except RL2Error as error:
            found[f"{nominal:g}"] = str(error)
            continue
        rejected = (score <= threshold.score).double()
        draws = [
            float(
                rejected[
                    torch.cat([rows[i] for i in torch.randint(count, (count,), generator=generator).tolist()])
                ].mean()
            )
            for _ in range(DRAWS)
        ]
        ends = torch.tensor(draws).quantile(torch.tensor([0.025, 0.975])).tolist()
        found[f"{nominal:g}"] = {"promised": threshold.interval, "rejected": float(rejected.mean()), "interval": ends}
    return found


def drawn_from(images: Tensor, generator: Generator) -> Tensor:
    """Fifty of them, or all."""
    return images[torch.randperm(len(images), generator=generator)[:SET]]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clean")
    parser.add_argument("--good", required=True)
    parser.add_argument("--good-groups", default="file")
    parser.add_argument("--tile", type=int)
    parser.add_argument("--weights", default="lung-colon")
    parser.add_argument("--families", nargs="*", help="only these, such as focus and compression")
    parser.add_argument("--other", nargs="*", default=[], help="images for the table of domains, @SCALE to resize them")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    generator = Generator().manual_seed(arguments.seed)
    encoder = LatentEncoder.load(arguments.weights)
    calibration = calibrate(
        arguments.good, encoder, groups=arguments.good_groups, tile=arguments.tile, seed=arguments.seed
    )
    batches = list(ImageReader(arguments.tile).read(find_images(arguments.clean)))
    images, files = torch.cat([b.images for b in batches]), [path for b in batches for path in b.paths]
    tissue = torch.nonzero(shares(images)[0] >= MIN_TISSUE).flatten()
    if arguments.limit and len(tissue) > arguments.limit:
        tissue = tissue[torch.randperm(len(tissue), generator=generator)[: arguments.limit].sort().values]
    images, files = images[tissue], [files[i] for i in tissue.tolist()]
    names = groups_of("file", files, Path())
    unit_of = {name: i for i, name in enumerate(dict.fromkeys(names.values()))}
    units = torch.tensor([unit_of[names[path]] for path in files])
    stain = stain_of(images.split(64))
    judge = Judge(encoder, calibration, stain)
    clean, _ = judge(images)
    print(
        f"{encoder.name} ({encoder.weights_id[:12]}); good: {len(calibration)} patches of {calibration.group_count} "
        f"groups, design effect {calibration.design_effect:.2f}; judged: {len(images)} of {len(unit_of)} units"
    )
    kinds: dict[str, dict[str, Scores]] = {}
    named: dict[str, dict[str, int]] = {}
    domain = {"clean": domain_of(judge.screener, [drawn_from(images, generator)])}
    for ladder in LADDERS.values():
        if arguments.families and ladder.family not in arguments.families:
            continue
        for sign in (1, -1) if ladder.signed else (1,):
            name = f"{ladder.name} {'+' if sign > 0 else '-'}" if ladder.signed else ladder.name
            damaged = degrade(images, ladder.name, sign * ladder.visible, arguments.seed)
            # The stain of a whole slide is another question, and is set aside before patches are judged.
            of_slide = ladder.family in ("color", "scale")
            judge.stain = stain_of(damaged.split(64)) if of_slide else stain
            if of_slide:
                domain[name] = domain_of(judge.screener, [drawn_from(damaged, generator)])
            if damaged.shape != images.shape:  # a larger field in fewer pixels, which is for the domain alone
                continue
            scores, verdicts = judge(damaged)
            kinds.setdefault(ladder.family, {})[name] = scores
            if ladder.family in DAMAGE:
                counts: dict[str, int] = defaultdict(int)
                for reasons in verdicts.reasons:
                    counts[reasons[0] if reasons else "kept"] += 1
                named[name] = dict(sorted(counts.items(), key=lambda item: -item[1]))
            areas = {way: round(auroc(clean[way], values), 3) for way, values in scores.items()}
            print(f"{name:18}{areas} {named.get(name, '')}", flush=True)
    print("\nAUROC   " + "".join(f"{family:>22}" for family in kinds) + "   mean of damage")
    table: dict[str, dict[str, object]] = {}
    for way in clean:
        row = {}
        for family, members in kinds.items():
            damaged_scores = [scores[way] for scores in members.values()]
            row[family] = (
                fmean(auroc(clean[way], one) for one in damaged_scores),
                *interval(clean[way], damaged_scores, units, generator),
            )
        mean = fmean(row[family][0] for family in DAMAGE if family in row)
        table[way] = {**row, "mean": mean}
        print(f"{way:20}" + "".join(f"   {v[0]:.3f} ({v[1]:.2f}-{v[2]:.2f})" for v in row.values()) + f"   {mean:.3f}")
    rejected = false_rejections(calibration, clean["screen"], units, generator)
    print(f"\nfalse rejection rate of clean patches: {json.dumps(rejected)}")
    for folder in sorted({path.parent.name for path in files}):
        rows = torch.tensor([path.parent.name == folder for path in files])
        possible = [rate for rate in NOMINAL if isinstance(rejected[f"{rate:g}"], dict)]
        counts = {rate: int((clean["screen"][rows] <= calibration.threshold(rate).score).sum()) for rate in possible}
        print(f"of {folder}: {counts} of {int(rows.sum())}")
    stains = {}
    for name, scores in kinds.get("color", {}).items():
        stains[name] = false_rejections(calibration, scores["screen"], units, generator)
        print(f"false rejection rate of patches of another stain, {name}: {json.dumps(stains[name])}")
    for octaves in (1.0, -1.0):
        twice = degrade(images, "magnification", octaves, arguments.seed)
        domain[f"mpp x {2**-octaves:g}"] = domain_of(judge.screener, [drawn_from(twice, generator)])
    for other in arguments.other:
        path, _, scale = other.partition("@")
        reader = ImageReader(arguments.tile, float(scale) if scale else None, skip_unreadable=True)
        others = torch.cat([batch.images for batch in reader.read(find_images(path))])
        others = others[shares(others)[0] >= MIN_TISSUE]
        domain[f"{Path(path).name}{' @' * bool(scale)}{scale}"] = domain_of(
            judge.screener, [drawn_from(others, generator)]
        )
    print("\ndomain, sets of 50: verdict, RL2 with its interval, standard deviations")
    for name, found in domain.items():
        print(f"{name:26}{found.verdict:9}{found.rl2:8.1f} ({found.low:.1f} to {found.high:.1f}) {found.shift:.2f}")
    if arguments.json:
        record = {"auroc": table, "false_rejection": rejected, "false_rejection_of_stains": stains, "named": named}
        record["domain"] = {name: vars(found) for name, found in domain.items()}
        arguments.json.write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
