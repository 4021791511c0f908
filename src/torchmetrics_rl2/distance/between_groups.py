"""How far each group of the reference data lies from the others: what a distance from all of them is judged by."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from torchmetrics_rl2.distance.kinds import PARTS
from torchmetrics_rl2.distance.statistics import Statistics
from torchmetrics_rl2.distance.sums import group_mean_variance
from torchmetrics_rl2.distance.text import three_digits
from torchmetrics_rl2.functional import LatentSums, debias, distance, mean_variance

__all__ = ["BetweenGroups", "between_groups", "group_distances"]

MIN_GROUPS = 5
MIN_IMAGES = 8


@dataclass(frozen=True)
class BetweenGroups:
    """What real images of one group of the reference, such as one laboratory, score against those of all others.

    Args:
        units: What the groups are, in the plural.
        count: Number of groups with eight images or more.
        whole: Least, median and greatest debiased distance of such a group.
        content: The same of the content; ``None`` if the weights have no kinds.
        look: The same of the look.

    """

    units: str
    count: int
    whole: tuple[float, float, float]
    content: tuple[float, float, float] | None = None
    look: tuple[float, float, float] | None = None

    def is_exceeded_by(self, debiased: float) -> bool:
        """Whether a debiased distance is greater than that of any group.

        Args:
            debiased: Of generated images from all of the reference.

        """
        return debiased > self.whole[2]

    def sentence(self, debiased: float) -> str:
        """A debiased distance beside the range.

        Args:
            debiased: Of generated images from all of the reference.

        """
        low, middle, high = self.whole
        place = "further than" if self.is_exceeded_by(debiased) else "closer than" if debiased < low else "as far as"
        any_of = "some" if place == "as far as" else "any"
        return (
            f"Debiased {three_digits(debiased)}, {place} real images of {any_of} of the {self.count} {self.units} with "
            f"{MIN_IMAGES} images or more, each measured against the others: {three_digits(low)} to "
            f"{three_digits(high)}, median {three_digits(middle)}"
        )


def between_groups(reference: Statistics) -> BetweenGroups | None:
    """The range over groups; ``None`` where there are fewer than five of eight images or more.

    Args:
        reference: Real images with groups; ``groups`` of its settings says what these are, in the plural.

    """
    if reference.groups is None or int((reference.groups.count >= MIN_IMAGES).sum()) < MIN_GROUPS:
        return None
    found = group_distances(reference)
    parts = {name: _range(group_distances(reference.part(name))) for name in PARTS} if reference.kinds else {}
    units = reference.settings.get("groups")
    named = units if isinstance(units, str) and units else "groups"
    return BetweenGroups(named, len(found), _range(found), **parts)


def group_distances(statistics: Statistics) -> list[float]:
    """Debiased distance of each group of at least eight images from all others together.

    Args:
        statistics: Real images, with groups.

    """
    groups, found = statistics.groups, []
    assert groups is not None
    for row, count in enumerate(groups.count.tolist()):
        if count >= MIN_IMAGES:
            others = [other for other in range(len(groups.count)) if other != row]
            one, rest = _rows(groups, row), _rows(groups, others)
            whole = LatentSums(rest.sum.sum(0), rest.square_sum.sum(), rest.count.sum())
            found.append(float(debias(distance(one, whole), mean_variance(one) + group_mean_variance(rest))))
    return found


def _rows(groups: LatentSums, rows: int | Sequence[int]) -> LatentSums:
    return LatentSums(groups.sum[rows], groups.square_sum[rows], groups.count[rows])


def _range(distances: Sequence[float]) -> tuple[float, float, float]:
    return min(distances), median(distances), max(distances)
