"""Does the number of images that ``rl2 plan`` names find what it was planned for?

    python benchmarks/planning.py PILOT OTHERS [--find NAME=VALUE ...] [--tile PX --by-file] [--repeats 200]

Plans are made from PILOT, and tried on OTHERS, real images that the pilot has none of, both sources of ``rl2 score``.
Of each goal the number that the plan names is drawn with replacement on both sides, damaged on one, or without the
images of a kind, and the verdict of ``rl2 score`` is asked whether the part differs. With ``--by-file`` files that are
cut by ``--tile`` are the units of the real side, and the numbers are of files. A population of a few hundred images
has fewer dimensions than all tissue has, so that chance moves its look further: ``expected`` is the power there.
"""

import argparse

import torch
from torch import Generator, Tensor

from calibration import load
from torchmetrics_rl2 import LatentEncoder, RL2Result, compare, plan
from torchmetrics_rl2.pixels import degrade
from torchmetrics_rl2.planning import PlanGoal
from torchmetrics_rl2.planning.goals import severity_of
from torchmetrics_rl2.planning.power import Pilot

COPIES = 50
GOALS = (
    *("gaussian blur=0.4", "gaussian noise=0.005", "jpeg=70", "rectangles=0.005", "eosin=0.4"),
    "distance=10",
)


def encode(encoder: LatentEncoder, images: Tensor) -> Tensor:
    """Latents in float64."""
    return torch.cat([encoder(batch) for batch in images.split(64)]).double()


def is_found(result: RL2Result, part: str) -> bool:
    """What the verdict says of a part."""
    if part == "whole":
        assert result.interval is not None
        return (result.p_value or 0.0) < 0.05 if not result.assumes_independence else result.interval[0] > 0
    return f"{part} differs" in result.verdict or f"{part} clearly differs" in result.verdict


def population(encoder: LatentEncoder, goal: str, images: Tensor, real: Tensor) -> Tensor:
    """Latents that generated images are drawn from."""
    name, _, value = goal.partition("=")
    if name == "distance":
        towards = real[0] - real.mean(0)
        return real + float(value) * towards / towards.norm()
    if name == "missing":
        assert encoder.kinds is not None
        return real[encoder.kinds.of(real) != list(encoder.kinds.names).index(value)]
    return encode(encoder, degrade(images, name, severity_of(name, float(value))))


def tried(
    encoder: LatentEncoder,
    real: Tensor,
    fake: Tensor,
    files: list[str] | None,
    goal: PlanGoal,
    n: int,
    repeats: int,
) -> tuple[float, float]:
    """Share of draws in which the goal is found, and the distance that there is in truth."""
    generator, found = Generator().manual_seed(0), 0
    members = [torch.tensor([i for i, f in enumerate(files or ()) if f == name]) for name in dict.fromkeys(files or ())]
    for _ in range(repeats):
        if files is None:
            rows, names = torch.randint(len(real), (n,), generator=generator), None
            count = n
        else:
            chosen = [members[i] for i in torch.randint(len(members), (n,), generator=generator)]
            rows, names = torch.cat(chosen), [str(i) for i, group in enumerate(chosen) for _ in group]
            count = len(rows)
        others = fake[torch.randint(len(fake), (count,), generator=generator)]
        single = None if files is None else [str(i) for i in range(count)]
        sides = [encoder.statistics(z, group) for z, group in ((real[rows], names), (others, single))]
        found += is_found(compare(*sides), goal.part)
    difference = fake.mean(0) - real.mean(0)
    if goal.part != "whole" and encoder.kinds is not None:
        content = difference @ encoder.kinds.basis
        difference = content if goal.part == "content" else difference - encoder.kinds.basis @ content
    return found / repeats, float(difference.norm())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pilot")
    parser.add_argument("others")
    parser.add_argument("--find", nargs="*", default=list(GOALS))
    parser.add_argument("--tile", type=int)
    parser.add_argument("--by-file", action="store_true")
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--weights", default="histology")
    arguments = parser.parse_args()
    encoder = LatentEncoder.load(arguments.weights)
    images, files = load(arguments.others, arguments.tile)
    real = encode(encoder, images)
    options = {"tile": arguments.tile, "groups": "file" if arguments.by_file else None}
    pilot = plan(arguments.pilot, find=arguments.find, weights=encoder, **options)
    units = "files" if arguments.by_file else "images"
    print(
        f"{encoder.name}; pilot of {pilot.n_pilot} images; {len(real)} other images of {len(set(files))} files; "
        f"{arguments.repeats} draws, seed 0"
    )
    print(f"{'goal':52}{'planned distance':>17}{'true':>8}{units:>8}{'expected':>10}{'found':>8}")
    names = [f"{file} {i}" for i in range(COPIES) for file in files] if arguments.by_file else None
    everything = Pilot(encoder.statistics(real.repeat(COPIES, 1), names), encoder.kinds)
    for wanted, goal in zip(arguments.find, pilot.goals, strict=True):
        if goal.needed is None:
            print(f"{goal.name:52}{goal.distance:17.2f}{'':8}{'none':>8}")
            continue
        fake = population(encoder, wanted, images, real)
        share, distance = tried(
            encoder, real, fake, files if arguments.by_file else None, goal, goal.needed, arguments.repeats
        )
        moved = fake.mean(0) - real.mean(0)
        expected = everything.power(everything.shift(moved), goal.part, goal.needed)
        print(
            f"{goal.name:52}{goal.distance:17.2f}{distance:8.2f}{goal.needed:8}{expected:10.2f}{share:8.2f}", flush=True
        )


if __name__ == "__main__":
    main()
