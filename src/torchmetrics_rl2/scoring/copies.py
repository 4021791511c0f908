"""Latents of generated, training and held-out images, to tell whether a generator copies what it was trained on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from torchmetrics_rl2.distance.copies import MIN_IMAGES, find_copies
from torchmetrics_rl2.distance.copies_result import CopiesResult
from torchmetrics_rl2.distance.statistics import Statistics
from torchmetrics_rl2.encoder.encoded import Encoded
from torchmetrics_rl2.encoder.own import OwnEncoder
from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.images.hub_datasets import ImageStream
from torchmetrics_rl2.images.naming import ImageNames
from torchmetrics_rl2.networks.flow import shrunk_covariance
from torchmetrics_rl2.runtime import Progress
from torchmetrics_rl2.scoring.duplicates import Seen
from torchmetrics_rl2.scoring.encoding import Encoding
from torchmetrics_rl2.scoring.measuring import measure
from torchmetrics_rl2.scoring.sources import ImageSource, Source, find_sources, group_of_each, images_of

__all__ = ["CopySearch", "copy_search", "whitened"]

NAMED = 3
SEARCHED = {"real": ("training", ", given with --real"), "held-out": ("held-out", "")}


@dataclass
class _Side:
    """Latents of the images of a side in two views, 4 kB an image; those of one color are left out."""

    naming: ImageNames
    groups: Mapping[Path, str] | None
    latents: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    of: list[str] = field(default_factory=list)

    def see(self, images: Encoded) -> None:
        names, keep = self.naming.of(images.paths), [i for i, key in enumerate(images.keys) if key is not None]
        if not keep:
            return
        assert images.soft is not None
        self.latents.append((images.latents[keep], images.soft[keep]))
        self.names += [names[i] for i in keep]
        if self.groups:
            self.of += [self.groups[images.paths[i]] for i in keep]

    @property
    def views(self) -> list[Tensor]:
        return [torch.cat(view) for view in zip(*self.latents, strict=True)] if self.latents else [torch.empty(0, 1)]


class CopySearch:
    """What is kept of the training, held-out and generated images.

    Args:
        found: Sources of all three: ``real``, ``held-out`` and ``fake``.
        how: How they are encoded.

    """

    def __init__(self, found: Mapping[str, Sequence[ImageSource]], how: Encoding) -> None:
        self._found, self._how = found, how
        tiled = how.reader.tile is not None
        self._sides = {side: _Side(ImageNames(tiled), group_of_each(parts)) for side, parts in found.items()}
        self._held_out: Statistics | None = None

    @property
    def held_out(self) -> Sequence[ImageSource]:
        """Sources of the held-out images."""
        return self._found["held-out"]

    def see(self, side: str, images: Encoded) -> None:
        """Keep the next images of a side."""
        self._sides[side].see(images)

    def read_held_out(self, training: Seen, progress: Progress | None) -> None:
        """Read the held-out images, when all training images were.

        Args:
            training: The training images.
            progress: Told of each batch.

        Raises:
            RL2Error: If there are too few, or some are training images.

        """
        side = self._sides["held-out"]
        statistics, seen = measure(self.held_out, self._how, progress, "held-out", [side.see], training)
        if seen.copied:
            named = ", ".join(f"{one} is {other}" for one, other in seen.copied[:NAMED])
            more = len(seen.copied) - NAMED
            raise RL2Error(
                f"{len(seen.copied)} of {len(statistics)} held-out images are training images pixel for pixel: {named}"
                f"{f' and {more} more' if more > 0 else ''}. Hold out images that the generator was not given, best of "
                "other slides or patients."
            )
        for name in SEARCHED:
            _check_count(name, len(self._sides[name].names), ", without those of one color")
        self._held_out = statistics

    def result(self) -> CopiesResult:
        """What was found, when all images of all sides were seen."""
        train, held, fake = (self._sides[name] for name in ("real", "held-out", "fake"))
        if not fake.names:
            raise RL2Error("All generated images are of one color, so there is nothing to search for copies.")
        views = whitened(train.views, held.views, fake.views, isinstance(self._how.encoder, OwnEncoder))
        return find_copies(
            views[2],
            views[0],
            views[1],
            fake_groups=fake.of or None,
            train_groups=train.of or None,
            held_out_groups=held.of or None,
            fake_names=fake.names,
            train_names=train.names,
        )

    def warnings(self, fake: Statistics) -> list[str]:
        """What makes generated and held-out images, or training and held-out ones, hard to compare."""
        assert self._held_out is not None
        told, px = [], [side.settings.get("px") for side in (self._held_out, fake)]
        if None not in px and px[0] != px[1]:
            sizes = (" and ".join(f"{h} x {w}" for h, w in side[:NAMED]) for side in px if side)
            told.append(
                "Held-out and generated images differ in size, {} against {} px. Held-out images judge copies only "
                "among patches of one size and one mpp.".format(*sizes)
            )
        train, held = (self._sides[name] for name in ("real", "held-out"))
        both = sorted({*train.of} & {*held.of})
        if both:
            told.append(
                f"{len(both)} of {len({*held.of})} groups of held-out images have training images too, "
                f"{', '.join(both[:NAMED])} for one. Held-out patches that lie beside training patches hide copies: "
                "hold out whole slides or patients."
            )
        return told


def copy_search(
    held_out: Source | Sequence[Source] | None,
    found: Mapping[str, Sequence[Statistics | ImageSource]],
    groups: str | Path | None,
    how: Encoding,
) -> CopySearch | None:
    """What searches for copies, if held-out images are given, before an image is read.

    Args:
        held_out: Real images that the generator was not given.
        found: Sources of both sides.
        groups: Of training images, and so of held-out ones.
        how: How they are encoded.

    Raises:
        RL2Error: If there are no training images, too few of them or of held-out ones, or statistics instead of images.

    """
    if held_out is None:
        return None
    if "real" not in found:
        raise RL2Error(
            "Held-out images tell copies of training images, but there are none of these. Give them with --real, or "
            "leave out --held-out."
        )
    sides = {**found, "held-out": find_sources(held_out, groups)}
    images = images_of(sides)
    for one in (one for parts in sides.values() for one in parts):
        if isinstance(one, Statistics):
            raise RL2Error(
                f"The statistics of {one.source} are sums over images, and copies are searched image by image. Give "
                "the images themselves, or leave out --held-out."
            )
    if how.reader.tile is None:
        for name in SEARCHED:
            if not any(isinstance(one.paths, ImageStream) for one in images[name]):
                _check_count(name, sum(len(one.paths) for one in images[name]))
    return CopySearch(images, how)


def _check_count(side: str, count: int, without: str = "") -> None:
    if count < MIN_IMAGES:
        which, given = SEARCHED[side]
        are = f"is {count} {which} image" if count == 1 else f"are {count} {which} images"
        raise RL2Error(f"There {are}{given}{without}. The search for copies needs at least {MIN_IMAGES}.")


def whitened(
    train: Sequence[Tensor], held_out: Sequence[Tensor], fake: Sequence[Tensor], plain: bool = False
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """All views of all sides, spread alike in all directions by what training images are.

    Args:
        train: Views of training images, the softened one last.
        held_out: Those of held-out images.
        fake: Those of generated ones.
        plain: Whether images as they are need this too, which the flow has done for weights of this package.

    """
    sides = ([*train], [*held_out], [*fake])
    for view in range(0 if plain else 1, len(train)):
        values, vectors = torch.linalg.eigh(shrunk_covariance(train[view].double()))
        matrix = vectors / values.clamp(min=1e-9 * float(values[-1]) + 1e-300).sqrt()
        for side in sides:
            side[view] = side[view].double() @ matrix
    return sides
