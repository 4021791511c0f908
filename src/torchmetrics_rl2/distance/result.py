"""RL2 with its uncertainty and its provenance, in numbers and in sentences."""

from dataclasses import asdict, dataclass, field
from typing import Any

from torchmetrics_rl2.distance.between_groups import BetweenGroups
from torchmetrics_rl2.distance.copies_result import CopiesResult
from torchmetrics_rl2.distance.details import details_of, html_of, text_of
from torchmetrics_rl2.distance.diversity_result import DiversityResult
from torchmetrics_rl2.distance.explanation import Explanation
from torchmetrics_rl2.distance.kinds import PARTS, Part
from torchmetrics_rl2.distance.parts import KindShare, PartResult
from torchmetrics_rl2.distance.picture import plot_result
from torchmetrics_rl2.distance.strata_result import StrataSplit, StratumResult, strata_scalars
from torchmetrics_rl2.distance.text import CLOSER, LEVEL, NO_DIFFERENCE, three_digits, times, without_nan
from torchmetrics_rl2.distance.uncertainty import MIN_UNITS

__all__ = ["RL2Result"]

CLEARLY = 3.0
SCALARS = (
    *("debiased", "interval", "standard_error", "p_value", "detectable", "variance_ratio", "variance_ratio_interval"),
    *("baseline", "baseline_multiple", "outlier_share", "domain_shift", "n_real", "n_fake"),
)
OF_PARTS = ("debiased", "baseline_multiple")
SAME = 1e-4
EITHER = "different, content and look cannot be told apart"
COPIES = "generated images are copies of real ones"


@dataclass(frozen=True, repr=False)
class RL2Result:
    r"""A distance, how far to trust it, and all that is needed to get it again.

    ``str(result)`` is the verdict in one line, and :meth:`details` has the rest in sentences. Without groups all images
    are taken as independent of each other, which patches of one slide are not; the p-value then rejects far too often,
    and is not printed.

    Args:
        value: RL2 (Eqs. 3 and 4 of the paper). Finite samples add to it, so it may lie above the interval.
        debiased: Signed root of the unbiased squared distance.
        n_real: Real images, or tiles of them.
        n_fake: Generated images, or tiles of them.
        real: Where the real side came from; ``reference data of the weights`` for those inside them.
        fake: Where the generated side came from.
        weights: Name with version, or path.
        weights_id: Which latents these are; ``None`` if the encoder does not say.
        groups_real: Number of groups that are the units of the real side; ``None`` if its images are.
        groups_fake: The same of the generated side.
        standard_error: Of the debiased value: half the interval over its t quantile. This and all below are ``None``
            where a side has fewer than four units, or only sums and no second moments.
        interval: 95 % interval of the debiased value.
        p_value: Of the test that both sides come from one distribution.
        detectable: The smallest distance that this test finds with 80 % power at these numbers of units.
        variance_ratio: Total variance of the generated latents over that of the real ones. A mean does not see lost
            diversity; this falls below 1. ``None`` if all real images are the same.
        variance_ratio_interval: Its 95 % interval, ``None`` also if all images of a side are the same.
        baseline: Real against real: what two random samples of the real images score, of these numbers and grouped as
            these are: the root mean square of RL2 between them, :math:`\sqrt{\mathrm{tr}\,S_r (1 / n_r + 1 / n_g)}`
            without groups.
        baseline_multiple: ``value`` over ``baseline``. Both count what chance adds, so that 1 is what two random
            samples of the real images score. At a real difference it grows with the numbers of images.
        content: How far the sides differ in which tissue is shown: the part of RL2 in the space of the kinds of tissue.
            ``None`` if the weights have no kinds. ``value**2`` is ``content.value**2 + look.value**2``.
        look: How far they differ in how tissue is shown, as by damage and stain: the rest.
        kinds: Share of each kind of tissue on both sides; empty if the weights have no kinds.
        strata: RL2 within each kind of tissue or class, see ``score(by=, real_classes=)`` and
            ``ResNetL2(classes=True)``; empty if not asked for.
        strata_by: ``"kinds"``, ``"classes"``, or empty.
        strata_split: How the whole splits into shares of strata and images within them; ``None`` if none is compared.
        outlier_share: Share of RL2 that goes if the 1 % of the generated images that are furthest from the real mean,
            at most 10,000, are left out: 1 - RL2 of the others / RL2. ``None`` unless all of the generated side is
            images.
        outliers: These images, the furthest first: paths, with ``, tile I`` where they were cut, from 0 and row by row.
        reference_data: What the reference data inside the weights are, by their card; ``None`` where no images were
            read.
        domain_shift: Debiased distance of the real images from the mean of the reference data, in standard deviations
            of these (root total variance), whatever the numbers of images. ``None`` if the real images are the
            reference data, or statistics alone were given.
        between_groups: What real images of one group of the reference data, such as one laboratory, score against the
            others; ``None`` if the real side is not the reference data, or that has fewer than five groups.
        explanation: What look is explained by, and by which images; ``None`` without ``score(explain=True)``.
        warnings: Sentences on what makes the sides differ before any network sees them: size, format, sharpness, stain.
        withheld: Why ``baseline_multiple``, ``outlier_share`` or ``diversity`` is ``None``.
        unreadable: Files that were left out, with the reason.
        left_out: Files of the folders that are no images.
        duplicates: Images that repeat another of their side pixel for pixel, each with the first of them, by side:
            ``real`` and ``fake``.
        copied: Generated images that are among the real ones pixel for pixel, each with the real one.
        copies: Whether generated images are closer to training images than held-out ones; ``None`` without
            ``score(held_out=)``.
        diversity: Whether generated images repeat each other more than real ones do; ``None`` where a side is too few
            images, or not images alone.
        settings: ``tile``, ``scale``, ``batch_size``, ``workers`` and ``device``, where images were read.
        versions: Of Python, torch, torchvision and torchmetrics-rl2, where images were read.

    """

    value: float
    debiased: float
    n_real: int
    n_fake: int
    real: str
    fake: str
    weights: str
    weights_id: str | None
    groups_real: int | None = None
    groups_fake: int | None = None
    standard_error: float | None = None
    interval: tuple[float, float] | None = None
    p_value: float | None = None
    detectable: float | None = None
    variance_ratio: float | None = None
    variance_ratio_interval: tuple[float, float] | None = None
    baseline: float | None = None
    baseline_multiple: float | None = None
    content: PartResult | None = None
    look: PartResult | None = None
    kinds: list[KindShare] = field(default_factory=list)
    strata: list[StratumResult] = field(default_factory=list)
    strata_by: str = ""
    strata_split: StrataSplit | None = None
    outlier_share: float | None = None
    outliers: list[str] | None = None
    reference_data: str | None = None
    domain_shift: float | None = None
    between_groups: BetweenGroups | None = None
    explanation: Explanation | None = None
    warnings: list[str] = field(default_factory=list)
    withheld: dict[str, str] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    duplicates: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    copied: list[tuple[str, str]] = field(default_factory=list)
    copies: CopiesResult | None = None
    diversity: DiversityResult | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def assumes_independence(self) -> bool:
        """Whether the images of a side are taken as independent, because no groups were given."""
        return self.groups_real is None or self.groups_fake is None

    @property
    def verdict(self) -> str:
        """Whether there is a difference beyond chance, in words.

        ``collapsed`` if generated images repeat fewer than four; ``generated images are copies of real ones`` if more
        than half of them are, pixel for pixel, or if both means are the same;
        ``closer than chance allows, as copies of real images are`` if the interval is below 0 and no part differs.

        Else, if the weights have kinds of tissue, ``look differs``, ``content differs``, or both: content if its test
        rejects at 5 %, look if that of groups does, or without groups if its interval lies above its limit. A part
        ``clearly differs`` from three times its baseline on. ``no difference beyond chance`` if neither does, and
        ``different, content and look cannot be told apart`` if the whole does, but each part may be what the other
        leaks. Without kinds the whole is ``different`` or ``clearly different``. Empty where too few images can say.
        """
        distinct = self.n_fake - len(self.duplicates.get("fake", []))
        if distinct < min(MIN_UNITS, self.n_fake):
            return f"collapsed, generated images repeat {distinct} image{'s' if distinct > 1 else ''}"
        is_same = self.baseline_multiple is not None and self.baseline_multiple < SAME
        if is_same or 2 * len(self.copied) > self.n_fake:
            return COPIES
        if self.interval is None:
            return ""
        no_difference = CLOSER if self.interval[1] < 0 else NO_DIFFERENCE
        if self.content is None or self.look is None:
            if not self._differs(self):
                return no_difference
            return "clearly different" if _clearly(self.baseline_multiple) else "different"
        found = [
            f"{name} {'clearly ' if _clearly(part.baseline_multiple) else ''}differs"
            for name, part in (("look", self.look), ("content", self.content))
            if self._differs(part)
        ]
        if not found and self._differs(self) and not (self.is_judged("content") and self.is_judged("look")):
            return EITHER
        return ", ".join(found) or no_difference

    @property
    def look_differs(self) -> bool:
        """Whether look differs beyond chance and beyond its limit, or without kinds of tissue the whole."""
        return self._differs(self.look or self)

    def is_judged(self, part: Part) -> bool:
        """Whether ``"content"`` or ``"look"`` can be told from what a difference of the other of this size moves.

        It differs, or is not above chance, and content that is not found is mostly chance's and not what look may move.
        """
        found: PartResult | None = getattr(self, part)
        if found is None or found.interval is None or found.detectable is None:
            return False
        is_hidden = part == "content" and 2 * found.limit > found.detectable
        return self._differs(found) or (found.interval[0] <= 0 and not is_hidden)

    def _differs(self, part: "PartResult | RL2Result") -> bool:
        if part.interval is None:
            return False
        if part is self.content or not self.assumes_independence:
            return (part.p_value or 0.0) < LEVEL
        return part.interval[0] > getattr(part, "limit", 0.0)

    def to_dict(self) -> dict[str, Any]:
        """As ``rl2 score --json`` prints it: with ``assumes_independence``, and then without a p-value; no NaN."""
        shown: dict[str, Any] = {"verdict": self.verdict or None}
        shown |= asdict(self) | {"assumes_independence": self.assumes_independence}
        for part in (shown, *(shown[name] for name in PARTS if shown[name])):
            part |= {"p_value": None} if self.assumes_independence else {}
            for name in ("interval", "variance_ratio_interval"):
                part |= {name: None} if name in part and None in without_nan(part[name] or ()) else {}
        finite: dict[str, Any] = without_nan(shown)
        return finite

    def scalars(self, prefix: str = "") -> dict[str, float]:
        """All numbers that are known, by name, as ``self.log_dict`` of Lightning takes them.

        Intervals are ``rl2_low`` and ``rl2_high``, of the debiased value, and the same of ``variance_ratio``,
        ``content`` and ``look``. Those of a stratum have its name in front, as in ``stroma/rl2``; ``mixture``,
        ``within`` and ``conditional`` are of :class:`StrataSplit`.

        Args:
            prefix: In front of each name, such as ``"val/"``.

        Example:
            >>> import torch
            >>> from torchmetrics_rl2 import Statistics, compare
            >>> real, fake = (Statistics.of_latents(torch.eye(4) + shift) for shift in (0, 1))
            >>> {name: round(value, 2) for name, value in compare(real, fake).scalars("val/").items()}["val/rl2"]
            2.0

        """
        found: dict[str, Any] = {"rl2": self.value}
        for name in SCALARS:
            value = getattr(self, name)
            if name.endswith("interval"):
                of = "rl2" if name == "interval" else name.removesuffix("_interval")
                found[f"{of}_low"], found[f"{of}_high"] = value or (None, None)
            elif name != "p_value" or not self.assumes_independence:
                found[name] = value
        for name in PARTS:
            part = getattr(self, name)
            if part is not None:
                found[name] = part.value
                found[f"{name}_low"], found[f"{name}_high"] = part.interval or (None, None)
                others = OF_PARTS if self.assumes_independence else (*OF_PARTS, "p_value")
                found |= {f"{name}_{other}": getattr(part, other) for other in others}
        found |= strata_scalars(self)
        return {f"{prefix}{name}": float(value) for name, value in found.items() if value is not None}

    def plot(self, ax: Any = None) -> tuple[Any, Any]:
        """Draw content across and look up, with baselines, 95 % intervals and arcs of equal RL2.

        The dot is ``content.value`` and ``look.value``, and the cross the intervals, which are of the debiased values.
        In the shaded areas a part is not claimed, because the other part alone may reach that far. Without kinds of
        tissue, RL2 is a bar. For values over time see :meth:`ResNetL2.plot`.

        Args:
            ax: A matplotlib axis to draw on.

        Returns:
            Figure and axis.

        Raises:
            RL2Error: If matplotlib is missing.

        """
        return plot_result(self, ax)

    def _repr_html_(self) -> str:
        """A small table, for notebooks."""
        return html_of(self)

    def __str__(self) -> str:
        return text_of(self)

    @property
    def data(self) -> str:
        """What the reference data inside the weights are, or else the weights."""
        return self.reference_data or self.weights

    def __repr__(self) -> str:
        parts = "".join(f", {name} {three_digits(part.value)}" for name in PARTS if (part := getattr(self, name)))
        interval = "" if self.interval is None else " [{}, {}]".format(*map(three_digits, self.interval))
        multiple = "" if self.baseline_multiple is None else f", {times(self.baseline_multiple)}x baseline"
        return (
            f"RL2Result({three_digits(self.value)}, debiased {three_digits(self.debiased)}{interval}{multiple}{parts}, "
            f"{self.n_fake} generated and {self.n_real} real images, weights {self.weights!r})"
        )

    def details(self) -> str:
        """What is behind the verdict, a sentence a line."""
        return details_of(self)


def _clearly(multiple: float | None) -> bool:
    return float(times(multiple or 0.0)) >= CLEARLY  # as it is printed
