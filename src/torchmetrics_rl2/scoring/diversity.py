"""Thumbnails of real and generated images, to tell whether a generator repeats itself."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from torchmetrics_rl2.distance.diversity import MAX_IMAGES, MIN_IMAGES, find_repeats, has_contrast
from torchmetrics_rl2.distance.result import RL2Result
from torchmetrics_rl2.distance.statistics import Statistics
from torchmetrics_rl2.encoder.encoded import Encoded
from torchmetrics_rl2.images.naming import ImageNames
from torchmetrics_rl2.scoring.sources import ImageSource, group_of_each

__all__ = ["Thumbnails", "add_diversity"]


class Thumbnails:
    """Those of a random sample of up to 5,000 images of one side, with a fixed seed; none of almost one color.

    Args:
        sources: Of this side.
        tiled: Whether files are cut, so that a file is no name for an image.

    Attributes:
        is_whole: Whether this side is images alone, and not statistics too.
        count: How many images it has, without those of almost one color.

    """

    def __init__(self, sources: Sequence[Statistics | ImageSource], tiled: bool) -> None:
        self.is_whole = all(isinstance(one, ImageSource) for one in sources)
        self.count = 0
        self._naming, self._draws = ImageNames(tiled), np.random.default_rng(0)
        self._groups: Mapping[Path, str] | None = group_of_each(sources)
        self._kept: list[tuple[float, int, Tensor, str, str]] = []

    def see(self, images: Encoded) -> None:
        """Take the next images."""
        names = self._naming.of(images.paths)
        for row in has_contrast(images.thumbnails).nonzero().flatten().tolist():
            group = self._groups[images.paths[row]] if self._groups else ""
            # Those with the lowest of random numbers are a sample, however many follow; a view would keep all others.
            thumbnail = images.thumbnails[row].clone()
            self._kept.append((self._draws.random(), self.count, thumbnail, names[row], group))
            self.count += 1
        if len(self._kept) > 2 * MAX_IMAGES:
            self._sample()

    @property
    def images(self) -> Tensor:
        """Thumbnails of the sample, in the order in which they were seen, ``(N, 8, 8)``."""
        self._sample()
        return torch.stack([one[2] for one in self._kept]) if self._kept else torch.empty(0, 1, 1)

    @property
    def names(self) -> list[str]:
        """What its images are called."""
        return [one[3] for one in self._kept]

    @property
    def groups(self) -> list[str] | None:
        """The group of each, if there are groups."""
        return [one[4] for one in self._kept] if self._groups else None

    def _sample(self) -> None:
        lowest = sorted(self._kept, key=lambda one: one[0])[:MAX_IMAGES]
        self._kept = sorted(lowest, key=lambda one: one[1])


def add_diversity(result: RL2Result, fake: Thumbnails, real: Thumbnails | None) -> RL2Result:
    """A result that says whether generated images repeat each other more than real ones do, or why it does not.

    Args:
        result: Of both sides.
        fake: Of the generated side.
        real: Of the real side; ``None`` for the reference inside the weights.

    """
    if real is None or not (fake.is_whole and real.is_whole):
        return result
    if min(fake.count, real.count) < MIN_IMAGES:
        reason = (
            f"it needs {MIN_IMAGES} images a side that are not of almost one color, and there are {fake.count} "
            f"generated and {real.count} real ones"
        )
        return replace(result, withheld=result.withheld | {"diversity": reason})
    images = fake.images, real.images
    found = find_repeats(*images, fake_groups=fake.groups, real_groups=real.groups, fake_names=fake.names)
    withheld = {name: reason for name, reason in result.withheld.items() if name != "diversity"}
    return replace(result, diversity=replace(found, n_fake=fake.count, n_real=real.count), withheld=withheld)
