"""Differences that people look for, as distances: damage, and kinds of tissue that are missing."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from torchmetrics_rl2.distance.explanation import amount_text
from torchmetrics_rl2.distance.kinds import Kinds
from torchmetrics_rl2.distance.statistics import Statistics
from torchmetrics_rl2.encoder.encoder import LatentEncoder
from torchmetrics_rl2.encoder.own import OwnEncoder
from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.explaining.causes import Curves
from torchmetrics_rl2.pixels.degradations import LADDERS
from torchmetrics_rl2.planning.power import Noise
from torchmetrics_rl2.planning.result import PlanGoal, PlanRow

__all__ = ["Effects"]

SHOWN = ("gaussian blur", "gaussian noise", "jpeg", "rectangles", "eosin")
MIN_SHARE = 0.05
STEPS = 200


@dataclass(frozen=True)
class Effects:
    """What weights know of damage and kinds, and what is to be found.

    Args:
        kinds: Of the weights, if they have several.
        curves: Of damage, if the weights have signatures.
        wanted: Pairs of a name and a value; empty for what is shown by default.

    """

    kinds: Kinds | None
    curves: Curves | None
    wanted: Sequence[tuple[str, str]]

    @classmethod
    def known(cls, encoder: LatentEncoder | OwnEncoder, find: Sequence[str]) -> "Effects":
        """Those of an encoder.

        Raises:
            RL2Error: If a goal is none that the weights know.

        """
        kinds, signatures = encoder.kinds, encoder.signatures
        curves = None if signatures is None else Curves(signatures, kinds)
        effects = cls(kinds, curves, [_pair(text) for text in find])
        for name, value in effects.wanted:
            effects._check(name, value)
        return effects

    def noise(self, pilot: Statistics) -> dict[str, Noise]:
        """Of the whole and of both parts."""
        found = {"whole": Noise.of(pilot)}
        if self.kinds is None:
            return found | {"look": found["whole"]}
        content, look = (Noise.of(pilot.part(name)) for name in ("content", "look"))
        of_look, of_content = self.kinds.leaks
        return found | {
            "look": Noise.of(pilot.part("look"), of_content, content),
            "content": Noise.of(pilot.part("content"), of_look, look),
        }

    def goals(self, pilot: Statistics, power: float) -> list[PlanGoal]:
        """What is to be found, and how many units that takes."""
        noise, found = self.noise(pilot), []
        for name, value in self.wanted or self._default(pilot):
            if name == "distance":
                text, part, distance = f"RL2 of {value}", "whole", float(value)
            elif name == "missing":
                assert self.kinds is not None
                row = list(self.kinds.names).index(value)
                share = self._shares(pilot)[row]
                text, part = f"{value} missing, {100 * share:.0f} % of the pilot", "content"
                distance = share * self._from_others(pilot, row)
            else:
                text, part = amount_text(name, float(value), LADDERS[name].unit), "look"
                distance = self._length(name, _severity(name, float(value)))
            found.append(PlanGoal(text, distance, part, noise[part].needed(distance, power)))
        return found

    def rows(self, pilot: Statistics, counts: Sequence[int], power: float) -> list[PlanRow]:
        """The smallest differences that numbers of units find."""
        noise = self.noise(pilot)
        distances = {part: [one.detectable(n, power) for n in counts] for part, one in noise.items()}
        rows = [PlanRow("RL2", "", [*distances["whole"]], "whole")]
        if self.kinds is not None:
            rows += [PlanRow(part, "", [*distances[part]], part) for part in ("look", "content")]
        ladders = dict.fromkeys(name for name, _ in self.wanted if name in LADDERS) or SHOWN
        for name in ladders if self.curves else ():
            smallest = [self._smallest(name, distance) for distance in distances["look"]]
            rows.append(PlanRow(name, LADDERS[name].unit, smallest, "look"))
        for name in self._common(pilot):
            assert self.kinds is not None
            apart = self._from_others(pilot, list(self.kinds.names).index(name))
            shares = [distance / apart for distance in distances["content"]]
            rows.append(
                PlanRow(
                    f"{name} missing", "share of the real images", [s if s < 1 else None for s in shares], "content"
                )
            )
        return rows

    def _check(self, name: str, value: str) -> None:
        if name == "missing":
            names = [] if self.kinds is None else list(self.kinds.names)
            if value not in names:
                raise RL2Error(f"The weights have no kind {value!r}. Known are: {', '.join(names) or 'none'}.")
            return
        if name != "distance" and (self.curves is None or name not in self.curves.of):
            known = ["distance", "missing", *(self.curves.of if self.curves else ())]
            raise RL2Error(f"It is not known how to find {name!r}. Expected one of: {', '.join(known)}.")
        try:
            amount = float(value)
        except ValueError:
            raise RL2Error(f"Expected {name}= and a number, but got {value!r}.") from None
        if name == "distance":
            if not 0 < amount < np.inf:
                raise RL2Error(f"A distance to find is above 0, but got {value}.")
            return
        assert self.curves is not None
        severity, (low, high) = _severity(name, amount), self.curves.of[name].x[[0, -1]]
        if not low <= severity <= high:
            ends = sorted(LADDERS[name].amount(float(end)) for end in (low, high))
            raise RL2Error(f"Signatures of {name} go from {ends[0]:g} to {ends[1]:g}, but got {value}.")

    def _default(self, pilot: Statistics) -> list[tuple[str, str]]:
        damage = [(name, f"{LADDERS[name].amount(LADDERS[name].visible):.6g}") for name in SHOWN if self.curves]
        return [*damage, *(("missing", name) for name in self._common(pilot))]

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

    def _from_others(self, pilot: Statistics, row: int) -> float:
        """How far a kind lies from the mean of all others, as they are mixed in the pilot."""
        assert self.kinds is not None
        shares = torch.tensor(self._shares(pilot), dtype=torch.float64)
        means = self.kinds.means.double() @ self.kinds.basis
        shares[row] = 0
        if not shares.sum():
            return 0.0
        return float((means[row] - shares @ means / shares.sum()).norm())

    def _length(self, ladder: str, severity: float) -> float:
        assert self.curves is not None
        return float(np.linalg.norm(self.curves.of[ladder](severity)))

    def _smallest(self, ladder: str, distance: float) -> float | None:
        """The smallest amount that moves look by a distance."""
        assert self.curves is not None
        severities = np.linspace(0, self.curves.of[ladder].x[-1], STEPS)
        lengths = np.maximum.accumulate(np.linalg.norm(self.curves.of[ladder](severities), axis=1))
        if lengths[-1] < distance:
            return None
        return LADDERS[ladder].amount(float(np.interp(distance, lengths, severities)))


def _pair(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign:
        raise RL2Error(
            f"Expected what to find as NAME=VALUE, such as 'gaussian blur=0.5' or 'distance=10', but got {text!r}."
        )
    return name.strip(), value.strip()


def _severity(ladder: str, amount: float) -> float:
    """The severity of an amount; amounts are linear in it, or in its exponential."""
    chosen = LADDERS[ladder]
    lowest = -1.0 if chosen.signed else 0.0
    grid = np.linspace(lowest, 1, 100 * STEPS + 1)
    amounts = np.array([chosen.amount(float(severity)) for severity in grid])
    low, high = sorted((amounts[0], amounts[-1]))
    if not low <= amount <= high or amount == chosen.amount(0):
        raise RL2Error(f"Amounts of {ladder} ({chosen.unit}) go from {low:g} to {high:g}, but got {amount:g}.")
    order = amounts.argsort()
    return float(np.interp(amount, amounts[order], grid[order]))
