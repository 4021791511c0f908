"""Whether a generator repeats itself, in numbers and in sentences."""

from collections.abc import Sequence
from dataclasses import dataclass

from torchmetrics_rl2.distance.text import p_text, percent

__all__ = ["DiversityResult", "Repeats"]

NAMED = 3


@dataclass(frozen=True)
class Repeats:
    """Generated images that are near-duplicates of one of them.

    Args:
        count: How many there are, that one included.
        images: Up to twelve of them, that one first.

    """

    count: int
    images: Sequence[str]


@dataclass(frozen=True)
class DiversityResult:
    """Whether generated images have more near-duplicates among themselves than real ones do, as many against as many.

    Args:
        n: Images of each side that were compared: all of the smaller side, and a random sample of the larger one.
        n_fake: Generated images that this is a sample of; those of almost one color do not count.
        n_real: The same of the real side.
        count: Generated images with a near-duplicate among the generated ones, see :func:`find_repeats`.
        share: Their share.
        expected: Share of the real images that have one among the real ones.
        interval: 95 % interval of ``share - expected`` (Newcombe), with images that repeat each other as one unit.
        p_value: Of the test that both sides come from one distribution, by the difference of these shares.
        units: What the test takes as independent: ``"images"``, or ``"groups"``.
        distinct: How many images are left if near-duplicates count as one.
        distinct_real: The same of the real side.
        is_lost: Whether ``p_value`` is below 5 % and ``interval`` above 2 %.
        repeats: The twelve images that are repeated most, the most repeated first.

    """

    n: int
    n_fake: int
    n_real: int
    count: int
    share: float
    expected: float
    interval: tuple[float, float]
    p_value: float
    units: str
    distinct: int
    distinct_real: int
    is_lost: bool
    repeats: Sequence[Repeats]

    def __str__(self) -> str:
        if self.is_lost:
            images = "image" if self.distinct == 1 else "images"
            return (
                f"Lost diversity: {self.count} of {self.n}{self._sampled} generated images have a near-duplicate among "
                f"the generated ones (expected: {percent(self.expected)}, as among real ones); all {self.n} "
                f"look like {self.distinct} distinct {images}"
            )
        return (
            f"No lost diversity found: {self.count} of {self.n}{self._sampled} generated images have a near-duplicate "
            f"among the generated ones (expected: {percent(self.expected)}, as among real ones)"
        )

    @property
    def _sampled(self) -> str:
        return " sampled" if self.n < self.n_fake else ""

    def details(self) -> str:
        """What is behind it, a sentence a line."""
        independent = "" if self.units == "groups" else " if images are independent"
        ends = " to ".join(f"{100 * end:.0f}" for end in self.interval)
        lines = [
            f"Diversity: {percent(self.share)} of {self.n} generated images have a near-duplicate among them, and "
            f"{percent(self.expected)} of {self.n} real ones ({ends} points more, p {p_text(self.p_value)}"
            f"{independent}); {self.distinct} and {self.distinct_real} of them are distinct"
        ]
        if self.repeats:
            lines += ["Repeated most:"]
            lines += [
                f"  {one.count} images like {one.images[0]}, such as {one.images[1]}" for one in self.repeats[:NAMED]
            ]
        return "\n".join(lines)
