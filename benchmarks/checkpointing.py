"""Which checkpoint of a simulated training is kept: the best beyond chance, the smallest number, and 5 % each time.

    python benchmarks/checkpointing.py [--n 100 200 1000] [--real 200] [--repeats 150] [--planned 50]

Latents are normal, 512 numbers with variances as 1/i that add up to 1,200, about those of the histology weights. The
real images are drawn once for a training, the generated ones in each of its 50 validations. Trainings differ only in
the mean of the generator, and all see the same draws:

- plateau: RL2 falls from 60 to 30 in five epochs and stays there;
- perfect: it falls to 0, and stays there;
- wandering: it falls to 30 in five epochs, and then the mean is another one each time, as far as before;
- slow: it falls by 2 % an epoch;
- overfitted: it falls from 60 to 30 in 20 epochs, and rises to 45.

Three rules see the same numbers: ``ResNetL2Checkpoint``, a test at 5 % in each validation, and the smallest debiased
RL2, as ``ModelCheckpoint`` keeps it. Printed are the share of trainings in which ever a checkpoint was replaced by one
that is not better, the mean epoch that is kept at the end, by how much its true RL2 is above the smallest, and
by how much the RL2 that was measured when it was kept is off its true one.
"""

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Generator, Tensor

from torchmetrics_rl2 import Statistics
from torchmetrics_rl2.callbacks.best_so_far import BestSoFar, Judged
from torchmetrics_rl2.distance.differences import squared_distance
from torchmetrics_rl2.distance.uncertainty import Units

WIDTH, TOTAL, EPOCHS = 512, 1200.0, 50


class EachTime(BestSoFar):
    """Spends 5 % in each comparison."""

    def _next_level(self) -> float:
        return self.level


class Smallest(BestSoFar):
    """Takes what is smaller by any amount."""

    def judge(self, name: str, real: Units, generated: Units) -> Judged:
        """A smaller number is a better one."""
        squared = squared_distance(real, generated)
        return Judged(name, squared, self._units is None or squared < squared_distance(real, self._units))


RULES = {"beyond chance": BestSoFar, "5 % each time": EachTime, "smallest": Smallest}


@dataclass
class Outcome:
    """What a rule did in all trainings of a kind."""

    fooled: int = 0
    kept: list[int] = field(default_factory=list)
    excess: list[float] = field(default_factory=list)
    off: list[float] = field(default_factory=list)


def distances() -> dict[str, Tensor]:
    """True RL2 of each epoch."""
    epoch = torch.arange(EPOCHS, dtype=torch.float64)
    falling = 60 - 6 * epoch.clamp(max=5)
    return {
        "plateau": falling,
        "perfect": 2 * (falling - 30),
        "wandering": falling,
        "slow": 60 * 0.98**epoch,
        "overfitted": 60 - 1.5 * epoch.clamp(max=20) + 15 / 29 * (epoch - 20).clamp(min=0),
    }


def training(kind: str, true: Tensor, spectrum: Tensor, generator: Generator) -> Tensor:
    """Mean of the generator in each epoch, in directions in which latents vary."""
    count = EPOCHS if kind == "wandering" else 1
    directions = spectrum.sqrt() * torch.randn(count, WIDTH, generator=generator, dtype=torch.float64)
    return true[:, None] * directions / directions.norm(dim=1, keepdim=True)


def follow(rule: BestSoFar, real: Units, draws: Sequence[Units], means: Tensor, true: Tensor, out: Outcome) -> None:
    """Let a rule see a training."""
    kept, measured = 0, math.nan
    fooled = False
    for epoch, (draw, mean) in enumerate(zip(draws, means, strict=True)):
        generated = replace(draw, mean=draw.mean + mean)
        judged = rule.judge(str(epoch), real, generated)
        rule.take(judged, generated)
        if judged.is_better:
            fooled |= epoch > 0 and bool(true[epoch] >= true[kept] - 1e-9)
            kept, measured = epoch, judged.debiased
    best = float(true.min())
    out.fooled += fooled
    out.kept.append(kept)
    out.excess.append(float(true[kept]) / best - 1 if best else math.nan)
    out.off.append(measured / float(true[kept]) - 1 if true[kept] else math.nan)


def run(n: int, n_real: int, repeats: int, planned: int) -> dict[str, dict[str, Outcome]]:
    """All rules in all trainings."""
    generator, spectrum = Generator().manual_seed(0), 1 / torch.arange(1, WIDTH + 1, dtype=torch.float64)
    spectrum *= TOTAL / spectrum.sum()
    found = {kind: {rule: Outcome() for rule in RULES} for kind in distances()}
    for _ in range(repeats):
        real, *draws = (draw(size, spectrum, generator) for size in [n_real, *[n] * EPOCHS])
        for kind, true in distances().items():
            means = training(kind, true, spectrum, generator)
            for name, rule in RULES.items():
                follow(rule(0.05, planned), real, draws, means, true, found[kind][name])
    return found


def draw(n: int, spectrum: Tensor, generator: Generator) -> Units:
    """Images of a perfect generator."""
    latents = spectrum.sqrt() * torch.randn(n, WIDTH, generator=generator, dtype=torch.float64)
    units = Statistics.of_latents(latents).units
    assert units is not None
    return units


def main() -> None:
    """Print a table for each number of images."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, nargs="*", default=[100, 200, 1000])
    parser.add_argument("--real", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=150)
    parser.add_argument("--planned", type=int, default=50)
    arguments = parser.parse_args()
    for n in arguments.n:
        print(f"{n} generated and {arguments.real} real images, {arguments.repeats} trainings of each kind, seed 0")
        print(f"{'training':12}{'rule':15}{'fooled':>8}{'epoch':>8}{'above best':>12}{'measured':>10}")
        for kind, rules in run(n, arguments.real, arguments.repeats, arguments.planned).items():
            for rule, out in rules.items():
                kept, above, off = (sum(values) / len(values) for values in (out.kept, out.excess, out.off))
                fooled = out.fooled / len(out.kept)
                print(f"{kind:12}{rule:15}{fooled:8.3f}{kept:8.1f}{above:+12.1%}{off:+10.1%}", flush=True)


if __name__ == "__main__":
    main()
