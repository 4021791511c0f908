"""Charts of a page, by Bokeh; the numbers of each are in a table beside it."""

from collections.abc import Sequence
from textwrap import fill
from typing import Any

from bokeh.models import ColumnDataSource, HoverTool, Span
from bokeh.plotting import figure

from torchmetrics_rl2.distance.kinds import PARTS
from torchmetrics_rl2.distance.parts import KindShare, PartResult
from torchmetrics_rl2.distance.result import RL2Result
from torchmetrics_rl2.distance.text import percent, three_digits
from torchmetrics_rl2.explaining.matching import Match
from torchmetrics_rl2.pixels.degradations import LADDERS
from torchmetrics_rl2.reporting.pictures import Picture
from torchmetrics_rl2.reporting.plane import Plane

__all__ = [
    "COLORS",
    "GRAY",
    "LINES",
    "SIDES",
    "class_of",
    "kinds_chart",
    "match_chart",
    "parts_chart",
    "parts_of",
    "plane_chart",
    "rows_figure",
    "styled",
]

COLORS = {"real": "#0878bd", "fake": "#d95f02"}  # both 3:1 on white and on almost black
GRAY = "#808080"
LINES = ("#d95f02", "#0878bd", "#8f6bb8", "#2a9467")
DASHES = ("solid", "dashed", "dotted", "dotdash")
SIDES = {"real": "Real", "fake": "Generated"}
LEAST_SHOWN = -0.25
PICTURE = '<img src="@small" alt="" width="96" style="display:block;margin-bottom:4px">'


def parts_of(result: RL2Result) -> dict[str, RL2Result | PartResult]:
    """The whole and its parts, by name."""
    parts = {name.capitalize(): getattr(result, name) for name in reversed(PARTS)}
    return {"RL2": result, **{name: part for name, part in parts.items() if part is not None}}


def parts_chart(result: RL2Result) -> Any:
    """How far the whole and each part lie, with interval, baseline and limit."""
    parts = parts_of(result)
    chart = rows_figure([*reversed(parts)], height=90 + 60 * len(parts), x_axis_label="Distance in latent space")
    rows = [(y, name, part) for y, (name, part) in enumerate(reversed(parts.items()))]
    for y, _, part in rows:
        if isinstance(part, PartResult):
            chart.quad(left=0, right=part.limit, bottom=y - 0.32, top=y + 0.32, color=GRAY, alpha=0.35, line_width=0)
        if part.baseline is not None:
            chart.segment(x0=part.baseline, x1=part.baseline, y0=y - 0.32, y1=y + 0.32, color=GRAY, line_width=3)
        if part.interval is not None:
            low, high = part.interval
            chart.segment(x0=low, x1=high, y0=y, y1=y, color=COLORS["fake"], line_width=3)
    source = ColumnDataSource(
        {
            "x": [part.debiased for _, _, part in rows],
            "value": [part.value for _, _, part in rows],
            "y": [y for y, _, _ in rows],
            "text": [_part_text(name, part) for _, name, part in rows],
        }
    )
    dots = chart.scatter("x", "y", source=source, size=10, color=COLORS["fake"])
    rings = chart.scatter("value", "y", source=source, size=10, fill_alpha=0, line_color=COLORS["fake"], line_width=2)
    chart.add_tools(HoverTool(renderers=[dots, rings], tooltips="@text"))
    chart.x_range.start = min(0.0, *(part.interval[0] * 1.05 for _, _, part in rows if part.interval), 0.0)
    return chart


def kinds_chart(kinds: Sequence[KindShare]) -> Any:
    """Bars of the share of each kind on both sides."""
    shown = [*reversed(kinds)]
    names = [kind.name for kind in shown]
    chart = rows_figure(names, height=90 + 46 * len(names), x_axis_label="Images most like it, in %")
    for side, offset in (("fake", 0.19), ("real", -0.19)):
        places = [y + offset for y in range(len(shown))]
        ends = [getattr(kind, f"{side}_interval") for kind in shown]
        shares = [getattr(kind, side) for kind in shown]
        source = ColumnDataSource(
            {
                "y": places,
                "share": [100 * share for share in shares],
                "low": [100 * low for low, _ in ends],
                "high": [100 * high for _, high in ends],
                "text": [
                    f"{SIDES[side]}, {kind.name}: {percent(share)} ({percent(*end)})"
                    for kind, share, end in zip(shown, shares, ends, strict=True)
                ],
            }
        )
        pattern = {} if side == "fake" else {"hatch_pattern": "right_diagonal_line", "hatch_alpha": 0.35}
        bars = chart.hbar("y", right="share", height=0.34, source=source, color=COLORS[side], alpha=0.85, **pattern)
        chart.segment("low", "y", "high", "y", source=source, name="ink", color=GRAY, line_width=2)
        chart.add_tools(HoverTool(renderers=[bars], tooltips="@text"))
    chart.x_range.start = 0
    return chart


def match_chart(matches: Sequence[Match], units: int) -> Any:
    """How much of look damage explains, by its severity; the first ones are named, the others thinner."""
    chart = figure(
        height=320,
        sizing_mode="stretch_width",
        toolbar_location=None,
        tools="",
        y_axis_label="Explained share of look, in %",
        y_range=(100 * LEAST_SHOWN, 105),
    )
    for number, match in enumerate(matches):
        color, named = LINES[number % len(LINES)], number < units
        rows = [i for i, share in enumerate(match.shares) if share > 2 * LEAST_SHOWN]
        source = ColumnDataSource(
            {
                "x": [match.severities[i] for i in rows],
                "y": [100 * match.shares[i] for i in rows],
                "text": [f"{match.amounts[i]}: {percent(match.shares[i])}" for i in rows],
            }
        )
        style = {"color": color, "line_dash": DASHES[number % len(DASHES)], "line_width": 4 if named else 2}
        line = chart.line("x", "y", source=source, **style)
        best = ColumnDataSource(
            {"x": [match.best], "y": [100 * match.share], "text": [f"{match.amount}: {percent(match.share)}"]}
        )
        dot = chart.scatter("x", "y", source=best, size=12 if named else 8, color=color)
        chart.add_tools(HoverTool(renderers=[line, dot], tooltips="@text", line_policy="nearest"))
    ladder = LADDERS[matches[0].damage]
    ticks = [number / 5 for number in range(-5 if matches[0].severities[0] < 0 else 0, 6)]
    chart.xaxis.ticker = ticks
    chart.xaxis.major_label_overrides = {tick: f"{ladder.amount(tick):.3g}" for tick in ticks}
    chart.xaxis.axis_label = f"{ladder.name.capitalize()}: {ladder.unit}"
    chart.add_layout(Span(location=0, dimension="width", line_color=GRAY, line_width=1))
    return styled(chart)


def plane_chart(plane: Plane, pictures: dict[str, dict[str, Picture]], short: dict[str, dict[str, str]]) -> Any:
    """Images of both sides as points, with a picture on hover where there is one."""
    chart = figure(
        height=460,
        sizing_mode="stretch_width",
        toolbar_location="above",
        active_drag=None,  # so that a finger or a wheel still scrolls the page
        active_scroll=None,
        tools="pan,box_zoom,wheel_zoom,reset",
        x_axis_label=plane.axes[0],
        y_axis_label=plane.axes[1],
    )
    chart.toolbar.logo = None
    markers = {"real": "circle", "fake": "triangle"}
    for side in ("real", "fake"):
        names, places = plane.names.get(side, []), plane.places.get(side)
        if places is None:
            continue
        for with_picture in (False, True):
            rows = [i for i, name in enumerate(names) if (name in pictures[side]) is with_picture]
            columns: dict[str, Any] = {
                "x": places[rows, 0].astype("float32"),
                "y": places[rows, 1].astype("float32"),
                "name": [short[side][names[i]] for i in rows],
            }
            if with_picture:
                columns["small"] = [pictures[side][names[i]].small for i in rows]
            points = chart.scatter(
                "x",
                "y",
                source=ColumnDataSource(columns),
                marker=markers[side],
                color=COLORS[side],
                size=9 if with_picture else 5,
                alpha=0.9 if with_picture else 0.4,
            )
            text = f"<div>{SIDES[side]}: @name</div>"
            tooltips = f"<div>{PICTURE}{text}</div>" if with_picture else text
            chart.add_tools(HoverTool(renderers=[points], tooltips=tooltips, visible=False, limit=3))
    return styled(chart)


def rows_figure(names: Sequence[str], width: int = 17, **options: Any) -> Any:
    """A chart with a row a name, bottom up; names are broken at so many letters."""
    chart = figure(
        sizing_mode="stretch_width",
        toolbar_location=None,
        tools="",
        y_range=(-0.5, len(names) - 0.5),
        **options,
    )
    chart.yaxis.ticker = [*range(len(names))]
    chart.yaxis.major_label_overrides = {y: fill(name, width) for y, name in enumerate(names)}
    chart.ygrid.visible = False
    return styled(chart)


def class_of(color: str) -> str:
    """What a legend calls a color of a chart."""
    return {COLORS["fake"]: "fake", COLORS["real"]: "real"}.get(color, "gray")


def styled(chart: Any) -> Any:
    """A chart on the paper of the page, whose script paints text and lines in its colors."""
    chart.background_fill_alpha = chart.border_fill_alpha = 0
    chart.outline_line_color = None
    chart.axis.axis_label_text_font_style = "normal"
    chart.axis.axis_label_text_font_size = chart.axis.major_label_text_font_size = "13px"
    chart.axis.minor_tick_line_color = None
    return chart


def _part_text(name: str, part: RL2Result | PartResult) -> str:
    interval = "" if part.interval is None else " ({} to {})".format(*map(three_digits, part.interval))
    return f"{name} {three_digits(part.value)}, debiased {three_digits(part.debiased)}{interval}"
