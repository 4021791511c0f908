"""Which patches fit a flow, stop its training, and become its reference; groups stay on one side."""

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torchmetrics_rl2.errors import RL2Error

__all__ = ["Split", "split_images"]

SHARES = {"fit": 0.7, "reference": 0.2, "stop": 0.1}
LEAST = {"fit": 8, "reference": 2, "stop": 2}


@dataclass(frozen=True)
class Split:
    """Which image does what.

    Args:
        fit: Fit the flow.
        stop: Say when to stop.
        reference: Measure distances from these.

    """

    fit: Sequence[Path]
    stop: Sequence[Path]
    reference: Sequence[Path]


def split_images(paths: Sequence[Path], groups: Mapping[Path, str] | None = None, seed: int = 0) -> Split:
    """Split by group, about 70 % to fit, 10 % to stop, 20 % as reference.

    Args:
        paths: All images.
        groups: Slide, patient or source image of each; ``None`` makes every image its own group.
        seed: Seed of the shuffle.

    Raises:
        RL2Error: If there are too few images or groups.

    """
    members: dict[str, list[Path]] = defaultdict(list)
    for path in paths:
        members[groups[path] if groups else str(path)].append(path)
    if len(members) < len(SHARES):
        raise RL2Error(
            f"Fitting, stopping and reference need images of different groups, but there are {len(members)} group(s); "
            "expected at least 3. By parent, every folder that holds patches is a group."
        )
    names = sorted(members)
    random.Random(seed).shuffle(names)
    names.sort(key=lambda name: -len(members[name]))
    sides: dict[str, list[Path]] = {side: [] for side in SHARES}
    for i, name in enumerate(names):
        empty = [side for side in SHARES if not sides[side]]
        open_sides = empty if len(names) - i <= len(empty) else list(SHARES)
        side = max(open_sides, key=lambda side: SHARES[side] * len(paths) - len(sides[side]))
        sides[side] += members[name]
    for side, least in LEAST.items():
        if len(sides[side]) < least:
            raise RL2Error(
                f"{len(paths)} images in {len(members)} groups leave {len(sides[side])} to {side}; expected at least "
                f"{least}. Some 20 images suffice; of images that are cut into tiles each counts once. Give more "
                "images, or more groups."
            )
    return Split(**{side: sorted(chosen) for side, chosen in sides.items()})
