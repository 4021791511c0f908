"""The page of a comparison of generators."""

from collections.abc import Sequence
from typing import Any

from bokeh.models import ColumnDataSource, HoverTool, Span

from torchmetrics_rl2.distance.comparison import ComparisonResult, GeneratorPair
from torchmetrics_rl2.distance.comparison_text import (
    by_parts_of,
    cells_of,
    pair_text,
    suspects_of,
    units_of_all,
    verdict_of,
)
from torchmetrics_rl2.distance.details import conclusion_of
from torchmetrics_rl2.distance.text import identity_text, p_text, percent, range_text, three_digits
from torchmetrics_rl2.reporting.charts import COLORS, GRAY, class_of, rows_figure
from torchmetrics_rl2.reporting.layout import Section, Table, page_from, settings_table

__all__ = ["page_of_comparison"]

LETTERS = 27
PARTS = {"RL2": ("circle", COLORS["fake"]), "look": ("square", GRAY), "content": ("triangle", COLORS["real"])}
APART = 0.22


def page_of_comparison(result: ComparisonResult) -> str:
    """All of a page, as HTML.

    Args:
        result: Of at least two generators.

    """
    first, closest = result.generators[0], result.closest
    verdict = verdict_of(result)
    counts = sorted({one.result.n_fake for one in result.generators})
    facts = [
        ("Closest", closest[0], f"a tie of {len(closest)}" if len(closest) > 1 else "beyond chance"),
        ("Generators", str(len(result.generators)), f"{_range_of(counts)} images each"),
        ("Real images", f"{first.result.n_real:,}", first.result.real),
    ]
    made = f"{first.result.weights}, {identity_text(first.result.weights_id)}"
    return page_from(
        "sections.html",
        {"order": _order(result), "pairs": _pairs(result), "alone": _alone(result)},
        title=f"Comparison of {len(result.generators)} generators",
        subject=f"{len(result.generators)} generators against {first.result.real}",
        headline=verdict,
        facts=facts,
        sentences=[*by_parts_of(result), *suspects_of(result), *result.warnings],
        details=result.details().splitlines(),
        settings=settings_table({"Weights": made}, result.settings, result.versions),
        citation=_citation(result, verdict, made),
    )


def _order(result: ComparisonResult) -> Section:
    """How far each generator lies."""
    generators = [*reversed(result.generators)]
    names = [f"{one.name} (tie)" if one.tied and len(result.closest) > 1 else one.name for one in generators]
    chart = rows_figure(names, LETTERS, height=90 + 56 * len(names), x_axis_label="Debiased distance in latent space")
    chart.add_layout(Span(location=0, dimension="height", line_color=GRAY, line_width=1))
    legend = []
    for line, (name, (marker, color)) in enumerate(PARTS.items()):
        rows = [(y, one.result if name == "RL2" else getattr(one.result, name)) for y, one in enumerate(generators)]
        shown = [(y + APART * (1 - line), part) for y, part in rows if part is not None]
        if not shown:
            continue
        _intervals(
            chart,
            [y for y, _ in shown],
            [part.debiased for _, part in shown],
            [part.interval or (part.debiased, part.debiased) for _, part in shown],
            [f"{name}: {three_digits(part.debiased)}" for _, part in shown],
            marker,
            color,
        )
        legend.append((f"{marker} {class_of(color)}", name))
    head, *cells = ([row[1], row[0] or "place", *row[2:]] for row in cells_of(result))
    return Section(
        "Which is closest",
        [
            "Distances from the same real images, without what finite numbers of images add, with 95 % intervals. Two "
            "generators may differ where these overlap: the noise of the real images is the same for both."
        ],
        chart,
        "; ".join(f"{one.name}: {three_digits(one.result.debiased)}" for one in result.generators),
        legend,
        [Table("Generators, the closest first", head, cells)],
        folded=False,
    )


def _pairs(result: ComparisonResult) -> Section:
    """How much further each lies than the closest."""
    first = result.generators[0].name
    shown = [pair for pair in reversed(result.pairs) if pair.closer == first]
    names = [pair.further for pair in shown]
    axis = f"Squared distance, less that of {first}"
    chart = rows_figure(names, LETTERS, height=90 + 40 * len(names), x_axis_label=axis)
    chart.add_layout(Span(location=0, dimension="height", line_color=GRAY, line_width=2))
    _intervals(
        chart,
        [*range(len(shown))],
        [pair.value for pair in shown],
        [pair.interval for pair in shown],
        [pair_text(pair, result.assumes_independence) for pair in shown],
        "circle",
        COLORS["fake"],
    )
    together = f"all {len(result.pairs)} pairs together" if len(result.pairs) > 1 else "this pair"
    head = ["Further", "Closer", "Difference", "95 % interval", "Differs"]
    has_p = not result.assumes_independence
    return Section(
        "Which differ beyond chance",
        [f"An interval that leaves out 0 tells two generators apart. Intervals hold for {together}."],
        chart,
        "; ".join(pair_text(pair, result.assumes_independence) for pair in result.pairs),
        [("dot fake", "further than the closest by"), ("tick", "as far")],
        [Table("Every pair", [*head, *(["p"] if has_p else [])], [_row(pair, has_p) for pair in result.pairs])],
    )


def _alone(result: ComparisonResult) -> Section:
    """The verdict on each."""
    rows = [
        [one.name, conclusion_of(one.result), percent(one.chance), three_digits(one.result.value)]
        for one in result.generators
    ]
    head = ["Generator", "Against the real images", "Chance to be closest", "RL2"]
    return Section(
        "Each by itself",
        [f"Intervals are computed {units_of_all(result)}."],
        tables=[Table("Verdicts", head, rows)],
        folded=False,
    )


def _intervals(
    chart: Any,
    y: Sequence[float],
    x: Sequence[float],
    ends: Sequence[tuple[float, float]],
    text: Sequence[str],
    marker: str,
    color: str,
) -> None:
    low, high = ([end[i] for end in ends] for i in (0, 1))
    texts = [f"{one} ({range_text(end)})" for one, end in zip(text, ends, strict=True)]
    source = ColumnDataSource({"x": x, "y": y, "low": low, "high": high, "text": texts})
    chart.segment("low", "y", "high", "y", source=source, color=color, line_width=3, alpha=0.7)
    dots = chart.scatter("x", "y", source=source, marker=marker, size=10, color=color)
    chart.add_tools(HoverTool(renderers=[dots], tooltips="@text"))


def _row(pair: GeneratorPair, has_p: bool) -> list[str]:
    p_value = [p_text(pair.p_value)] if has_p else []
    differs = "yes" if pair.differs else "no"
    return [pair.further, pair.closer, three_digits(pair.value), range_text(pair.interval), differs, *p_value]


def _range_of(counts: list[int]) -> str:
    """Numbers of images of all generators, ascending."""
    return f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"


def _citation(result: ComparisonResult, verdict: str, made: str) -> str:
    first = result.generators[0].result
    distances = "; ".join(
        f"{one.name} {three_digits(one.result.debiased)}"
        + ("" if one.result.interval is None else f" ({range_text(one.result.interval)})")
        + f", n = {one.result.n_fake}"
        for one in result.generators
    )
    version = result.versions.get("torchmetrics-rl2", "")
    return (
        f"{verdict}. Debiased RL2 from {first.n_real} real images, with 95 % intervals {units_of_all(result)}: "
        f"{distances}; pairs told apart by the interval of the difference of their squared distances, adjusted for "
        f"{len(result.pairs)} pair(s) (Bonferroni); computed with torchmetrics-rl2 {version}, weights {made}."
    )
