"""Several generators against the same real images: which is closest, and which cannot be told apart."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import combinations
from typing import Any

from torchmetrics_rl2.distance.comparing import compare
from torchmetrics_rl2.distance.comparison_picture import plot_comparison
from torchmetrics_rl2.distance.comparison_text import details_of, html_of, text_of
from torchmetrics_rl2.distance.differences import chances_to_be_closest, difference
from torchmetrics_rl2.distance.kinds import PARTS, Part
from torchmetrics_rl2.distance.result import RL2Result
from torchmetrics_rl2.distance.statistics import Statistics
from torchmetrics_rl2.distance.uncertainty import MIN_UNITS, Units
from torchmetrics_rl2.errors import RL2Error

__all__ = ["ComparisonResult", "GeneratorPair", "RankedGenerator", "rank"]


@dataclass(frozen=True)
class RankedGenerator:
    """A generator and its place.

    Args:
        name: Of the generator.
        result: Its distance from the real images.
        chance: Share of draws about the squared distances found in which it is the closest, 0 to 1.
        tied: Whether it cannot be told from the closest; ``True`` also of the closest itself.

    """

    name: str
    result: RL2Result
    chance: float
    tied: bool


@dataclass(frozen=True)
class GeneratorPair:
    """Two generators, the closer one first.

    Args:
        closer: Name of the one with the smaller debiased distance.
        further: Name of the other.
        value: Debiased squared distance of the further one less that of the closer one.
        standard_error: Of the value.
        interval: 95 % interval of the value, for all pairs together (Bonferroni).
        p_value: Of the test that both are as far, two-sided, for all pairs together.
        limit: The largest value that comes of the other part alone; 0 of the whole.

    """

    closer: str
    further: str
    value: float
    standard_error: float
    interval: tuple[float, float]
    p_value: float
    limit: float = 0.0

    @property
    def differs(self) -> bool:
        """Whether one is closer beyond chance: the interval lies above the limit."""
        return self.interval[0] > self.limit


@dataclass(frozen=True, repr=False)
class ComparisonResult:
    """Generators in the order of their debiased distances from the same real images.

    Args:
        generators: The closest first.
        pairs: Every two of them.
        parts: The same of ``look`` and of ``content``, if the weights have kinds of tissue; intervals hold for both
            together.
        warnings: Sentences on what makes the sides differ before any network sees them.
        settings: ``tile``, ``scale``, ``batch_size``, ``workers`` and ``device``, where images were read.
        versions: Of Python, torch, torchvision and torchmetrics-rl2, where images were read.

    """

    generators: list[RankedGenerator]
    pairs: list[GeneratorPair]
    parts: dict[Part, list[GeneratorPair]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def closest(self) -> list[str]:
        """Names of the generators that cannot be told from the closest, which is the first; several are a tie."""
        return [generator.name for generator in self.generators if generator.tied]

    @property
    def assumes_independence(self) -> bool:
        """Whether the images of a side are taken as independent, because no groups were given."""
        return any(generator.result.assumes_independence for generator in self.generators)

    def to_dict(self) -> dict[str, Any]:
        """As ``rl2 compare --json`` prints it; without groups on all sides there are no p-values."""
        hidden = {"p_value": None} if self.assumes_independence else {}

        def listed(pairs: list[GeneratorPair]) -> list[dict[str, Any]]:
            return [asdict(pair) | {"differs": pair.differs} | hidden for pair in pairs]

        return {
            "closest": self.closest,
            "generators": [
                {"name": one.name, "chance": one.chance, "tied": one.tied, "result": one.result.to_dict()}
                for one in self.generators
            ],
            "pairs": listed(self.pairs),
            "parts": {name: listed(pairs) for name, pairs in self.parts.items()},
            "assumes_independence": self.assumes_independence,
            "warnings": self.warnings,
            "settings": self.settings,
            "versions": self.versions,
        }

    def plot(self, ax: Any = None) -> tuple[Any, Any]:
        """Draw debiased RL2, look and content of each generator, with 95 % intervals, the closest on top.

        Args:
            ax: A matplotlib axis to draw on.

        Returns:
            Figure and axis.

        Raises:
            RL2Error: If matplotlib is missing.

        """
        return plot_comparison(self, ax)

    def details(self) -> str:
        """Every pair, and the verdict on every generator, a sentence a line."""
        return details_of(self)

    def __str__(self) -> str:
        return text_of(self)

    def __repr__(self) -> str:
        return f"ComparisonResult({', '.join(one.name for one in self.generators)}; closest: {', '.join(self.closest)})"

    def _repr_html_(self) -> str:
        """A small table, for notebooks."""
        return html_of(self)


def rank(real: Statistics, fakes: Mapping[str, Statistics]) -> ComparisonResult:
    """Generators by their distance from the same real images.

    Args:
        real: Statistics of the real images.
        fakes: Those of each generator, by its name; at least two.

    Raises:
        RL2Error: If there are fewer than two, one has too few images or no second moments, or they are latents of
            different weights.

    """
    if len(fakes) < 2:
        raise RL2Error(f"Expected at least two generators to compare, but got {len(fakes)}. Judge one with rl2 score.")
    of_real, units = _units(real, real.source), {name: _units(side, name) for name, side in fakes.items()}
    results = {name: compare(real, side) for name, side in fakes.items()}
    for name, result in results.items():
        if not math.isfinite(result.debiased):
            raise RL2Error(
                f"Some latents of {name} or of the real images are NaN or too large, so there is no order. Leave "
                "out broken images."
            )
    order = sorted(results, key=lambda name: results[name].debiased)
    tests = len(order) * (len(order) - 1) // 2
    pairs = _pairs(of_real, {name: units[name] for name in order}, tests)
    by_part = {name: _pairs_of(name, real, fakes, results, 2 * tests) for name in PARTS if real.kinds}
    apart = {pair.further for pair in pairs if pair.closer == order[0] and pair.differs}
    chances = chances_to_be_closest(of_real, [units[name] for name in order])
    return ComparisonResult(
        [
            RankedGenerator(name, results[name], chance, name not in apart)
            for name, chance in zip(order, chances, strict=True)
        ],
        pairs,
        by_part,
    )


def _pairs(real: Units, ordered: Mapping[str, Units], tests: int) -> list[GeneratorPair]:
    """Every two, the closest first."""
    return [
        GeneratorPair(closer, further, **asdict(difference(real, ordered[further], ordered[closer], tests)))
        for closer, further in combinations(ordered, 2)
    ]


def _pairs_of(
    part: Part, real: Statistics, fakes: Mapping[str, Statistics], results: Mapping[str, RL2Result], tests: int
) -> list[GeneratorPair]:
    """Every two by a part alone, beyond what the other part moves it by."""
    found = {name: getattr(results[name], part) for name in fakes}
    order = sorted(found, key=lambda name: found[name].debiased)
    pairs = _pairs(
        _units(real.part(part), real.source), {name: _units(fakes[name].part(part), name) for name in order}, tests
    )
    limits = {name: (2 * max(0.0, one.debiased) + one.limit) * one.limit for name, one in found.items()}
    return [replace(pair, limit=limits[pair.further] + limits[pair.closer]) for pair in pairs]


def _units(side: Statistics, name: str) -> Units:
    units = side.units
    if units is not None:
        return units
    if side.unit_count < MIN_UNITS:
        what = "distinct images" if side.groups is None else "groups"
        raise RL2Error(f"{name} has {side.unit_count} {what}; a comparison needs at least {MIN_UNITS} of each side.")
    raise RL2Error(
        f"The statistics of {name} are sums without second moments, from which no interval can be had. Make them with "
        "'rl2 stats', or from a metric with uncertainty=True."
    )
