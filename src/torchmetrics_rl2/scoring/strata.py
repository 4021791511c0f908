"""Strata of a side: kinds of tissue of the weights, or classes of one's own labels."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from torchmetrics_rl2.distance.kinds import Kinds
from torchmetrics_rl2.distance.result import RL2Result
from torchmetrics_rl2.distance.statistics import Statistics, merge_classes
from torchmetrics_rl2.distance.strata import MAX_CLASSES, with_strata
from torchmetrics_rl2.encoder.encoded import Encoded
from torchmetrics_rl2.encoder.encoder import LatentEncoder
from torchmetrics_rl2.encoder.own import OwnEncoder
from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.scoring.duplicates import Seen
from torchmetrics_rl2.scoring.sources import ImageSource, group_of_each

__all__ = ["Strata", "add_strata", "check_strata", "classes_of", "strata_of"]

WAITING = 4096
NAMED = 5
SIDES = {"real": "real", "fake": "generated"}


class Strata:
    """Statistics of the images of one side by stratum, found in one pass.

    Latents of at most 4,096 images wait to be added up, and of each stratum its statistics are kept.

    Args:
        of: The kinds of tissue, of which each image has its most probable one, or the class of each file.
        groups: The group of each file, if there are groups.
        encoder: Of the images, if there are images.
        known: Statistics of classes that were computed before.

    """

    def __init__(
        self,
        of: Kinds | Mapping[Path, str],
        groups: Mapping[Path, str] | None,
        encoder: LatentEncoder | OwnEncoder | None,
        known: Sequence[Mapping[str, Statistics]] = (),
    ) -> None:
        self._of, self._groups, self._encoder, self._known = of, groups, encoder, known
        self._seen: dict[str, Seen] = {}
        self._waiting: dict[str, list[tuple[Tensor, list[str] | None]]] = {}
        self._added: dict[str, Statistics] = {}

    @property
    def names(self) -> list[str]:
        """All strata that this side may have."""
        if isinstance(self._of, Kinds):
            return list(self._of.names)
        return sorted(set(self._of.values()).union(*self._known))

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
        return merge_classes([*self._known, found])

    def _names(self, paths: Sequence[Path], latents: Tensor) -> list[str]:
        if isinstance(self._of, Kinds):
            return [self._of.names[kind] for kind in self._of.of(latents.double()).tolist()]
        return [self._of[path] for path in paths]

    def _add(self) -> None:
        for name, parts in self._waiting.items():
            latents = torch.cat([z for z, _ in parts])
            groups = None if self._groups is None else [group for _, joined in parts for group in joined or ()]
            assert self._encoder is not None
            statistics = self._encoder.statistics(latents, groups, source=name)
            self._added[name] = self._added[name] + statistics if name in self._added else statistics
        self._waiting = {}


def check_strata(by: str | None, real: Any, real_classes: Any, fake_classes: Any) -> str:
    """What strata are by, ``"kinds"``, ``"classes"`` or empty, before a file is looked for.

    Raises:
        RL2Error: If strata are of no known name, of two sorts at once, or without real images.

    """
    if by not in (None, "kinds", "classes"):
        raise RL2Error(
            f"A score cannot be divided by {by!r}. Expected 'kinds', of tissue, or 'classes', those of files of rl2 "
            "stats; labels of your own go into --real-classes and --fake-classes."
        )
    is_labeled = real_classes is not None or fake_classes is not None
    if by == "kinds" and is_labeled:
        raise RL2Error("A score is divided by kinds or by classes, not both. Leave out --by, or the classes.")
    by = by or ("classes" if is_labeled else "")
    if by and real is None:
        raise RL2Error(
            "Strata need the real images; the reference inside the weights is a sum of all of them. Give them with "
            f"--real, or leave out {'--by kinds' if by == 'kinds' else 'the classes'}."
        )
    return by


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
        RL2Error: If there are statistics that do not know the strata, the weights have no kinds, or classes do not
            match.

    """
    if not by:
        return {}
    if by == "classes":
        for side, parts in found.items():
            _check_all_have_classes(side, parts)
        classes = {side: _by_class(parts, encoder) for side, parts in found.items()}
        _check_both_sides(classes["real"].names, classes["fake"].names)
        return classes
    for one in (one for parts in found.values() for one in parts):
        if isinstance(one, Statistics):
            raise RL2Error(
                f"The statistics of {one.source} are sums over all kinds of tissue. Give the images themselves, or "
                "leave out --by kinds."
            )
    kinds = encoder.kinds if encoder else None
    if encoder is None or kinds is None:
        raise RL2Error(
            f"The weights {encoder.name if encoder else ''} have no kinds of tissue. 'rl2 fit' finds kinds in your own "
            "patches; labels of your own go into --real-classes and --fake-classes."
        )
    return {side: Strata(kinds, group_of_each(parts), encoder) for side, parts in found.items()}


def classes_of(found: Sequence[Statistics | ImageSource], encoder: LatentEncoder | OwnEncoder | None) -> Strata | None:
    """Strata by class of sources that are merged, if they have classes, before an image is read.

    Args:
        found: Images and statistics.
        encoder: Of the images.

    Raises:
        RL2Error: If some have classes and some not, or there are too many.

    """
    labeled = [one.source for one in found if _has_classes(one)]
    if not labeled:
        return None
    if len(labeled) < len(found):
        other = next(one.source for one in found if not _has_classes(one))
        raise RL2Error(
            f"{labeled[0]} has classes and {other} has none, so they do not merge. Give all of them classes, or none."
        )
    strata = _by_class(found, encoder)
    _check_number(strata.names)
    return strata


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


def _has_classes(one: Statistics | ImageSource) -> bool:
    return bool(one.classes) if isinstance(one, Statistics) else one.classes is not None


def _by_class(found: Sequence[Statistics | ImageSource], encoder: LatentEncoder | OwnEncoder | None) -> Strata:
    classes, known = dict[Path, str](), list[Mapping[str, Statistics]]()
    for one in found:
        if isinstance(one, Statistics):
            known.append(one.classes)
        else:
            classes |= one.classes or {}
    return Strata(classes, group_of_each(found), encoder, known)


def _check_all_have_classes(side: str, found: Sequence[Statistics | ImageSource]) -> None:
    for one in found:
        if _has_classes(one):
            continue
        if isinstance(one, Statistics):
            raise RL2Error(
                f"The statistics of {one.source} have no classes, which both sides need. Make them with 'rl2 stats "
                "--classes', or leave out the classes."
            )
        raise RL2Error(
            f"The {SIDES[side]} images of {one.source} have no classes, which both sides need. Give --{side}-classes, "
            "or leave out the classes."
        )


def _check_both_sides(real: Sequence[str], fake: Sequence[str]) -> None:
    every = sorted({*real, *fake})
    if len(every) == 1:
        raise RL2Error(f"All images on both sides are of one class, {every[0]}. Strata need at least two.")
    _check_number(every)
    if not {*real} & {*fake}:
        named = (f"{', '.join(side[:NAMED])}{' and more' if len(side) > NAMED else ''}" for side in (real, fake))
        raise RL2Error("Real images have the classes {}, and generated ones {}: none in common.".format(*named))


def _check_number(classes: Sequence[str]) -> None:
    if len(classes) > MAX_CLASSES:
        raise RL2Error(
            f"There are {len(classes)} classes, {', '.join(classes[:NAMED])} among them; expected at most "
            f"{MAX_CLASSES}. Slides and patients are groups, not classes."
        )
