"""What an audit found on another composition, and on what damage and composition each move that they should not."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean
from typing import Any, Literal

from torchmetrics_rl2.auditing.draws import REPEATS

__all__ = ["Cause", "ContentLadder", "ContentStep", "CrossTalk", "Differing", "matrix_lines", "mean_cross_talk"]

Cause = Literal["nothing", "content", "repeats", "damage"]
HALF = 0.5
WEAK = 0.15  # three times what chance alone is promised to find


@dataclass(frozen=True)
class Differing:
    """Share of draws in which two sets of images are told apart, at 5 %.

    Args:
        n: Images a side.
        look: Share in which look differs, beyond its limit.
        content: The same of content.
        whole: The same of RL2 as a whole.
        varies_less: Share in which the 95 % interval of the variance ratio lies below 1.

    """

    n: int
    look: float
    content: float
    whole: float
    varies_less: float


@dataclass(frozen=True)
class ContentStep:
    """One composition of the generated side.

    Args:
        name: What is wrong with it.
        amount: Share of the images that are of another kind than they should be; number of images, where they repeat.
        draws: By number of images a side, smallest first.

    """

    name: str
    amount: float
    draws: Sequence[Differing]


@dataclass(frozen=True)
class ContentLadder:
    """Response to one way in which the composition of a set can be wrong.

    Args:
        name: Of the ladder.
        steps: In rising severity, or one for each kind of tissue.
        rises: Whether they rise in severity.
        cause: ``content``, or ``repeats``.

    """

    name: str
    steps: Sequence[ContentStep]
    rises: bool
    cause: Cause = "content"

    @property
    def worst(self) -> ContentStep:
        """The step whose content differs least often, at the largest number of images."""
        return min(self.steps, key=lambda step: step.draws[-1].content)

    @property
    def power(self) -> dict[int, float]:
        """Share of draws in which content differs, by number of images: of the last step, or the mean over kinds."""
        steps = self.steps[-1:] if self.rises else self.steps
        sizes = [one.n for one in steps[0].draws]
        return {n: fmean(step.draws[i].content for step in steps) for i, n in enumerate(sizes)}

    @property
    def verdict(self) -> str:
        """``detects`` if content differs in half of the draws or more, ``weak`` in 15 % or more, else ``blind``.

        At the largest number of images; of a ladder in rising severity the last step counts, else the mean over kinds.
        """
        found = self.power[max(self.power)]
        return "detects" if found >= HALF else "weak" if found >= WEAK else "blind"

    def rows(self) -> "list[CrossTalk]":
        """The steps at the largest number of images; of one step for each kind, the mean and the worst."""
        if self.rises:
            found = [CrossTalk(**asdict(step.draws[-1]), wrong=step.name, cause=self.cause) for step in self.steps]
            return [*found[:-1], replace(found[-1], verdict=self.verdict)]
        draws = [asdict(step.draws[-1]) for step in self.steps]
        mean = {name: fmean(one[name] for one in draws) for name in draws[0]} | {"n": draws[0]["n"]}
        name = f"{self.name}, mean of {len(draws)}"
        worst = CrossTalk(**asdict(self.worst.draws[-1]), wrong=f"{self.worst.name}, the worst", cause=self.cause)
        return [CrossTalk(**mean, wrong=name, cause=self.cause, verdict=self.verdict), worst]

    def to_dict(self) -> dict[str, Any]:
        """With what follows from the numbers."""
        worst = None if self.rises else self.worst.name
        return asdict(self) | {"verdict": self.verdict, "power": self.power, "worst": worst}


@dataclass(frozen=True, kw_only=True)
class CrossTalk(Differing):
    """How often each part differs, by what is wrong with the generated side.

    Coarser magnification is left out: its fields are other images, and of another composition by chance.

    Args:
        wrong: What is wrong.
        cause: ``nothing``, ``content``, ``repeats`` for few images that fill a set, or ``damage``.
        at: Of damage: ``visible``, the severity from which a person clearly sees it, or ``weakest``.
        verdict: Of the content ladder, where this row decides it.

    """

    wrong: str
    cause: Cause
    at: Literal["visible", "weakest"] | None = None
    verdict: str | None = None


def mean_cross_talk(rows: Sequence[CrossTalk]) -> dict[str, float]:
    """How often damage moves content and another composition look, on average, and the number of images a side."""
    chosen = {
        "content_of_weakest_damage": [row.content for row in rows if row.at == "weakest"],
        "content_of_visible_damage": [row.content for row in rows if row.at == "visible"],
        "look_of_content": [row.look for row in rows if row.cause == "content"],
    }
    means: dict[str, float] = {name: round(fmean(shares), 3) for name, shares in chosen.items() if shares}
    return means | {"n": rows[0].n} if rows else means


def matrix_lines(rows: Sequence[CrossTalk]) -> list[str]:
    """What is wrong, a row each, and how often that is seen; damage at its weakest beside that which is visible."""
    if not rows:
        return []
    width = max(34, *(len(row.wrong) + 1 for row in rows))
    columns = f"{'look':>6}{'content':>9}{'whole':>7}{'varies less':>13}"
    lines = [
        f"How often a difference is found at 5 %, in % of {REPEATS} random pairs of sets, {rows[0].n} images each:",
        "",
        f"   {'what is wrong':{width}}{columns}   verdict of content",
        *(_line(row, width) + f"   {row.verdict or ''}".rstrip() for row in rows if row.cause != "damage"),
    ]
    weakest, visible = ([row for row in rows if row.at == at] for at in ("weakest", "visible"))
    if visible:
        lines += [
            "",
            f"   {'damage that a person clearly sees':{width}}{columns}   look, content, whole at its weakest",
        ]
    for row, other in zip(visible, weakest, strict=True):
        shares = ", ".join(f"{100 * share:.0f}" for share in (other.look, other.content, other.whole))
        lines.append(f"{_line(row, width)}   {shares}")
    return lines


def _line(row: CrossTalk, width: int) -> str:
    shares = 100 * row.look, 100 * row.content, 100 * row.whole, 100 * row.varies_less
    return f"   {row.wrong:{width}}" + "{:6.0f}{:9.0f}{:7.0f}{:13.0f}".format(*shares)
