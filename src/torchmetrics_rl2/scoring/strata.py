"""Strata of a score: kinds of tissue of the weights, or classes of one's own labels."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from torchmetrics_rl2.distance.kinds import Kinds
from torchmetrics_rl2.distance.result import RL2Result
from torchmetrics_rl2.distance.statistics import Statistics
from torchmetrics_rl2.distance.strata import MAX_CLASSES, with_strata
from torchmetrics_rl2.encoder.encoded import Encoded
from torchmetrics_rl2.encoder.encoder import LatentEncoder
from torchmetrics_rl2.encoder.own import OwnEncoder
from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.scoring.duplicates import Seen
from torchmetrics_rl2.scoring.sources import ImageSource, images_of

__all__ = ["Strata", "add_strata", "check_strata", "strata_of"]

WAITING = 4096
NAMED = 5
NEEDED = {"kinds": "--by kinds", "classes": "--real-classes and --fake-classes"}


class Strata:
    """Statistics of the images of one side by stratum, found in one pass.

    Latents of at most 4,096 images wait to be added up, and of each stratum its statistics are kept.

    Args:
        of: The kinds of tissue, of which each image has its most probable one, or the class of each file.
        groups: The group of each file, if there are groups.

    """

    def __init__(self, of: Kinds | Mapping[Path, str], groups: Mapping[Path, str] | None = None) -> None:
        self._of, self._groups = of, groups
        self._seen: dict[str, Seen] = {}
        self._waiting: dict[str, list[tuple[Tensor, list[str] | None]]] = {}
        self._added: dict[str, Statistics] = {}

    @property
    def names(self) -> list[str]:
        """All strata that this side may have."""
        return list(self._of.names) if isinstance(self._of, Kinds) else sorted(set(self._of.values()))

    def see(self, images: Encoded) -> None:
        """Add the next images of this side."""
        names = self._names(images.paths, images.latents)
        for name in dict.fromkeys(names):
            own = images.rows([i for i, other in enumerate(names) if other == name])
            groups = None if self._groups is None else [self._groups[path] for path in own.paths]
            # Copies are one unit of each stratum too.
            seen = self._seen.setdefault(name, Seen())
            joined = seen.see(own, groups)
            self._waiting.setdefault(name, []).append((own.latents, joined))
        if sum(len(z) for parts in self._waiting.values() for z, _ in parts) >= WAITING:
            self._add()

    @property
    def statistics(self) -> dict[str, Statistics]:
        """Statistics of each stratum that there are images of."""
        self._add()
        found = {}
        for name, statistics in self._added.items():
            seen = self._seen[name]
            repeated = seen.repeated(statistics.kinds) if self._groups is None else None
            found[name] = replace(statistics, repeated=repeated, duplicates=tuple(seen.duplicates))
        return found

    def _names(self, paths: Sequence[Path], latents: Tensor) -> list[str]:
        if isinstance(self._of, Kinds):
            return [self._of.names[kind] for kind in self._of.of(latents.double()).tolist()]
        return [self._of[path] for path in paths]

    def _add(self) -> None:
        for name, parts in self._waiting.items():
            latents = torch.cat([z for z, _ in parts])
            groups = None if self._groups is None else [group for _, joined in parts for group in joined or ()]
            statistics = Statistics.of_latents(latents, groups)
            self._added[name] = self._added[name] + statistics if name in self._added else statistics
        self._waiting = {}


def check_strata(by: str | None, real: Any, real_classes: Any, fake_classes: Any) -> str:
    """What strata are by, ``"kinds"``, ``"classes"`` or empty, before a file is looked for.

    Raises:
        RL2Error: If strata are of no known name, of two sorts at once, or of one side only.

    """
    if by not in (None, "kinds"):
        raise RL2Error(
            f"There are no strata by {by!r}. Expected 'kinds', of tissue; labels of your own go into --real-classes "
            "and --fake-classes."
        )
    labeled = real_classes is not None, fake_classes is not None
    if by is None and not any(labeled):
        return ""
    if by and any(labeled):
        raise RL2Error("Strata are kinds of tissue or classes, not both. Leave out --by, or the classes.")
    if by is None and not all(labeled):
        given, missing = ("real", "fake") if labeled[0] else ("fake", "real")
        raise RL2Error(f"Classes need both sides, but only --{given}-classes is given. Give --{missing}-classes too.")
    if real is None:
        raise RL2Error(
            "Strata need the real images; the reference inside the weights is a sum of all of them. Give them with "
            f"--real, or leave out {NEEDED[by or 'classes']}."
        )
    return by or "classes"


def strata_of(
    found: Mapping[str, Sequence[Statistics | ImageSource]],
    by: str,
    encoder: LatentEncoder | OwnEncoder | None,
) -> dict[str, Strata]:
    """The strata of each side, if they are asked for, before an image is read.

    Args:
        found: Sources of both sides.
        by: See :func:`check_strata`.
        encoder: Of the images.

    Raises:
        RL2Error: If there are statistics among the sources, the weights have no kinds, or classes do not match.

    """
    if not by:
        return {}
    sources = images_of(found)
    for one in (one for parts in found.values() for one in parts):
        if isinstance(one, Statistics):
            raise RL2Error(
                f"The statistics of {one.source} are sums over all strata. Give the images themselves, or leave out "
                f"{NEEDED[by]}."
            )
    groups: dict[str, dict[Path, str] | None] = {
        side: {p: g for one in parts for p, g in (one.groups or {}).items()} or None for side, parts in sources.items()
    }
    if by == "classes":
        classes = {side: {p: c for one in parts for p, c in one.classes.items()} for side, parts in sources.items()}
        _check_classes(classes["real"], classes["fake"])
        return {side: Strata(classes[side], groups[side]) for side in sources}
    kinds = encoder.kinds if encoder else None
    if encoder is None or kinds is None:
        raise RL2Error(
            f"The weights {encoder.name if encoder else ''} have no kinds of tissue. 'rl2 fit' finds kinds in your own "
            "patches; labels of your own go into --real-classes and --fake-classes."
        )
    return {side: Strata(kinds, groups[side]) for side in sources}


def add_strata(result: RL2Result, by: str, real: Strata, fake: Strata) -> RL2Result:
    """A result with those of its strata.

    Args:
        result: That of the two sides.
        by: ``"kinds"`` or ``"classes"``.
        real: Which has seen all images of the real side.
        fake: Which has seen all images of the generated side.

    """
    order = real.names if by == "kinds" else sorted({*real.names, *fake.names})
    return with_strata(result, by, real.statistics, fake.statistics, order)


def _check_classes(real: Mapping[Path, str], fake: Mapping[Path, str]) -> None:
    sides = [sorted(set(side.values())) for side in (real, fake)]
    every = {*sides[0], *sides[1]}
    if len(every) == 1:
        raise RL2Error(f"All images on both sides are of one class, {every.pop()}. Strata need at least two.")
    if len(every) > MAX_CLASSES:
        raise RL2Error(
            f"There are {len(every)} classes, {', '.join(sorted(every)[:NAMED])} among them; expected at most "
            f"{MAX_CLASSES}. Slides and patients are groups: see --real-groups."
        )
    if not {*sides[0]} & {*sides[1]}:
        named = (f"{', '.join(side[:NAMED])}{' and more' if len(side) > NAMED else ''}" for side in sides)
        raise RL2Error("Real images have the classes {}, and generated ones {}: none in common.".format(*named))
