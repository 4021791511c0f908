"""Differences that people look for, as distances: damage, and kinds of tissue that are missing."""

import math
from bisect import bisect_left
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from torchmetrics_rl2.distance.explanation import amount_text
from torchmetrics_rl2.distance.kinds import Kinds
from torchmetrics_rl2.distance.statistics import Statistics
from torchmetrics_rl2.encoder.encoder import LatentEncoder
from torchmetrics_rl2.encoder.own import OwnEncoder
from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.explaining.curves import Curves
from torchmetrics_rl2.explaining.measuring import Step
from torchmetrics_rl2.pixels.degradations import LADDERS
from torchmetrics_rl2.planning.power import Judged, Pilot, Shift, least_length, least_units
from torchmetrics_rl2.planning.result import PlanGoal, PlanRow
from torchmetrics_rl2.weights.signatures import Signatures

__all__ = ["Effects", "severity_of"]

SHOWN = ("gaussian blur", "gaussian noise", "jpeg", "rectangles", "eosin")
MIN_SHARE = 0.05
GRID = 60
FAR = 1e100
FACTORS = (1 / 8, 1 / 4, 1 / 2, 1)


@dataclass(frozen=True)
class Effects:
    """What weights know of damage and kinds, and what is to be found.

    Args:
        kinds: Of the weights, if they have several.
        curves: Of damage, if the weights have signatures.
        wanted: Pairs of a name and a value; empty for what is shown by default.
        measures: Whether damage is measured on the pilot.
        own: Shift by damage, by ladder and severity, as measured on the pilot itself.

    """

    kinds: Kinds | None
    curves: Curves | None
    wanted: Sequence[tuple[str, str]]
    measures: bool = False
    own: Mapping[Step, Tensor] = field(default_factory=dict)

    @classmethod
    def known(cls, encoder: LatentEncoder | OwnEncoder, find: Sequence[str], has_images: bool) -> "Effects":
        """Those of an encoder, before an image is read.

        Args:
            encoder: Of the pilot.
            find: Goals as NAME=VALUE.
            has_images: Whether damage can be measured on images of the pilot.

        Raises:
            RL2Error: If a goal is none that the weights know.

        """
        kinds, signatures = encoder.kinds, encoder.signatures
        curves = None if signatures is None else Curves(signatures, None)
        measures = has_images and isinstance(encoder, LatentEncoder)
        effects = cls(kinds, curves, [_pair(text) for text in find], measures)
        for name, value in effects.wanted:
            effects._check(name, value)
        return effects

    def goals(self, pilot: Statistics, chance: Pilot, power: float) -> list[PlanGoal]:
        """What is to be found, and how many units that takes."""
        found = []
        for name, value in self._goals(pilot):
            length, part = 1.0, self._part(name)
            if name == "distance":
                text, length, shift = f"RL2 of {value}", float(value), chance.by_chance("whole")
            elif name == "missing":
                assert self.kinds is not None
                row = list(self.kinds.names).index(value)
                length = self._shares(pilot)[row]
                if not 0 < length < 1:
                    what = "none of the pilot is" if not length else "all of the pilot is"
                    raise RL2Error(f"A generator without {value} cannot be planned for: {what} of this kind.")
                text, shift = f"{value} missing, {100 * length:.0f} % of the pilot", self._missing(pilot, chance, row)
            else:
                text = amount_text(name, float(value), LADDERS[name].unit)
                shift = chance.shift(self._moved(name, severity_of(name, float(value))))
            found.append(
                PlanGoal(
                    text,
                    length * math.sqrt(float(np.mean(shift.square[part]))),
                    part,
                    least_units(partial(_is_found, chance, shift, part, length, power)),
                )
            )
        return found

    def rows(self, pilot: Statistics, chance: Pilot, counts: Sequence[int], power: float) -> list[PlanRow]:
        """The smallest differences that numbers of units find."""
        rows = []
        parts: dict[str, Judged] = {"RL2": "whole"}
        parts |= {} if self.kinds is None else {"look": "look", "content": "content"}
        for name, part in parts.items():
            rows.append(PlanRow(name, "", _lengths(chance, chance.by_chance(part), part, counts, power), part))
        for name in self._ladders() if self.curves else ():
            rows.append(self._row(chance, name, counts, power))
        for name in self._common(pilot):
            assert self.kinds is not None
            shift = self._missing(pilot, chance, list(self.kinds.names).index(name))
            shares = [
                share if share and share < 1 else None for share in _lengths(chance, shift, "content", counts, power)
            ]
            rows.append(PlanRow(f"{name} missing", "share of the real images", shares, "content"))
        return rows

    def steps(self, pilot: Statistics) -> list[Step]:
        """Ladders and severities of the damage that is to be found."""
        return [(name, severity_of(name, float(value))) for name, value in self._goals(pilot) if name in LADDERS]

    def ladders(self) -> list[Step]:
        """Severities of the ladders that rows are of, from far below what a person sees on."""
        found = []
        for name in self._ladders():
            weakest, *_, strongest = LADDERS[name].severities
            found += [(name, severity) for severity in {*(weakest * factor for factor in FACTORS), strongest}]
        return found

    def measured(self, signatures: Signatures) -> "Effects":
        """The same with signatures of the images of the pilot.

        Args:
            signatures: Of all steps and ladders.

        """
        keys = zip(signatures.ladders, signatures.severities, strict=True)
        return replace(self, own=dict(zip(keys, signatures.shifts, strict=True)), curves=Curves(signatures, None))

    def _part(self, name: str) -> Judged:
        if name == "distance" or self.kinds is None:
            return "whole"
        return "content" if name == "missing" else "look"

    def _ladders(self) -> Collection[str]:
        return dict.fromkeys(name for name, _ in self.wanted if name in LADDERS) or SHOWN

    def _goals(self, pilot: Statistics) -> Sequence[tuple[str, str]]:
        if self.wanted:
            return self.wanted
        damage = [
            (name, f"{LADDERS[name].amount(LADDERS[name].visible):.6g}")
            for name in SHOWN
            if self.curves or self.measures
        ]
        return [*damage, *(("missing", name) for name in self._common(pilot))]

    def _moved(self, ladder: str, severity: float) -> Tensor:
        """The shift of the mean latent by damage."""
        if (ladder, severity) in self.own:
            return self.own[ladder, severity]
        assert self.curves is not None
        return torch.from_numpy(self.curves.of[ladder](severity))

    def _row(self, chance: Pilot, ladder: str, counts: Sequence[int], power: float) -> PlanRow:
        """The smallest amounts of damage that are found."""
        assert self.curves is not None
        curve, chosen, part = self.curves.of[ladder], LADDERS[ladder], self._part(ladder)
        # Below the weakest severity that was measured a curve is a guess.
        weakest = min(severity for severity in curve.severities if severity > 0)
        severities = np.geomspace(weakest, curve.ends[1], GRID)
        shifts = [chance.shift(torch.from_numpy(curve(severity))) for severity in severities]
        weaker = "<" if chosen.amount(1) > chosen.amount(0) else ">"
        smallest, beyond = list[float | None](), []
        for n in counts:
            first = bisect_left(range(GRID), power, key=partial(_power_at, chance, shifts, part, n))
            smallest.append(chosen.amount(float(severities[first])) if first < GRID else None)
            beyond.append(weaker if first == 0 else "")
        return PlanRow(ladder, chosen.unit, smallest, part, beyond)

    def _shares(self, pilot: Statistics) -> list[float]:
        assert pilot.sums.kind_counts is not None
        shares: list[float] = (pilot.sums.kind_counts.double() / len(pilot)).tolist()
        return shares

    def _common(self, pilot: Statistics) -> list[str]:
        if self.kinds is None:
            return []
        return [
            name
            for name, share in zip(self.kinds.names, self._shares(pilot), strict=True)
            if MIN_SHARE <= share <= 1 - MIN_SHARE
        ]

    def _missing(self, pilot: Statistics, chance: Pilot, row: int) -> Shift:
        """From a kind to the mean of all others, as they are mixed in the pilot: for a share of 1."""
        assert self.kinds is not None
        shares = torch.tensor(self._shares(pilot), dtype=torch.float64)
        means, shares[row] = self.kinds.means.double(), 0
        others = shares @ means / shares.sum() if shares.sum() else means[row]
        return chance.shift((others - means[row]) @ self.kinds.basis @ self.kinds.basis.T)

    def _check(self, name: str, value: str) -> None:
        if name == "missing":
            names = [] if self.kinds is None else list(self.kinds.names)
            if value not in names:
                raise RL2Error(f"The weights have no kind {value!r}. Known are: {', '.join(names) or 'none'}.")
            return
        ladders = list(LADDERS) if self.measures else list(self.curves.of) if self.curves else []
        if name != "distance" and name not in ladders:
            known = ", ".join(["distance", "missing", *ladders])
            raise RL2Error(f"It is not known how to find {name!r}. Expected one of: {known}.")
        try:
            amount = float(value)
        except ValueError:
            raise RL2Error(f"Expected {name}= and a number, but got {value!r}.") from None
        if name == "distance":
            if not 0 < amount < FAR:
                raise RL2Error(f"A distance to find is above 0 and below {FAR:g}, but got {value}.")
            return
        severity = severity_of(name, amount)
        if self.measures or self.curves is None:
            return
        low, high = self.curves.of[name].ends
        # The end of a ladder comes back from its amount with an error of rounding.
        if not low - 1e-6 <= severity <= high + 1e-6:
            ends = sorted(LADDERS[name].amount(float(end)) for end in (low, high))
            raise RL2Error(f"Signatures of {name} go from {ends[0]:g} to {ends[1]:g}, but got {value}.")


def _is_found(chance: Pilot, shift: Shift, part: Judged, length: float, power: float, n: int) -> bool:
    return chance.power(shift, part, n, length) >= power


def _power_at(chance: Pilot, shifts: Sequence[Shift], part: Judged, n: int, i: int) -> float:
    return chance.power(shifts[i], part, n)


def _lengths(chance: Pilot, shift: Shift, part: Judged, counts: Sequence[int], power: float) -> list[float | None]:
    """The smallest lengths of a shift that are found."""
    return [least_length(partial(chance.power, shift, part, n), power) for n in counts]


def _pair(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign:
        raise RL2Error(
            f"Expected what to find as NAME=VALUE, such as 'gaussian blur=0.5' or 'distance=10', but got {text!r}."
        )
    return name.strip(), value.strip()


def severity_of(ladder: str, amount: float) -> float:
    """The severity of an amount; amounts are linear in it, or in its exponential."""
    chosen = LADDERS[ladder]
    lowest = -1.0 if chosen.signed else 0.0
    grid = np.linspace(lowest, 1, 20_001)
    amounts = np.array([chosen.amount(float(severity)) for severity in grid])
    low, high = sorted((amounts[0], amounts[-1]))
    if amount == chosen.amount(0):
        raise RL2Error(f"{ladder} of {amount:g} ({chosen.unit}) is no damage, so there is nothing to find.")
    if not low <= amount <= high:
        raise RL2Error(f"Amounts of {ladder} ({chosen.unit}) go from {low:g} to {high:g}, but got {amount:g}.")
    order = amounts.argsort()
    return float(np.interp(amount, amounts[order], grid[order]))
