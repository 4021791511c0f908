"""What an audit found, in numbers and in sentences."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean
from typing import Any

from torchmetrics_rl2.auditing.content_result import ContentLadder, CrossTalk, matrix_lines, mean_cross_talk
from torchmetrics_rl2.auditing.ladder_result import LadderResult
from torchmetrics_rl2.distance.text import identity_text, p_text, without_nan

__all__ = ["AuditResult", "Contamination", "Diversity", "Power"]


@dataclass(frozen=True)
class Power:
    """Share of tests that reject, of sets drawn from the images, against as many other ones.

    Args:
        n: Units a side.
        repeats: Tests.
        level: Share rejected at 5 % where both sides are clean: 0.05 is right.
        power: Share rejected where one side is damaged, by ladder and amount.

    """

    n: int
    repeats: int
    level: float
    power: dict[str, float]


@dataclass(frozen=True)
class Contamination:
    """Effect of a few outliers in a set.

    Args:
        source: Where they came from.
        share: Their share of the set.
        plain: RL2 of the set in multiples of RL2 without them.
        robust: The same with latents squashed beyond the norm of all but 1 % of real ones.
        blur: What blur of 1 px of all images does to the robust value, in the same multiples.
        detected: Share of the outliers that are the least likely ones of the set.
        unreadable: Files of the source that were left out, with the reason.

    """

    source: str
    share: float
    plain: float
    robust: float
    blur: float
    detected: float
    unreadable: Sequence[str] = ()


@dataclass(frozen=True)
class Diversity:
    """What ten images, repeated to fill a set, do to the variance ratio.

    Args:
        ratio: Total variance of the repeated images over that of the others, mean over draws.
        null: 95 % of the ratios of clean halves of the same sizes.
        detected: Share of draws whose ratio is below that.

    """

    ratio: float
    null: tuple[float, float]
    detected: float


@dataclass(frozen=True, repr=False)
class AuditResult:
    """What a set of weights can and cannot detect, on images that it has not met.

    Args:
        weights: Name with version, or path.
        weights_id: Which latents these are; ``None`` if the encoder does not say.
        images: Where the images came from.
        n: Images used.
        units: Independent units among them: groups, or files.
        px: Side of the images.
        clean: Distance of two clean halves that share no unit, of look or of the whole, see ``part``.
        clean_debiased: The same without what small sets add.
        clean_p_value: Of the test that the halves are alike; ``None`` with fewer than four units a half.
        domain: RL2 of the images from the reference inside the weights, in multiples of what as many of its own images
            would score; ``None`` without a reference.
        ladders: Response to each ladder.
        power: Power and level by number of units.
        contamination: Effect of a few outliers.
        diversity: Effect of repeated images.
        withheld: Claims that these images are too few for.
        unreadable: Files left out, and why.
        left_out: Files of the folder that are no images.
        settings: How images were read and drawn.
        versions: Of what the numbers depend on.
        kinds: Number of images of each kind of tissue; empty if the weights have none.
        content: Response to each way in which the composition of a set can be wrong; empty likewise.
        cross_talk: How often look, content and the whole differ, by what is wrong; empty likewise.

    """

    weights: str
    weights_id: str | None
    images: str
    n: int
    units: int
    px: int
    clean: float
    clean_debiased: float
    clean_p_value: float | None
    domain: float | None
    ladders: Sequence[LadderResult]
    power: Sequence[Power]
    contamination: Contamination | None
    diversity: Diversity | None
    withheld: Sequence[str]
    unreadable: Sequence[str] = ()
    left_out: Sequence[str] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    kinds: dict[str, int] = field(default_factory=dict)
    content: Sequence[ContentLadder] = ()
    cross_talk: Sequence[CrossTalk] = ()

    @property
    def part(self) -> str:
        """What damage is judged by: ``look``, or ``whole`` if the weights have no kinds of tissue."""
        return self.ladders[0].part

    def __repr__(self) -> str:
        counted = ", ".join(f"{len(names)} {verdict}" for verdict, names in self.summary()["verdicts"].items())
        return f"AuditResult({self.weights!r}, {self.n} images, ladders: {counted})"

    @property
    def name(self) -> str:
        """Weights and their identity, as they are printed."""
        return f"{self.weights} ({identity_text(self.weights_id)})"

    def families(self) -> dict[str, tuple[float, float, float]]:
        """Mean AUC of each family at clearly visible severities: flow, Gaussian, hand-crafted."""
        names = dict.fromkeys(ladder.family for ladder in self.ladders)
        severities = {name: [one.at_visible for one in self.ladders if one.family == name] for name in names}
        return {
            name: (
                fmean(r.auc for r in ours),
                fmean(r.auc_gaussian for r in ours),
                fmean(r.auc_handcrafted for r in ours),
            )
            for name, ours in severities.items()
        }

    def to_dict(self) -> dict[str, Any]:
        """As ``rl2 audit --json`` prints it."""
        shown = asdict(self) | {"part": self.part, "ladders": [ladder.to_dict() for ladder in self.ladders]}
        shown["content"] = [ladder.to_dict() for ladder in self.content]
        keys = ("flow", "gaussian", "handcrafted")
        shown["families"] = {name: dict(zip(keys, aucs, strict=True)) for name, aucs in self.families().items()}
        finite: dict[str, Any] = without_nan(shown)
        return finite

    def summary(self) -> dict[str, Any]:
        """The little that goes into a weights file."""
        verdicts: dict[str, list[str]] = {}
        for ladder in self.ladders:
            verdicts.setdefault(ladder.verdict, []).append(ladder.name)
        return {
            "images": self.images,
            "n": self.n,
            "units": self.units,
            "part": self.part,
            "verdicts": verdicts,
            "content": {ladder.name: ladder.verdict for ladder in self.content},
            "cross_talk": mean_cross_talk(self.cross_talk),
            "withheld": list(self.withheld),
            "auc": {name: round(aucs[0], 3) for name, aucs in self.families().items()},
            "versions": self.versions,
        }

    def __str__(self) -> str:
        lines = [*self.heading_sentences(), "", *self._table(), ""]
        for name, (flow, gaussian, handcrafted) in self.families().items():
            lines.append(f"   mean AUC, {name:14}{flow:.3f}   Gaussian {gaussian:.3f}   hand-crafted {handcrafted:.3f}")
        if self.cross_talk:
            lines += ["", *self._kinds(), *matrix_lines(self.cross_talk)]
        return "\n".join([*lines, "", *self.check_sentences(), *(f"Withheld: {claim}" for claim in self.withheld)])

    def _kinds(self) -> list[str]:
        how = "as given" if self.settings.get("kinds") else "by the weights"
        return [f"Kinds of tissue, {how}: {', '.join(f'{name} {count}' for name, count in self.kinds.items())}"]

    def heading_sentences(self) -> list[str]:
        """What was audited, and what the numbers are."""
        part = "RL2" if self.part == "whole" else "look"
        tested = "" if self.clean_p_value is None else f", p {_with_sign(p_text(self.clean_p_value))}"
        judged = "Damage is judged by look, how tissue is shown; composition by content, which tissue is shown"
        return [
            f"Audit of {self.name}: {self.n} images, {self.units} units, of {self.images}",
            f"Two clean halves: {part} {self.clean:.3f} (debiased {self.clean_debiased:.3f}{tested})",
            f"rho: rank correlation of {part} with severity. reach: largest {part} in multiples of the clean halves. "
            "AUC: of damage that a person clearly sees",
            *([] if self.part == "whole" else [judged]),
        ]

    def _table(self) -> list[str]:
        lines = [
            f"{'':3}{'ladder':18}{'verdict':>10}{'detected from':>14} {'unit':20}{'rho':>5}{'reach':>8}"
            f"{'AUC at':>10}{'flow':>6}{'Gauss':>6}{'hand-crafted':>13}"
        ]
        for ladder in self.ladders:
            at, weakest = ladder.at_visible, ladder.detected_from
            shown = "-" if weakest is None else f"{weakest:.3g}"
            lines.append(
                f"{ladder.number:2} {ladder.name:18}{ladder.verdict:>10}{shown:>14} {ladder.unit:20}{ladder.rho:5.2f}"
                f"{ladder.reach:8.1f}{at.amount:10.3g}{at.auc:6.2f}{at.auc_gaussian:6.2f}{at.auc_handcrafted:13.2f}"
            )
        return lines

    def check_sentences(self) -> list[str]:
        """What was found of power, outliers, diversity and domain."""
        lines = []
        for power in self.power:
            shares = "".join(f", {name} {share:.0%}" for name, share in power.power.items())
            lines.append(
                f"Power at {power.n} against {power.n} units: of {power.repeats} tests reject clean {power.level:.1%}"
                f"{shares}"
            )
        sizes = list(self.content[0].power) if self.content else []
        for n in sizes if len(sizes) > 1 else []:
            shares = ", ".join(f"{ladder.name} {ladder.power[n]:.0%}" for ladder in self.content)
            lines.append(f"Content at {n} against {n} images differs in draws of: {shares}")
        if self.contamination:
            found = self.contamination
            lines.append(
                f"{found.share:.1%} outliers ({found.source}): RL2 x {found.plain:.2f}, robust RL2 x "
                f"{found.robust:.2f} (blurring all images by 1 px: x {found.blur:.2f}); {found.detected:.0%} of the "
                "outliers are the least likely images"
            )
        if self.diversity:
            low, high = self.diversity.null
            lines.append(
                f"Ten images repeated: variance ratio {self.diversity.ratio:.3f}; clean halves have {low:.3f} to "
                f"{high:.3f}; detected in {self.diversity.detected:.0%} of draws"
            )
        if self.domain is not None:
            lines.append(
                f"Domain: these images score {self.domain:.1f}x the baseline of the weights' reference data; 1x is in "
                "domain"
            )
        return lines


def _with_sign(p_value: str) -> str:
    return p_value if p_value.startswith("<") else f"= {p_value}"
