"""What all pages have: head, sections, how it was computed, and a sentence to cite."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bokeh.embed import components
from bokeh.resources import Resources
from jinja2 import Environment, FileSystemLoader

from torchmetrics_rl2._version import __version__
from torchmetrics_rl2.reporting.charts import LINES

__all__ = ["Section", "Table", "page_from", "settings_table"]


@dataclass(frozen=True)
class Table:
    """Numbers in rows.

    Args:
        caption: What they are.
        head: Of the columns.
        rows: The first of each is its head.

    """

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Section:
    """A part of a page.

    Args:
        title: Its heading.
        sentences: What it says first.
        chart: A figure of Bokeh.
        label: What the chart shows, for those who do not see it.
        legend: Marks of the chart, as classes, and what they are.
        tables: Numbers.
        folded: Whether the tables open on demand, as those that repeat a chart.
        withheld: Why something is not here.

    """

    title: str
    sentences: Sequence[str] = ()
    chart: Any = None
    label: str = ""
    legend: Sequence[tuple[str, str]] = ()
    tables: Sequence[Table] = ()
    folded: bool = True
    withheld: str = ""


def page_from(template: str, sections: Mapping[str, Section], **values: Any) -> str:
    """A page as HTML.

    Args:
        template: What stands between head and settings.
        sections: By the names that the template knows them by.
        values: ``title``, ``subject``, ``headline``, ``facts``, ``sentences``, ``details``, ``settings`` and
            ``citation``, and what the template needs.

    """
    drawn = {name: section.chart for name, section in sections.items() if section.chart is not None}
    script, divisions = components(drawn)
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True)
    return environment.get_template(template).render(
        sections=sections,
        bokeh=Resources(mode="inline", components=["bokeh"]).render(),
        script=script,
        divisions=divisions,
        lines=LINES,
        version=__version__,
        **values,
    )


def settings_table(made: Mapping[str, Any], settings: Mapping[str, Any], versions: Mapping[str, str]) -> Table:
    """How a result was computed.

    Args:
        made: What it was made with, by name.
        settings: Of the result.
        versions: Of the result.

    """
    shown = dict(made) | {name.replace("_", " ").capitalize(): value for name, value in settings.items()}
    shown |= {f"Version of {name}": value for name, value in versions.items()}
    rows = [[name, "none" if value is None else str(value)] for name, value in shown.items()]
    return Table("Settings and versions", ["Setting", "Value"], rows)
