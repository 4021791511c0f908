"""What an audit found, in numbers and in sentences."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean
from typing import Any

from scipy.stats import spearmanr

from torchmetrics_rl2.distance.result import if_finite

__all__ = ["AuditResult", "Contamination", "Diversity", "LadderResult", "Power", "SeverityResult"]

RISE = 1.1


@dataclass(frozen=True)
class SeverityResult:
    """Response to one severity of a ladder.

    Args:
        severity: As :func:`~torchmetrics_rl2.degradations.degrade` takes it.
        amount: The same in the unit of the ladder.
        value: RL2 of the damaged half from the clean other half.
        debiased: The same without what small sets add.
        interval: 95 % interval of the debiased value; ``None`` with fewer than four units a half.
        p_value: Of the test that the damaged half is like the clean one; ``None`` likewise.
        auc: Probability that a damaged patch is less likely than a clean one under the flow.
        auc_gaussian: The same for one Gaussian on the same features, fitted to the other half.
        auc_handcrafted: The same for one Gaussian on fifteen hand-crafted statistics.

    """

    severity: float
    amount: float
    value: float
    debiased: float
    interval: tuple[float, float] | None
    p_value: float | None
    auc: float
    auc_gaussian: float
    auc_handcrafted: float


@dataclass(frozen=True)
class LadderResult:
    """Response to one ladder, or to one direction of a signed ladder.

    Args:
        number: Number of the ladder.
        name: Name of the ladder, with ``+`` or ``-`` if it is signed.
        family: Its family.
        unit: Of its amounts.
        visible: The amount from which a person clearly sees the damage.
        clean: RL2 of the two clean halves.
        clean_debiased: The same without what small sets add.
        clean_interval: 95 % interval of its debiased value.
        severities: Weakest first.

    """

    number: int
    name: str
    family: str
    unit: str
    visible: float
    clean: float
    clean_debiased: float
    clean_interval: tuple[float, float] | None
    severities: Sequence[SeverityResult]

    @property
    def rho(self) -> float:
        """Spearman's rank correlation of severity and RL2, the clean halves included."""
        values = [self.clean, *(severity.value for severity in self.severities)]
        return float(spearmanr(range(len(values)), values).statistic)

    @property
    def reach(self) -> float:
        """The largest RL2 in multiples of that of the clean halves."""
        return max(severity.value for severity in self.severities) / self.clean

    @property
    def detected_from(self) -> float | None:
        """Weakest amount that is detected at 95 %, and all stronger ones too.

        The test has to reject, and the interval to lie above the debiased value of the clean halves, which by chance
        differ a little, too.
        """
        weakest = None
        for severity in reversed(self.severities):
            rejected = severity.p_value is not None and severity.p_value < 0.05
            if not rejected or severity.interval is None or severity.interval[0] <= max(self.clean_debiased, 0):
                break
            weakest = severity.amount
        return weakest

    @property
    def at_visible(self) -> SeverityResult:
        """The severity from which a person clearly sees the damage."""
        return min(self.severities, key=lambda severity: abs(severity.amount - self.visible))

    @property
    def verdict(self) -> str:
        """One of five words.

        - ``untested``: there are too few units for a test
        - ``inverts``: the interval of a severity lies below that of a weaker one, or of the clean halves
        - ``blind``: the strongest severity is not detected at 95 %
        - ``saturates``: the strongest severity scores less than 1.1 times the one before
        - ``detects``: none of these
        """
        if self.severities[-1].p_value is None:
            return "untested"
        intervals = [self.clean_interval, *(severity.interval for severity in self.severities)]
        for i, weaker in enumerate(intervals):
            if weaker and any(stronger and stronger[1] < weaker[0] for stronger in intervals[i + 1 :]):
                return "inverts"
        if self.detected_from is None:
            return "blind"
        return "saturates" if self.severities[-1].value < RISE * self.severities[-2].value else "detects"

    def to_dict(self) -> dict[str, Any]:
        """With what follows from the numbers."""
        return asdict(self) | {
            "rho": self.rho,
            "reach": self.reach,
            "detected_from": self.detected_from,
            "verdict": self.verdict,
        }


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
        ratio: Spread of the repeated images over that of the others, mean over draws.
        null: 95 % of the ratios of clean halves of the same sizes.
        detected: Share of draws whose ratio is below that.

    """

    ratio: float
    null: tuple[float, float]
    detected: float


@dataclass(frozen=True)
class AuditResult:
    """What a set of weights can and cannot detect, on images that it has not met.

    Args:
        weights: Name with version, or path.
        weights_id: Which latents these are.
        images: Where the images came from.
        n: Images used.
        units: Independent units among them: groups, or files.
        px: Side of the images.
        clean: RL2 between two clean halves that share no unit.
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
        settings: How images were read and drawn.
        versions: Of what the numbers depend on.

    """

    weights: str
    weights_id: str
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
    settings: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

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
        shown = asdict(self) | {"ladders": [ladder.to_dict() for ladder in self.ladders]}
        keys = ("flow", "gaussian", "handcrafted")
        shown["families"] = {name: dict(zip(keys, aucs, strict=True)) for name, aucs in self.families().items()}
        finite: dict[str, Any] = _without_nan(shown)
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
            "verdicts": verdicts,
            "withheld": list(self.withheld),
            "auc": {name: round(aucs[0], 3) for name, aucs in self.families().items()},
            "versions": self.versions,
        }

    def __str__(self) -> str:
        tested = "" if self.clean_p_value is None else f", p = {self.clean_p_value:.2g}"
        lines = [
            f"Audit of {self.weights} ({self.weights_id[:12]}): {self.n} images, {self.units} units, of {self.images}",
            f"Two clean halves are RL2 {self.clean:.3f} apart (debiased {self.clean_debiased:.3f}{tested}); reach is "
            "in multiples of that",
            "",
            f"{'':3}{'ladder':18}{'verdict':>10}{'detected from':>14} {'unit':20}{'rho':>5}{'reach':>8}"
            f"{'AUC at':>10}{'flow':>6}{'Gauss':>6}{'hand':>6}",
        ]
        for ladder in self.ladders:
            severity, weakest = ladder.at_visible, ladder.detected_from
            shown = "-" if weakest is None else f"{weakest:.3g}"
            lines.append(
                f"{ladder.number:2} {ladder.name:18}{ladder.verdict:>10}{shown:>14} {ladder.unit:20}{ladder.rho:5.2f}"
                f"{ladder.reach:8.1f}{severity.amount:10.3g}{severity.auc:6.2f}{severity.auc_gaussian:6.2f}{severity.auc_handcrafted:6.2f}"
            )
        lines.append("")
        for name, (flow, gaussian, handcrafted) in self.families().items():
            lines.append(f"   mean AUC, {name:14}{flow:.3f}   Gaussian {gaussian:.3f}   hand-crafted {handcrafted:.3f}")
        lines.append("")
        for power in self.power:
            shares = "".join(f", {name} {share:.0%}" for name, share in power.power.items())
            lines.append(
                f"{power.n} against {power.n}, of {power.repeats} tests reject: clean {power.level:.1%}{shares}"
            )
        if self.contamination:
            lines.append(
                f"{self.contamination.share:.1%} outliers ({self.contamination.source}): RL2 x {self.contamination.plain:.2f}, "
                f"robust value x {self.contamination.robust:.2f} (blur of 1 px of all: x {self.contamination.blur:.2f}); "
                f"{self.contamination.detected:.0%} of them are the least likely images"
            )
        if self.diversity:
            low, high = self.diversity.null
            lines.append(
                f"Ten images repeated: variance ratio {self.diversity.ratio:.3f}, clean halves {low:.3f} to {high:.3f}; "
                f"detected in {self.diversity.detected:.0%} of draws"
            )
        if self.domain is not None:
            lines.append(
                f"These images are {self.domain:.1f} times as far from the reference inside as its own would be"
            )
        return "\n".join([*lines, *(f"Withheld: {claim}" for claim in self.withheld)])


def _without_nan(value: Any) -> Any:
    """The same with None for NaN and infinity, which JSON does not know."""
    if isinstance(value, dict):
        return {key: _without_nan(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(one) for one in value]
    return if_finite(value) if isinstance(value, float) else value
