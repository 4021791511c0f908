"""The page of an audit."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from textwrap import wrap
from typing import Any

from bokeh.models import BasicTickFormatter, ColumnDataSource, HoverTool, Span

from torchmetrics_rl2.auditing.result import AuditResult
from torchmetrics_rl2.distance.text import percent, three_digits
from torchmetrics_rl2.reporting.charts import COLORS, GRAY, class_of, rows_figure
from torchmetrics_rl2.reporting.layout import Section, Table, page_from, settings_table

__all__ = ["page_of_audit"]

LETTERS = 27
NAMED = 4
VERDICTS = ("detects", "saturates", "blind", "inverts", "untested")
Mark = tuple[str, str, str]
"""What it is of, its shape and its color."""

MODELS: dict[str, Mark] = {
    "auc": ("flow", "circle", COLORS["fake"]),
    "auc_gaussian": ("Gaussian on the same features", "triangle", COLORS["real"]),
    "auc_handcrafted": ("hand-crafted statistics", "square", GRAY),
}
PARTS: dict[str, Mark] = {
    "look": ("look", "circle", COLORS["fake"]),
    "content": ("content", "triangle", COLORS["real"]),
}


def page_of_audit(result: AuditResult) -> str:
    """All of a page, as HTML.

    Args:
        result: Of one set of weights.

    """
    part = "RL2" if result.part == "whole" else "look"
    by_verdict = {verdict: [one.name for one in result.ladders if one.verdict == verdict] for verdict in VERDICTS}
    detected, total = len(by_verdict["detects"]), len(result.ladders)
    others = [f"{verdict}: {_named(names)}" for verdict, names in by_verdict.items() if names and verdict != "detects"]
    headline = "; ".join([f"Detects {detected} of {total} kinds of damage", *others])
    sections = {"damage": _damage(result), "single": _single(result)}
    sections["content"] = _content(result)
    sections["checks"] = Section("Checks", result.check_sentences(), withheld=_withheld(result))
    facts = [
        ("Detected", f"{detected} of {total}", f"{part} rises with the damage, up to the strongest"),
        ("Images", f"{result.n:,}", f"{result.units:,} independent units, {result.px} px"),
        ("Two clean halves", three_digits(result.clean), f"debiased {three_digits(result.clean_debiased)}"),
    ]
    if result.domain is not None:
        facts.append(("Domain", f"{result.domain:.1f}x", "of what the weights' own data score; 1x is in domain"))
    return page_from(
        "sections.html",
        sections,
        title=f"Audit of {result.weights}",
        subject=f"Audit of {result.name} on {result.images}",
        headline=headline,
        facts=facts,
        sentences=[],
        details=[*result.heading_sentences(), *result.check_sentences()],
        settings=settings_table({"Weights": result.name}, result.settings, result.versions),
        citation=_citation(result, headline),
    )


def _damage(result: AuditResult) -> Section:
    """How far each ladder moves RL2 or look."""
    part = "RL2" if result.part == "whole" else "look"
    ladders = [*reversed(result.ladders)]
    names = [one.name if one.verdict == "detects" else f"{one.name}: {one.verdict}" for one in ladders]
    axis = f"{part[0].upper()}{part[1:]}, times two clean halves"
    chart = rows_figure(names, LETTERS, height=_height(names), x_axis_label=axis, x_axis_type="log")
    chart.xaxis.ticker = [base * 10**power for power in range(-1, 4) for base in (1, 3)]
    chart.xaxis.formatter = BasicTickFormatter(use_scientific=False)
    chart.add_layout(Span(location=1, dimension="height", line_color=GRAY, line_width=2))
    columns: dict[str, list[Any]] = {"x": [], "y": [], "text": [], "size": []}
    for y, ladder in enumerate(ladders):
        values = [severity.value / result.clean for severity in ladder.severities]
        chart.line(values, [y] * len(values), color=COLORS["fake"], line_width=1)
        columns["x"] += values
        columns["y"] += [y] * len(values)
        columns["size"] += [12 if severity is ladder.at_visible else 6 for severity in ladder.severities]
        columns["text"] += [
            f"{ladder.name}, {ladder.unit} {severity.amount:.3g}: {three_digits(value)}x"
            for severity, value in zip(ladder.severities, values, strict=True)
        ]
    source = ColumnDataSource(columns)
    dots = chart.scatter("x", "y", source=source, size="size", color=COLORS["fake"])
    chart.add_tools(HoverTool(renderers=[dots], tooltips="@text"))
    head = ["Damage", "Verdict", "Detected from", "Unit", "Rank correlation", "Reach", "Visible from"]
    rows = [
        [
            ladder.name,
            ladder.verdict,
            "-" if ladder.detected_from is None else f"{ladder.detected_from:.3g}",
            ladder.unit,
            f"{ladder.rho:.2f}",
            f"{ladder.reach:.1f}x",
            f"{ladder.visible:.3g}",
        ]
        for ladder in result.ladders
    ]
    return Section(
        "Damage to a set of patches",
        [
            f"How far {part} lies as damage gets more severe, in multiples of two clean halves. 'detects': it rises to "
            "the end; 'saturates': it stops rising; 'blind': even the strongest damage is within chance; 'inverts': "
            "worse damage scores better; 'untested': there are too few units."
        ],
        chart,
        "; ".join(f"{ladder.name} {ladder.verdict}, up to {ladder.reach:.1f}x" for ladder in result.ladders),
        [("dot fake", "a severity; the large one is clearly seen by a person"), ("tick", "two clean halves")],
        [Table("Response to each kind of damage", head, rows)],
    )


def _single(result: AuditResult) -> Section:
    """How well single patches are told apart, by three models."""
    ladders = [*reversed(result.ladders)]
    shares = {name: [getattr(ladder.at_visible, name) for ladder in ladders] for name in MODELS}
    chart = _dots([ladder.name for ladder in ladders], shares, MODELS, "AUC of damage that a person clearly sees")
    chart.add_layout(Span(location=0.5, dimension="height", line_color=GRAY, line_width=2))
    rows = [
        [ladder.name, f"{ladder.unit} {ladder.at_visible.amount:.3g}"]
        + [f"{getattr(ladder.at_visible, name):.2f}" for name in MODELS]
        for ladder in result.ladders
    ]
    means = [[f"mean, {family}", "", *(f"{auc:.2f}" for auc in aucs)] for family, aucs in result.families().items()]
    head = ["Damage", "Amount", *(name.capitalize() for name, _, _ in MODELS.values())]
    return Section(
        "Damage to single patches",
        [
            "How often a damaged patch is less likely than a clean one, for the flow and two simpler models. 0.5 is "
            "chance, 1 is always."
        ],
        chart,
        "; ".join(f"{family}: mean AUC {aucs[0]:.2f} of the flow" for family, aucs in result.families().items()),
        [*((f"{marker} {class_of(color)}", name) for name, marker, color in MODELS.values()), ("tick", "chance")],
        [Table("AUC of each kind of damage", head, [*rows, *means])],
    )


def _content(result: AuditResult) -> Section:
    """How often look and content differ, by what is wrong."""
    title = "Another composition of tissue"
    shown = [row for row in result.cross_talk if row.at != "weakest"]
    if not shown:
        return Section(title, withheld="These weights have one kind of tissue, or these images too few.")
    shares = {name: [100 * getattr(row, name) for row in reversed(shown)] for name in PARTS}
    names = [row.wrong for row in reversed(shown)]
    chart = _dots(names, shares, PARTS, "Found in % of random pairs of sets")
    head = ["What is wrong", "Look", "Content", "Whole", "Varies less", "Verdict of content"]
    numbers = ("look", "content", "whole", "varies_less")
    rows = [[row.wrong, *(percent(getattr(row, name)) for name in numbers), row.verdict or ""] for row in shown]
    return Section(
        title,
        [
            f"How often a difference is found at 5 %, of sets of {shown[0].n} images. Another composition should move "
            "content and not look; damage should move look and not content."
        ],
        chart,
        "; ".join(f"{row.wrong}: look {percent(row.look)}, content {percent(row.content)}" for row in shown),
        [(f"{marker} {class_of(color)}", name) for name, marker, color in PARTS.values()],
        [Table("How often each part differs, by what is wrong", head, rows)],
    )


def _dots(names: Sequence[str], shares: dict[str, list[float]], marks: Mapping[str, Mark], axis: str) -> Any:
    """A row a name, and a mark a model or part."""
    chart = rows_figure(names, LETTERS, height=_height(names), x_axis_label=axis)
    for key, values in shares.items():
        label, marker, color = marks[key]
        source = ColumnDataSource(
            {
                "x": values,
                "y": [*range(len(values))],
                "text": [f"{name}, {label}: {value:.3g}" for name, value in zip(names, values, strict=True)],
            }
        )
        points = chart.scatter("x", "y", source=source, marker=marker, color=color, size=10, alpha=0.85)
        chart.add_tools(HoverTool(renderers=[points], tooltips="@text"))
    return chart


def _height(names: Sequence[str]) -> int:
    lines = max(len(wrap(name, LETTERS)) for name in names)
    return 90 + (12 + 16 * lines) * len(names)


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{', '.join(names[:NAMED])}{more}"


def _withheld(result: AuditResult) -> str:
    return f"Withheld, as there are too few images: {'; '.join(result.withheld)}." if result.withheld else ""


def _citation(result: AuditResult, headline: str) -> str:
    mean = fmean(ladder.at_visible.auc for ladder in result.ladders)
    version = result.versions.get("torchmetrics-rl2", "")
    part = "RL2" if result.part == "whole" else "look"
    return (
        f"{headline}, of sets of patches judged by {part}; mean AUC of single patches with clearly visible damage "
        f"{mean:.2f}; weights {result.name}, {result.n} images of {result.units} units, {result.px} px; computed with "
        f"torchmetrics-rl2 {version}."
    )
