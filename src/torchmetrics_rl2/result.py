"""RL2 with its uncertainty and its provenance, in numbers and in sentences."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from torchmetrics_rl2.uncertainty import LEAST_UNITS

__all__ = ["RL2Result", "if_finite"]


@dataclass(frozen=True)
class RL2Result:
    """A distance, how far to trust it, and all that is needed to get it again.

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
        if self.interval is None:
            return f"{lines[0]}\n{self._why_no_interval()}"
        low, high = self.interval
        lines += [f"95 % interval of the debiased value {low:.4f} to {high:.4f}, {self._units()}"]
        if not self.assumes_independence:
            lines += [f"p-value of no difference {self.p_value:.2g}"]
        if not low <= self.value <= high:
            lines += ["RL2 itself is outside: chance adds to it in small sets, and the debiased value is free of that"]
        last = f"A distance of {self.detectable:.4f} is found with 80 % power at these numbers"
        if self.spread_ratio is not None:
            last += f"; spread of generated over real {self.spread_ratio:.3f}"
        if self.spread_interval is not None:
            last += " ({:.3f} to {:.3f})".format(*self.spread_interval)
        return "\n".join([*lines, last])

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
