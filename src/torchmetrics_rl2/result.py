"""RL2 with its uncertainty and its provenance, in numbers and in sentences."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from torchmetrics_rl2.uncertainty import LEAST_UNITS

__all__ = ["RL2Result", "if_finite"]

PRINTED = 3
FOREIGN_SPREADS = 0.5


@dataclass(frozen=True)
class RL2Result:
    r"""A distance, how far to trust it, and all that is needed to get it again.

    ``str(result)`` says it in sentences. Without groups all images are taken as independent of each other, which
    patches of one slide are not; the p-value then rejects far too often, and is not printed.

    Args:
        value: RL2 (Eqs. 3 and 4 of the paper). Finite samples add to it, so it may lie above the interval.
        debiased: Signed root of the unbiased squared distance.
        n_real: Real images, or tiles of them.
        n_fake: Generated images, or tiles of them.
        real: Where the real side came from; ``"weights"`` for the reference inside the weights.
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
        spread_ratio: Total variance of the generated latents over that of the real ones. A mean does not see lost
            diversity; this falls below 1. ``None`` if all real images are the same.
        spread_interval: Its 95 % interval, ``None`` also if all images of a side are the same.
        floor: What two sets of real images of these numbers, grouped as these are, score: the root mean square of RL2
            between them, :math:`\sqrt{\mathrm{tr}\,S_r (1 / n_r + 1 / n_g)}` without groups.
        times_floor: ``value`` over ``floor``. Both count what chance adds, so that 1 is what real images score. At a
            real difference it grows with the numbers of images.
        foreign_share: Share of RL2 that goes if the most foreign 1 % of the generated images, at most 10,000, are left
            out: 1 - RL2 of the others / RL2. ``None`` unless all of the generated side is images.
        foreign: These images, the furthest from the real mean first: paths, with ``, tile I`` where they were cut,
            from 0 and row by row.
        reference: What the reference inside the weights is of, by their card; ``None`` where no images were read.
        reference_spreads: How foreign the real images are to it: their debiased distance from its mean, in root total
            variances of it, whatever their number. ``None`` if they are this reference, or statistics alone were given.
        warnings: Sentences on what makes the sides differ before any network sees them: size, format, sharpness, stain.
        withheld: Why ``times_floor`` or ``foreign_share`` is ``None``.
        unreadable: Files that were left out, with the reason.
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
    spread_ratio: float | None = None
    spread_interval: tuple[float, float] | None = None
    floor: float | None = None
    times_floor: float | None = None
    foreign_share: float | None = None
    foreign: list[str] | None = None
    reference: str | None = None
    reference_spreads: float | None = None
    warnings: list[str] = field(default_factory=list)
    withheld: dict[str, str] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def assumes_independence(self) -> bool:
        """Whether the images of a side are taken as independent, because no groups were given."""
        return self.groups_real is None or self.groups_fake is None

    def to_dict(self) -> dict[str, Any]:
        """As ``rl2 score --json`` prints it: with ``assumes_independence``, and then without a p-value; no NaN."""
        shown = asdict(self) | {"assumes_independence": self.assumes_independence}
        shown |= {"p_value": None} if self.assumes_independence else {}
        for name in ("interval", "spread_interval"):
            ends = shown[name]
            shown[name] = None if ends is None or None in map(if_finite, ends) else ends
        return {key: if_finite(value) if isinstance(value, float) else value for key, value in shown.items()}

    def __str__(self) -> str:
        reference = "the reference inside the weights" if self.real == "weights" else self.real
        identity = f" ({self.weights_id[:12]})" if self.weights_id else ""
        lines = [
            f"RL2 {self.value:.4f} (debiased {self.debiased:.4f}): {self.n_fake} images of {self.fake} against "
            f"{self.n_real} of {reference}, weights {self.weights}{identity}"
        ]
        lines += [self._floor()]
        if self.interval is None:
            lines += [self._why_no_interval()]
        else:
            low, high = self.interval
            lines += [f"95 % interval of the debiased value {low:.4f} to {high:.4f}, {self._units()}"]
            if not low <= self.value <= high:
                lines[-1] += "; RL2 itself is outside: chance adds to it in small sets"
            lines += [f"A distance of {self.detectable:.4f} is found with 80 % power at these numbers" + self._spread()]
        return "\n".join([*lines, *self._foreign(), *self._domain()])

    def _floor(self) -> str:
        if self.times_floor is None:
            return f"No multiple of what real images score: {self.withheld.get('times_floor', 'it was not computed')}"
        text = f"{self.times_floor:.2f} times what two sets of real images of these sizes score, {self.floor:.4f}"
        return (
            text
            if self.assumes_independence or self.p_value is None
            else f"{text}; p-value of no difference {self.p_value:.2g}"
        )

    def _spread(self) -> str:
        if self.spread_ratio is None:
            return ""
        interval = " ({:.3f} to {:.3f})".format(*self.spread_interval) if self.spread_interval else ""
        return f"; spread of generated over real {self.spread_ratio:.3f}{interval}"

    def _foreign(self) -> list[str]:
        if self.foreign_share is None or not self.foreign:
            return []
        named = ", ".join(self.foreign[:PRINTED])
        more = f" and {len(self.foreign) - PRINTED} more" if len(self.foreign) > PRINTED else ""
        count = f"{len(self.foreign)} of {self.n_fake}"
        return [f"The most foreign 1 % ({count}) hold {100 * self.foreign_share:.1f} % of RL2: {named}{more}"]

    def _domain(self) -> list[str]:
        data = self.reference or self.weights
        if self.real == "weights":
            return [f"This is a distance from the data of the weights, {data}, and no verdict: --real takes your own"]
        if self.reference_spreads is None or self.reference_spreads <= FOREIGN_SPREADS:
            return []
        return [
            f"Your real images are {self.reference_spreads:.1f} spreads from the data of the weights, {data}: RL2 "
            "still compares your own images, and rl2 fit makes weights of their kind"
        ]

    def _units(self) -> str:
        if self.groups_real is None and self.groups_fake is None:
            return "assumes independent patches"
        for side, groups in (("real", self.groups_real), ("generated", self.groups_fake)):
            if groups is None:
                return f"assumes independent patches on the {side} side, which has no groups"
        return f"of {self.groups_fake} generated and {self.groups_real} real groups"

    def _why_no_interval(self) -> str:
        for side, count, groups in (
            ("generated", self.n_fake, self.groups_fake),
            ("real", self.n_real, self.groups_real),
        ):
            if (count if groups is None else groups) < LEAST_UNITS:
                kind = f"{count} images" if groups is None else f"{count} images in {groups} group(s)"
                least = f"{LEAST_UNITS} {'images' if groups is None else 'groups'}"
                return f"No interval: it needs at least {least} a side, but the {side} side has {kind}"
        if math.isnan(self.value):
            return "No interval: there are NaN latents"
        return "No interval: a side has no second moments; they come of ResNetL2(uncertainty=True) and 'rl2 stats'"


def if_finite(value: float) -> float | None:
    """The value, unless it is NaN or infinite, which JSON does not know."""
    return value if math.isfinite(value) else None
