"""Whether a generator copies its training images, in numbers and in sentences."""

from collections.abc import Sequence
from dataclasses import dataclass

from torchmetrics_rl2.distance.text import LEVEL, p_text, percent

__all__ = ["CopiesResult", "CopyPair"]

NAMED = 3


@dataclass(frozen=True)
class CopyPair:
    """A generated image and the training image that is nearest to it.

    Args:
        image: The generated image.
        nearest: The training image.
        relative_distance: Distance to it, relative to the next nearest ones and to held-out images, see
            :func:`find_copies`: 0 is the training image itself, and 1 as close as the median held-out image.
        p_value: Of the test that a held-out image gets as close, adjusted for the number of generated images
            (Benjamini-Hochberg).
        is_copy: Whether that is below 5 %.

    """

    image: str
    nearest: str
    relative_distance: float
    p_value: float
    is_copy: bool


@dataclass(frozen=True)
class CopiesResult:
    """Whether generated images are closer to training images than held-out ones are.

    Args:
        n_fake: Generated images.
        n_train: Training images.
        n_held_out: Held-out images.
        count: Generated images that are called copies, at a false discovery rate of 5 %.
        share: Their share, less that of the held-out images that are as close.
        interval: Its 95 % interval (Newcombe).
        p_value: Of the test that generated images as a whole are no closer than held-out ones. A generator that leaves
            out kinds of tissue may be closer without a copy.
        units: What the test takes as independent: ``"images"``, or ``"groups"``.
        pairs: All copies, and at least the twelve closest images, the closest first.

    """

    n_fake: int
    n_train: int
    n_held_out: int
    count: int
    share: float
    interval: tuple[float, float]
    p_value: float
    units: str
    pairs: Sequence[CopyPair]

    def __str__(self) -> str:
        if self.count:
            are = "is" if self.count == 1 else "are"
            return (
                f"Copies: {self.count} of {self.n_fake} generated images {are} closer to "
                f"a training image than held-out ones get ({percent(*self.interval)} beyond these); closest: "
                f"{self.pairs[0].image} to {self.pairs[0].nearest}"
            )
        if self.p_value < LEVEL:
            return (
                "No single copy found, but as a whole generated images are closer to training images than held-out "
                f"ones are ({self._test}), by copying in part or by showing other kinds of tissue"
            )
        return (
            f"No copies found: generated images are no closer to training images than held-out ones are ({self._test}; "
            f"up to {percent(self.interval[1])} may be copies that would be found)"
        )

    @property
    def _test(self) -> str:
        p = p_text(self.p_value)
        return f"p {p}{'' if self.units == 'groups' else ' if images are independent'}"

    def details(self) -> str:
        """What is behind it, a sentence a line."""
        closest = [
            f"  {pair.image} to {pair.nearest}: {pair.relative_distance:.2f}{', a copy' if pair.is_copy else ''}"
            for pair in self.pairs[:NAMED]
        ]
        more = self.count - NAMED
        closest += [f"  and {more} more {'copy' if more == 1 else 'copies'}"] if more > 0 else []
        return "\n".join(
            [
                f"Copies: {self.n_fake} generated and {self.n_held_out} held-out images, by their distance to the "
                f"nearest of {self.n_train} training images over that to the next ones. Copies are called at a false "
                f"discovery rate of 5 %; p-value of generated images as a whole being no closer: {self._test[2:]}",
                "Closest, where 1 is the median held-out image:",
                *closest,
            ]
        )
