"""RL2 with its uncertainty and its provenance, in numbers and in sentences."""

import math
from dataclasses import asdict, dataclass, field
from html import escape
from typing import Any

from torchmetrics_rl2.distance.statistics import REFERENCE
from torchmetrics_rl2.distance.text import LEVEL, identity_text, p_text, three_digits, times
from torchmetrics_rl2.distance.uncertainty import MIN_UNITS

__all__ = ["MAX_DOMAIN_SHIFT", "RL2Result", "if_finite"]

PRINTED = 3
MAX_DOMAIN_SHIFT = 0.5
# An outlier share nearer to 0 than this says nothing: 1 % of the images hold about 1 % of the distance.
MIN_OUTLIER_SHARE = 0.02
CLEARLY = 3.0
SCALARS = (
    *("debiased", "interval", "standard_error", "p_value", "detectable", "variance_ratio", "variance_ratio_interval"),
    *("baseline", "baseline_multiple", "outlier_share", "domain_shift", "n_real", "n_fake"),
)
SAME = 1e-4
COPIES = "generated images are copies of real ones"
CLOSER = "closer than chance allows, as copies of real images are"


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
        outlier_share: Share of RL2 that goes if the 1 % of the generated images that are furthest from the real mean,
            at most 10,000, are left out: 1 - RL2 of the others / RL2. ``None`` unless all of the generated side is
            images.
        outliers: These images, the furthest first: paths, with ``, tile I`` where they were cut, from 0 and row by row.
        reference_data: What the reference data inside the weights are, by their card; ``None`` where no images were
            read.
        domain_shift: Debiased distance of the real images from the mean of the reference data, in standard deviations
            of these (root total variance), whatever the numbers of images. ``None`` if the real images are the
            reference data, or statistics alone were given.
        warnings: Sentences on what makes the sides differ before any network sees them: size, format, sharpness, stain.
        withheld: Why ``baseline_multiple`` or ``outlier_share`` is ``None``.
        unreadable: Files that were left out, with the reason.
        left_out: Files of the folders that are no images.
        duplicates: Images that repeat another of their side pixel for pixel, each with the first of them, by side:
            ``real`` and ``fake``.
        copied: Generated images that are among the real ones pixel for pixel, each with the real one.
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
    outlier_share: float | None = None
    outliers: list[str] | None = None
    reference_data: str | None = None
    domain_shift: float | None = None
    warnings: list[str] = field(default_factory=list)
    withheld: dict[str, str] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    duplicates: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    copied: list[tuple[str, str]] = field(default_factory=list)
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
        ``closer than chance allows, as copies of real images are`` if the interval is below 0;
        ``no difference beyond chance`` if the test of groups does not reject at 5 %, or without groups if the interval
        includes 0; else ``different``, and ``clearly different`` from three times the baseline on. Empty where there
        are too few images to say.
        """
        distinct = self.n_fake - len(self.duplicates.get("fake", []))
        if distinct < min(MIN_UNITS, self.n_fake):
            return f"collapsed, generated images repeat {distinct} image{'s' if distinct > 1 else ''}"
        is_same = self.baseline_multiple is not None and self.baseline_multiple < SAME
        if is_same or 2 * len(self.copied) > self.n_fake:
            return COPIES
        if self.interval is None:
            return ""
        if self.interval[1] < 0:
            return CLOSER
        rejected = self.interval[0] > 0 if self.assumes_independence else (self.p_value or 0.0) < LEVEL
        if not rejected:
            return "no difference beyond chance"
        multiple = float(times(self.baseline_multiple or 0.0))  # as it is printed
        return "clearly different" if multiple >= CLEARLY else "different"

    def to_dict(self) -> dict[str, Any]:
        """As ``rl2 score --json`` prints it: with ``assumes_independence``, and then without a p-value; no NaN."""
        shown: dict[str, Any] = {"verdict": self.verdict or None}
        shown |= asdict(self) | {"assumes_independence": self.assumes_independence}
        shown |= {"p_value": None} if self.assumes_independence else {}
        for name in ("interval", "variance_ratio_interval"):
            ends = getattr(self, name)
            shown[name] = None if ends is None or None in map(if_finite, ends) else ends
        return {key: if_finite(value) if isinstance(value, float) else value for key, value in shown.items()}

    def scalars(self, prefix: str = "") -> dict[str, float]:
        """All numbers that are known, by name, as ``self.log_dict`` of Lightning takes them.

        Intervals are ``rl2_low`` and ``rl2_high``, of the debiased value, and the same of ``variance_ratio``.

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
        return {f"{prefix}{name}": float(value) for name, value in found.items() if value is not None}

    def _repr_html_(self) -> str:
        """A small table, for notebooks."""
        shown = {
            "RL2": f"{three_digits(self.value)}{f', {self.verdict}' if self.verdict else ''}",
            "Times the real-against-real baseline": self.baseline_multiple and times(self.baseline_multiple),
            "95 % interval, debiased": self.interval and " to ".join(map(three_digits, self.interval)),
            "Generated": f"{self.n_fake} images, {self.fake}",
            "Real": f"{self.n_real} images, {self.real}",
            "Weights": f"{self.weights} ({identity_text(self.weights_id)})",
        }
        rows = (f"<tr><th>{name}</th><td>{escape(value)}</td></tr>" for name, value in shown.items() if value)
        return f"<table>{''.join(rows)}</table>"

    def __str__(self) -> str:
        if self.baseline_multiple is None:
            why = self.withheld.get("baseline_multiple", "")
            return f"RL2 {three_digits(self.value)}: no multiple of the baseline, {why}"
        line = f"RL2 {three_digits(self.value)}: {times(self.baseline_multiple)}x the real-against-real baseline"
        verdict = self.verdict or self._why_no_interval()
        if "different" in self.verdict and self.baseline_multiple < 1:
            verdict += "; below 1x because generated images vary less than real ones"
        if self.real != REFERENCE:
            return f"{line} at these sample sizes: {verdict}"
        line = f"{line} at these sample sizes, against the reference data inside the weights, {self._data()}: {verdict}"
        if self.weights.endswith(".safetensors"):  # a file of one's own, with one's own images
            return line
        advice = "Unless these are your own real images, this is no verdict on a generator: give your own with --real"
        return f"{line}\n{advice}"

    def __repr__(self) -> str:
        interval = "" if self.interval is None else " [{}, {}]".format(*map(three_digits, self.interval))
        multiple = "" if self.baseline_multiple is None else f", {times(self.baseline_multiple)}x baseline"
        return (
            f"RL2Result({three_digits(self.value)}, debiased {three_digits(self.debiased)}{interval}{multiple}, "
            f"{self.n_fake} generated and {self.n_real} real images, weights {self.weights!r})"
        )

    def details(self) -> str:
        """What is behind the verdict, a sentence a line."""
        identity = f" ({self.weights_id[:12]})" if self.weights_id else ""
        real = f"reference images of {self._data()}" if self.real == REFERENCE else f"real images ({self.real})"
        lines = [
            f"{self.n_fake} generated images ({self.fake}) against {self.n_real} {real}; weights {self.weights}"
            f"{identity}",
            f"RL2 {three_digits(self.value)}, debiased {three_digits(self.debiased)}; real-against-real baseline at "
            f"these sample sizes: {'unknown' if self.baseline is None else three_digits(self.baseline)}",
        ]
        if self.interval is None:
            lines += [self._why_no_interval()]
        else:
            low, high = self.interval
            lines += [
                f"95 % interval of the debiased value: {three_digits(low)} to {three_digits(high)}, {self._units()}"
            ]
            if not low <= self.value <= high:
                lines[-1] += "; RL2 itself lies outside, because small samples add to it"
        if self.p_value is not None and not self.assumes_independence:
            lines += [f"p-value of no difference: {p_text(self.p_value)}"]
        if self.detectable is not None:
            lines += [
                "Smallest distance detectable with 80 % power at these sample sizes: " + three_digits(self.detectable),
            ]
        if self.variance_ratio is not None:
            ends = self.variance_ratio_interval
            interval = " ({} to {})".format(*map(three_digits, ends)) if ends else ""
            lines += [f"Variance ratio, generated over real: {three_digits(self.variance_ratio)}{interval}"]
        return "\n".join([*lines, *self._outliers(), *self._domain()])

    def _data(self) -> str:
        return self.reference_data or self.weights

    def _outliers(self) -> list[str]:
        if self.outlier_share is None or not self.outliers or abs(self.outlier_share) < MIN_OUTLIER_SHARE:
            return []
        named = ", ".join(self.outliers[:PRINTED])
        more = f" and {len(self.outliers) - PRINTED} more" if len(self.outliers) > PRINTED else ""
        change = f"{abs(100 * self.outlier_share):.1f} % {'lower' if self.outlier_share > 0 else 'higher'}"
        return [
            f"Without the 1 % of generated images furthest from the real mean ({len(self.outliers)} of {self.n_fake}), "
            f"RL2 would be {change}: {named}{more}"
        ]

    def _domain(self) -> list[str]:
        if self.domain_shift is None or self.domain_shift <= MAX_DOMAIN_SHIFT:
            return []
        return [
            f"Domain shift: your real images lie {self.domain_shift:.1f} standard deviations from the weights' "
            f"reference data, {self._data()}. Scores against your own images stay valid; 'rl2 fit' adapts weights to "
            "your data"
        ]

    def _units(self) -> str:
        if self.groups_real is None and self.groups_fake is None:
            return "assuming independent patches"
        for side, groups in (("real", self.groups_real), ("generated", self.groups_fake)):
            if groups is None:
                return f"assuming independent patches on the {side} side, which has no groups"
        return f"with {self.groups_fake} generated and {self.groups_real} real groups as units"

    def _why_no_interval(self) -> str:
        for side, name, count, groups in (
            ("fake", "generated", self.n_fake, self.groups_fake),
            ("real", "real", self.n_real, self.groups_real),
        ):
            distinct = count - len(self.duplicates.get(side, []))
            if (distinct if groups is None else groups) < MIN_UNITS:
                kind = f"{count} images" if groups is None else f"{count} images in {groups} group(s)"
                kind = kind if distinct == count else f"{kind}, {distinct} of them distinct"
                least = f"{MIN_UNITS} {'images' if groups is None else 'groups'}"
                return f"no interval, which needs at least {least} a side; the {name} side has {kind}"
        if math.isnan(self.value):
            return "no interval: there are NaN latents"
        return "no interval: a side has no second moments, which ResNetL2(uncertainty=True) and 'rl2 stats' keep"


def if_finite(value: float) -> float | None:
    """The value, unless it is NaN or infinite, which JSON does not know."""
    return value if math.isfinite(value) else None
