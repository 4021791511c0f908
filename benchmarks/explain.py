"""How often ``--explain`` names the right damage, and how near its amount is, for all ladders and some pairs.

    python benchmarks/explain.py TILES --real OTHERS [--n 40] [--repeats 20] [--weights lung-colon] [--json]

The generated side is drawn with replacement from TILES, damaged, and the real side from OTHERS, both of which took no
part in the weights. Each ladder is shown at the severity that a person sees and at 1.35 times that, of a signed one
upwards and at 1.4 times downwards; coarser magnification, which no signature can have, is left out. Named: the families
of all causes are those of the damage. Within 1.25: where the very ladder was named, its amount is off by that factor at
most. Covered: the interval has the amount.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent / "paper"))

from experiment import BATCH, progress, run

from torchmetrics_rl2 import LatentEncoder, RL2Error, compare
from torchmetrics_rl2.distance.explanation import Explanation
from torchmetrics_rl2.explaining.run import explain
from torchmetrics_rl2.images import ImageReader, find_images
from torchmetrics_rl2.pixels import LADDERS, degrade

Steps = tuple[tuple[str, float], ...]
PAIRS = (
    *(("gaussian blur", "jpeg"), ("gaussian noise", "hematoxylin"), ("gaussian blur", "gaussian noise")),
    *(
        ("jpeg", "eosin"),
        ("defocus disc", "brightness"),
        ("salt and pepper", "gaussian blur"),
        ("pen", "gaussian blur"),
    ),
    *(("rectangles", "gaussian noise"), ("magnification", "jpeg"), ("fold", "gaussian noise")),
    *(("brightness", "gaussian noise"), ("white balance", "gaussian blur"), ("hematoxylin", "jpeg")),
    *(
        ("diffusion", "eosin"),
        ("downsampling", "jpeg"),
        ("motion blur", "hematoxylin"),
        ("near blank", "gaussian noise"),
    ),
    *(("rectangles", "gaussian blur"), ("air bubble", "jpeg"), ("dust", "gaussian blur")),
)


@dataclass(frozen=True)
class Row:
    """What was said of one kind of damage: shares of the draws, and what was named most often."""

    damage: str
    amount: str
    named: float
    within: float | None
    covered: float | None
    explained: float
    most_often: str


def singles() -> list[Steps]:
    """Each ladder at two severities."""
    found: list[Steps] = []
    for ladder in LADDERS.values():
        second = -1.4 * ladder.visible if ladder.signed else min(1.0, 1.35 * ladder.visible)
        found += [((ladder.name, ladder.visible),)]
        found += [((ladder.name, second),)] if ladder.name != "magnification" and second < 0.96 else []
    return found


def pairs() -> list[Steps]:
    """Each pair at the severities that a person sees, then at others."""

    def at(pair: tuple[str, str], *times: float) -> Steps:
        return tuple((name, min(1.0, t * LADDERS[name].visible)) for name, t in zip(pair, times, strict=True))

    other = [(0.7, 1.4), (1.4, 0.7)]
    return [*(at(pair, 1, 1) for pair in PAIRS), *(at(pair, *other[i % 2]) for i, pair in enumerate(PAIRS))]


def read(source: str) -> Tensor:
    """Images ``(N, 3, H, W)`` of one size."""
    return torch.cat([batch.images for batch in ImageReader(batch_size=BATCH).read(find_images(source))])


def latents_of(encoder: LatentEncoder, tiles: Tensor, steps: Steps) -> Tensor:
    """Latents of damaged tiles."""
    for number, step in enumerate(steps):
        tiles = degrade(tiles, *step, seed=number)
    return torch.cat([encoder(part) for part in tiles.split(BATCH)])


def explanations(encoder: LatentEncoder, damaged: Tensor, real: Tensor, n: int, repeats: int) -> list[Explanation]:
    """What is said of so many draws of latents."""
    draws, found = np.random.default_rng(0), []
    for _ in range(repeats):
        sides = [encoder.statistics(side[draws.choice(len(side), n)]) for side in (real, damaged)]
        explained = explain(compare(*sides), *sides, encoder.signatures).explanation
        assert explained is not None
        found.append(explained)
    return found


def row_of(steps: Steps, found: Sequence[Explanation]) -> Row:
    """One line of the table."""
    families = {LADDERS[ladder].family for ladder, _ in steps}
    right = [one for one in found if {cause.family for cause in one.causes} == families]
    own = [
        (cause, LADDERS[ladder].amount(severity))
        for one in right
        for cause in one.causes
        for ladder, severity in steps
        if cause.damage == ladder
    ]
    said = Counter(" and ".join(sorted(cause.damage for cause in one.causes)) or "nothing" for one in found)
    return Row(
        damage=" then ".join(ladder for ladder, _ in steps) or "none",
        amount=" and ".join(f"{LADDERS[ladder].amount(severity):.3g}" for ladder, severity in steps),
        named=len(right) / len(found),
        within=fmean(1 / 1.25 <= cause.amount / amount <= 1.25 for cause, amount in own) if own else None,
        covered=fmean(cause.interval[0] <= amount <= cause.interval[1] for cause, amount in own) if own else None,
        explained=float(np.median([one.explained or 0.0 for one in found])),
        most_often=said.most_common(1)[0][0],
    )


def lines(rows: Sequence[Row]) -> list[str]:
    """The table, and its means."""

    def shown(share: float | None) -> str:
        return "" if share is None else f"{share:.2f}"

    found = ["| damage | amount | named | within 1.25 | covered | explained | named most often |", "|" + "---|" * 7]
    for row in rows:
        numbers = " | ".join(map(shown, (row.named, row.within, row.covered, row.explained)))
        found.append(f"| {row.damage} | {row.amount} | {numbers} | {row.most_often} |")
    one = [row for row in rows if " then " not in row.damage and row.amount]
    two = [row for row in rows if " then " in row.damage]
    parts = {"one damage": one, "two, as seen": two[: len(PAIRS)], "two, at other severities": two[len(PAIRS) :]}
    for part, some in parts.items():
        for name in ("named", "within", "covered"):
            known = [value for row in some if (value := getattr(row, name)) is not None]
            found += [f"mean of {part}, {name}: {fmean(known):.3f}"] if known else []
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tiles", help="tiles that took no part, a source of rl2 score")
    parser.add_argument("--real", required=True, help="other tiles that took no part")
    parser.add_argument("--weights", default="lung-colon")
    parser.add_argument("--n", type=int, default=40, help="tiles a side")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    encoder = LatentEncoder.load(arguments.weights)
    if encoder.signatures is None:
        raise RL2Error(f"{arguments.weights} has no signatures of damage; 'rl2 fit' makes weights that have.")
    tiles, real = read(arguments.tiles), read(arguments.real)
    latents = torch.cat([encoder(part) for part in real.split(BATCH)])
    rows = []
    for steps in progress([(), *singles(), *pairs()], "damage"):
        damaged = latents_of(encoder, tiles, steps)
        rows.append(row_of(steps, explanations(encoder, damaged, latents, arguments.n, arguments.repeats)))
    print(json.dumps([asdict(row) for row in rows], indent=2) if arguments.json else "\n".join(lines(rows)))


if __name__ == "__main__":
    run(main)
