"""Names for what is wrong with a patch, by the simple statistics that are beyond those of good patches."""

from collections.abc import Mapping

import torch
from torch import Tensor

from torchmetrics_rl2.pixels.patch_statistics import STATISTICS

__all__ = ["REASONS", "Names"]

TYPICAL = 0.975
REASONS = {
    "background": "less tissue than asked for",
    "black": "nearly black: not scanned, padded, or under a black pen",
    "pen": "ink by its color",
    "out of focus": "fine detail is missing, in all of it or in a part",
    "near-blank": "more white or paler than good patches",
    "over-exposed": "its densest part is paler than of good patches",
    "under-exposed": "denser than good patches",
    "dark spots": "more black than good patches: dust, folds, dead pixels",
    "saturation": "colors paler or stronger than of good patches",
    "color of a part": "a cell of the patch has a hue of its own",
    "noise": "rougher than good patches at the scale of a pixel",
    "compression": "steps on an 8-px grid, as of JPEG",
    "unusual": "unlike good patches, in no way that has a name",
}
"""What a patch can be rejected for, and what that means."""

Sign = tuple[str, Mapping[str, float]]

_SHARP_1, _SHARP_2, _SHARP_4 = (f"log-variance of the Laplacian at scale {size}" for size in (1, 2, 4))
_DENSE = {f"mean density of {color}": 1 / 3 for color in ("red", "green", "blue")}
_VARIED = {f"sd of the density of {color}": 1 / 3 for color in ("red", "green", "blue")}

GLASS: Sign = ("near-blank", {"log fraction of white": 1})

PALE: Sign = ("near-blank", {name: -weight for name, weight in _DENSE.items()})

BLURRED_PART: Sign = ("out of focus", {"greatest sharpness of a cell": 1, "least sharpness of a cell": -1})

UNSATURATED: Sign = ("saturation", {"mean saturation": -1})

# Sums of statistics, with weights, that are larger than of good patches where there is such a reason. Blur and noise
# show in how sharpness changes with scale, which depends less on the tissue than sharpness does.
SIGNS: tuple[Sign, ...] = (
    ("out of focus", {_SHARP_2: 1, _SHARP_1: -1}),
    ("out of focus", {_SHARP_4: 1, _SHARP_1: -1}),
    ("out of focus", {_SHARP_4: 1, _SHARP_2: -1}),
    ("out of focus", {_SHARP_1: -1}),
    ("out of focus", {_SHARP_2: -1}),
    BLURRED_PART,
    ("noise", {_SHARP_1: 1, _SHARP_2: -1}),
    ("noise", {_SHARP_1: 1, _SHARP_4: -1}),
    ("noise", {_SHARP_1: 1}),
    ("compression", {"blockiness": 1}),
    PALE,
    ("near-blank", {name: -weight for name, weight in _VARIED.items()}),
    GLASS,
    ("over-exposed", {"greatest density of a cell": -1}),
    ("under-exposed", _DENSE),
    ("dark spots", {"log fraction of black": 1}),
    ("saturation", {"mean saturation": 1}),
    UNSATURATED,
    ("color of a part", {"strangest hue of a cell": 1}),
    ("color of a part", {"least share of blue": -1}),
    ("color of a part", {"greatest share of red": 1}),
)


class Names:
    """Names patches by good ones.

    Args:
        good: Statistics of good patches, ``(n, 25)``.

    """

    def __init__(self, good: Tensor) -> None:
        rows = [[weights.get(name, 0.0) for name in STATISTICS] for _, weights in SIGNS]
        self._signs = torch.tensor(rows, dtype=torch.float64)
        sums = good.double() @ self._signs.T
        self._median, self._end = sums.quantile(sums.new_tensor([0.5, TYPICAL]), 0)

    def __call__(self, statistics: Tensor) -> tuple[str, ...]:
        """The two strongest reasons whose sum of statistics, ``(25,)``, is larger than of 97.5 % of good patches.

        Glass has no detail and no color, so a pale patch has neither a blurred part nor too little saturation. The
        logarithm of white hardly grows where there is much, so that what it names goes first.
        """
        severity = (self._signs @ statistics.double() - self._median) / (self._end - self._median).clamp(min=1e-6)
        glass = severity[SIGNS.index(GLASS)] > 1
        if glass or severity[SIGNS.index(PALE)] > 1:
            severity[[SIGNS.index(sign) for sign in (BLURRED_PART, UNSATURATED)]] = 0
        found: dict[str, float] = {}
        for (reason, _), value in zip(SIGNS, severity.tolist(), strict=True):
            if value > max(1.0, found.get(reason, 0.0)):
                found[reason] = value
        if {"out of focus", "noise"} <= found.keys():  # no patch is too smooth and too rough
            del found[min("out of focus", "noise", key=lambda reason: found[reason])]
        if glass:
            found["near-blank"] = float("inf")
        return tuple(sorted(found, key=lambda reason: -found[reason])[:2]) or ("unusual",)
