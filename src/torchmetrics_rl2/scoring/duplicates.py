"""Images that are the same, pixel for pixel: of one side, and of both."""

from collections.abc import Sequence

import torch
from torch import Tensor

from torchmetrics_rl2.distance.kinds import Kinds, rows_of_images
from torchmetrics_rl2.distance.sums import repeat_rows
from torchmetrics_rl2.encoder.encoded import Encoded
from torchmetrics_rl2.functional import LatentSums
from torchmetrics_rl2.images.naming import ImageNames

__all__ = ["Seen", "copied_sentences", "repeated_sentences"]

Pair = tuple[str, str]


class Seen:
    """Images of one side by their pixels, and the latents of those that there are several of.

    Args:
        tiled: Whether files are cut, so that a file is no name for an image.
        other: Images of the other side, to compare with.

    Attributes:
        duplicates: Images that repeat another of this side, each with the first of them.
        copied: Images that are one of the other side too, each with that.

    """

    def __init__(self, tiled: bool = False, other: "Seen | None" = None) -> None:
        self._naming = ImageNames(tiled)
        self._first: dict[str, tuple[str, str]] = {}
        self._several: dict[str, tuple[int, Tensor]] = {}
        self._other = other
        self.duplicates: list[Pair] = []
        self.copied: list[Pair] = []

    def see(self, images: Encoded, groups: Sequence[str] | None) -> list[str] | None:
        """Take the next images.

        Args:
            images: Of this side.
            groups: Theirs, if there are groups.

        Returns:
            Their groups; a copy is of the group of the first, of which it says nothing new.

        """
        joined = []
        for i, (key, name) in enumerate(zip(images.keys, self._naming.of(images.paths), strict=True)):
            group = groups[i] if groups else ""
            if key is None:
                joined.append(group)
                continue
            if key in self._first:
                count, latent = self._several.get(key, (1, images.latents[i].double()))
                self._several[key] = count + 1, latent
                self.duplicates.append((name, self._first[key][0]))
            first = self._first.setdefault(key, (name, group))
            joined.append(first[1])
            if self._other and key in self._other._first:
                self.copied.append((name, self._other._first[key][0]))
        return joined if groups else None

    def repeated(self, kinds: Kinds | None) -> LatentSums | None:
        """One row for each image that there are several of, over its copies.

        Args:
            kinds: The kinds of tissue of the weights, if they have several.

        """
        if not self._several:
            return None
        counts, latents = zip(*self._several.values(), strict=True)
        return repeat_rows(rows_of_images(torch.stack(latents), kinds), torch.tensor(counts))


def repeated_sentences(side: str, pairs: Sequence[Pair], count: int) -> list[str]:
    """What to say of images that repeat others of their side."""
    if not pairs:
        return []
    copy, first = pairs[0]
    images = f"{side} images" if side else "images"
    return [
        f"{len(pairs)} of {count} {images} repeat others pixel for pixel: {copy} is {first}, for one. All count in the "
        "mean, but copies are one unit of interval and test."
    ]


def copied_sentences(pairs: Sequence[Pair], count: int) -> list[str]:
    """What to say of generated images that are among the real ones."""
    if not pairs:
        return []
    copy, real = pairs[0]
    return [
        f"{len(pairs)} of {count} generated images are real ones pixel for pixel: {copy} is {real}, for one. Copies "
        "lower RL2 without being new images; compare with real images that the generator was not given."
    ]
