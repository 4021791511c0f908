"""A comparison of generators in sentences and in a table."""

from html import escape
from typing import TYPE_CHECKING

from torchmetrics_rl2.distance.details import PRINTED, conclusion_of, interval_units
from torchmetrics_rl2.distance.kinds import Part
from torchmetrics_rl2.distance.parts import PartResult
from torchmetrics_rl2.distance.result import COPIES
from torchmetrics_rl2.distance.text import CLOSER, identity_text, p_text, percent, range_text, three_digits

if TYPE_CHECKING:
    from torchmetrics_rl2.distance.comparison import ComparisonResult, GeneratorPair
    from torchmetrics_rl2.distance.result import RL2Result

__all__ = [
    "by_parts_of",
    "cells_of",
    "details_of",
    "html_of",
    "pair_text",
    "suspects_of",
    "text_of",
    "units_of_all",
    "verdict_of",
]


def text_of(comparison: "ComparisonResult") -> str:
    """The verdict and the table."""
    generators = comparison.generators
    lines = [verdict_of(comparison), *by_parts_of(comparison), *suspects_of(comparison), *_table(comparison)]
    counts = sorted({one.result.n_fake for one in generators})
    if len(counts) > 1:
        lines += [
            f"Numbers of images differ ({counts[0]} to {counts[-1]}), so do not compare RL2 itself; debiased values, "
            "which the order is by, allow for that"
        ]
    return "\n".join(lines)


def suspects_of(comparison: "ComparisonResult") -> list[str]:
    """Generators whose place says less than it seems to: they copy real images, or repeat their own."""
    copies = [
        f"{one.name}: {conclusion_of(one.result)}. Its place says nothing about new images"
        for one in comparison.generators
        if one.result.verdict in (CLOSER, COPIES)
    ]
    diversity = [(one.name, one.result.diversity) for one in comparison.generators]
    return copies + [f"{name}: {found}" for name, found in diversity if found and found.is_lost]


def by_parts_of(comparison: "ComparisonResult") -> list[str]:
    """Generators that tie as a whole, and do not by look or by content alone."""
    tied = set(comparison.closest)
    found = [
        f"By {name} alone, {pair.closer} is closer than {pair.further} beyond chance"
        for name, pair in _apart_by_parts(comparison)
        if {pair.closer, pair.further} <= tied
    ]
    more = len(found) - PRINTED
    return found[:PRINTED] + ([f"{more} more such pair{'s' if more > 1 else ''}, see --verbose"] if more > 0 else [])


def details_of(comparison: "ComparisonResult") -> str:
    """Every pair and every verdict."""
    first, apart = comparison.generators[0].result, _apart_by_parts(comparison)
    by_parts = f"Pairs that differ by a part alone, with intervals for {2 * len(comparison.pairs)} together:"
    lines = [
        f"Against {first.n_real} real images ({first.real}); weights {first.weights} "
        f"({identity_text(first.weights_id)}); intervals {units_of_all(comparison)}",
        f"Differences of squared debiased distances, with 95 % intervals for all {len(comparison.pairs)} together:"
        if len(comparison.pairs) > 1
        else "Difference of squared debiased distances, with its 95 % interval:",
        *(f"  {pair_text(pair, comparison.assumes_independence)}" for pair in comparison.pairs),
        *([by_parts] if apart else []),
        *(f"  by {name}, {pair_text(pair, comparison.assumes_independence)}" for name, pair in apart),
        "By itself, against the real images:",
        *(f"  {one.name}: {conclusion_of(one.result)}" for one in comparison.generators),
    ]
    return "\n".join(lines)


def _apart_by_parts(comparison: "ComparisonResult") -> list[tuple[Part, "GeneratorPair"]]:
    return [(name, pair) for name, pairs in comparison.parts.items() for pair in pairs if pair.differs]


def units_of_all(comparison: "ComparisonResult") -> str:
    """What the intervals take as independent, for each generator where that differs."""
    units = {one.name: interval_units(one.result) for one in comparison.generators}
    if len(set(units.values())) == 1:
        return next(iter(units.values()))
    return ", ".join(f"for {name} {text}" for name, text in units.items())


def html_of(comparison: "ComparisonResult") -> str:
    """For notebooks."""
    head, *rows = cells_of(comparison)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    titles = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    return f"<p>{escape(verdict_of(comparison))}</p><table><tr>{titles}</tr>{body}</table>"


def verdict_of(comparison: "ComparisonResult") -> str:
    """Which generator is closest, and whether that is beyond chance."""
    closest, count = comparison.closest, len(comparison.generators)
    if len(closest) == 1:
        others = "the other" if count == 2 else f"each of the other {count - 1}"
        return f"{closest[0]} is closest to the real images, closer than {others} beyond chance"
    if len(closest) == count:
        whom = "the other" if count == 2 else f"any of the other {count - 1}"
        return f"A tie: {closest[0]} has the smallest distance, but cannot be told from {whom}"
    others = ", ".join(closest[1:])
    return f"{closest[0]} is closest to the real images, but cannot be told from {others}"


def _table(comparison: "ComparisonResult") -> list[str]:
    rows = cells_of(comparison)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [f"{cell:>{width}}" for cell, width in zip(row[2:], widths[2:], strict=True)]
        lines.append("  ".join([f"{row[0]:<{widths[0]}}", f"{row[1]:<{widths[1]}}", *cells]).rstrip())
    return lines


def cells_of(comparison: "ComparisonResult") -> list[list[str]]:
    """The table, its head first."""
    has_parts = comparison.generators[0].result.look is not None
    parts = ["look", "content"] if has_parts else []
    rows = [["", "generator", "images", "RL2", "debiased", *parts, "chance to be closest"]]
    for place, one in enumerate(comparison.generators, 1):
        result = one.result
        numbers = [_interval(result), *(_interval(getattr(result, name)) for name in parts)]
        mark = "=" if one.tied and len(comparison.closest) > 1 else ""
        chance = "> 99 %" if 0.99 < one.chance < 1 else "< 1 %" if 0 < one.chance < 0.01 else percent(one.chance)
        rank = f"{1 if one.tied else place}{mark}"
        rows.append([rank, one.name, str(result.n_fake), three_digits(result.value), *numbers, chance])
    return rows


def _interval(part: "RL2Result | PartResult") -> str:
    interval = "" if part.interval is None else f" ({range_text(part.interval)})"
    return f"{three_digits(part.debiased)}{interval}"


def pair_text(pair: "GeneratorPair", assumes_independence: bool) -> str:
    """Whether two generators differ, and by how much."""
    p_value = "" if assumes_independence else f", p {'' if pair.p_value < 0.001 else '= '}{p_text(pair.p_value)}"
    verb = "is further than" if pair.differs else "cannot be told from"
    return f"{pair.further} {verb} {pair.closer}: {three_digits(pair.value)} ({range_text(pair.interval)}){p_value}"
