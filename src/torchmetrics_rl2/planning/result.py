"""What a plan says, in numbers, sentences and a picture."""

from dataclasses import asdict, dataclass, field
from typing import Any

from torchmetrics_rl2.distance.text import identity_text, percent, three_digits
from torchmetrics_rl2.planning.picture import plot_plan

__all__ = ["PlanGoal", "PlanResult", "PlanRow"]


@dataclass(frozen=True)
class PlanRow:
    """The smallest difference of one sort that each number of images finds.

    Args:
        name: What is found.
        unit: What it is measured in.
        smallest: For each number; ``None`` where even the largest that is known is not found.
        part: Of RL2 that sees it: ``whole``, ``content`` or ``look``.
        beyond: For each number ``<`` or ``>`` where even weaker damage is found, of which it is not known how weak;
            else empty.

    """

    name: str
    unit: str
    smallest: list[float | None]
    part: str
    beyond: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class PlanGoal:
    """A difference that is to be found.

    Args:
        name: What it is, in words.
        distance: How far it moves the mean latent; of two generators the difference of their squared distances.
        part: Of RL2 that sees it: ``whole``, ``content`` or ``look``.
        needed: Units a side that find it, images or groups; ``None`` where no number does.

    """

    name: str
    distance: float
    part: str
    needed: int | None


@dataclass(frozen=True, repr=False)
class PlanResult:
    """How many images it takes to find a difference, and what numbers of them find.

    Args:
        counts: Numbers of units a side: of images, or of groups as large as those of the pilot.
        rows: What these find.
        goals: What is to be found, and how many units that takes.
        power: Share of draws in which it is found.
        n_pilot: Real images of the pilot.
        pilot: Where they came from.
        weights: Name with version, or path.
        weights_id: Which latents these are.
        images_a_group: Images of a group of the pilot on average; ``None`` if images are the units.
        between: Share of the variance of a group's mean that more images of the group do not lower.
        warnings: Sentences on what the plan does not know.

    """

    counts: list[int]
    rows: list[PlanRow]
    goals: list[PlanGoal]
    power: float
    n_pilot: int
    pilot: str
    weights: str
    weights_id: str | None
    images_a_group: float | None = None
    between: float | None = None
    warnings: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """As ``rl2 plan --json`` prints it."""
        return asdict(self)

    def plot(self, ax: Any = None) -> tuple[Any, Any]:
        """Draw the smallest RL2, look and content that is found, by number of images or groups, and the goals.

        Args:
            ax: A matplotlib axis to draw on.

        Returns:
            Figure and axis.

        Raises:
            RL2Error: If matplotlib is missing.

        """
        return plot_plan(self, ax)

    @property
    def units(self) -> str:
        """What is counted."""
        if self.images_a_group is None:
            return "images"
        return f"groups of {self.images_a_group:.3g} image{'s' if self.images_a_group > 1 else ''}"

    def __str__(self) -> str:
        lines = [
            f"Pilot: {self.n_pilot} real images ({self.pilot}); weights {self.weights} "
            f"({identity_text(self.weights_id)})",
            *([_goals_head(self), *_columns([_goal(goal) for goal in self.goals])] if self.goals else []),
            f"Smallest difference found with {percent(self.power)} power, by number of {self.units} a side",
            *_columns([["", *map(str, self.counts)], *(_row(row) for row in self.rows)]),
        ]
        marks = {mark for row in self.rows for mark in row.beyond}
        if any(value is None for row in self.rows for value in row.smallest):
            lines.append("-: not found, however large")
        if beyond := " and ".join(mark for mark in "<>" if mark in marks):
            lines.append(f"{beyond}: weaker damage is found too; how weak is not known")
        if self.between is not None:
            lines.append(
                f"{percent(self.between)} of the variance of a group's mean stays however many images the group has; "
                "the rest falls with more of them"
            )
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"PlanResult({self.n_pilot} images of {self.pilot}, {len(self.rows)} rows, {len(self.goals)} goals)"


def _goals_head(plan: PlanResult) -> str:
    return f"Number of {plan.units} a side that it takes to find, with {percent(plan.power)} power"


def _goal(goal: PlanGoal) -> list[str]:
    needed = "more than ten million" if goal.needed is None else str(goal.needed)
    return [goal.name, needed, f"({goal.part} {three_digits(goal.distance)})"]


def _row(row: PlanRow) -> list[str]:
    name = f"{row.name} ({row.unit})" if row.unit else row.name
    beyond = row.beyond or [""] * len(row.smallest)
    numbers = ("-" if value is None else three_digits(value) for value in row.smallest)
    return [name, *(f"{sign} {number}".strip() for sign, number in zip(beyond, numbers, strict=True))]


def _columns(rows: list[list[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = (f"{cell:>{width}}" for cell, width in zip(others, widths[1:], strict=True))
        lines.append("  ".join([f"  {first:<{widths[0]}}", *cells]).rstrip())
    return lines
