"""A result as a picture: content across, look up, and RL2 as the way from the origin."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from torchmetrics_rl2.distance.details import conclusion_of
from torchmetrics_rl2.distance.parts import PartResult
from torchmetrics_rl2.distance.text import three_digits, times
from torchmetrics_rl2.runtime import require_matplotlib

if TYPE_CHECKING:
    from torchmetrics_rl2.distance.result import RL2Result

__all__ = ["plot_result"]

SHOWN = 3.0  # multiples of the baseline that an axis has room for at least
MARGIN = 1.2
COLOR, GRID = "tab:red", "gray"
OF_LOOK, OF_CONTENT = "tab:orange", "tab:blue"
BASELINE, INTERVAL = "baseline: real against real", "95 % interval, debiased"


def plot_result(result: "RL2Result", ax: Any = None) -> tuple[Any, Any]:
    """Draw a result.

    Args:
        result: With parts, or without.
        ax: A matplotlib axis; without one there is a new figure.

    Returns:
        Figure and axis.

    """
    require_matplotlib()
    if ax is None:
        import matplotlib.pyplot as plt

        _, ax = plt.subplots(layout="constrained")
    if not math.isfinite(result.value):
        ax.set_axis_off()
    elif result.content is None or result.look is None:
        _bar(result, ax)
    else:
        _plane(result, result.content, result.look, ax)
    multiple = "" if result.baseline_multiple is None else f", {times(result.baseline_multiple)}x the baseline"
    conclusion = conclusion_of(result).replace(", as ", ",\nas ")
    ax.set_title(f"{conclusion}\nRL2 {three_digits(result.value)}{multiple}", fontsize=10)
    return ax.figure, ax


def _plane(result: "RL2Result", content: PartResult, look: PartResult, ax: Any) -> None:
    width, height = _reach(content), _reach(look)
    ax.set(xlim=(0, width), ylim=(0, height))
    x, y = np.meshgrid(np.linspace(0, width, 200), np.linspace(0, height, 200))
    arcs = ax.contour(x, y, np.hypot(x, y), levels=6, colors=GRID, linewidths=0.6, alpha=0.5)
    ax.clabel(arcs, fmt="RL2 %g", fontsize=7)
    angles = np.linspace(0, math.pi / 2, 200)
    ax.plot(result.value * np.cos(angles), result.value * np.sin(angles), color=COLOR, lw=0.8, ls="--")
    if look.debiased > 0:
        end = content.limit / look.debiased * height
        label = "content that look alone may cause"
        ax.fill_betweenx([0, height], 0, [0, end], color=OF_LOOK, alpha=0.12, lw=0, label=label)
    if content.debiased > 0:
        end = look.limit / content.debiased * width
        label = "look that content alone may cause"
        ax.fill_between([0, width], 0, [0, end], color=OF_CONTENT, alpha=0.12, lw=0, label=label)
    if content.baseline is not None and look.baseline is not None:
        ax.axvline(content.baseline, color="black", lw=0.8, ls=":", label=BASELINE)
        ax.axhline(look.baseline, color="black", lw=0.8, ls=":")
    if content.interval is not None and look.interval is not None:
        at = max(0.0, content.debiased), max(0.0, look.debiased)
        ax.plot(np.clip(content.interval, 0, None), [at[1]] * 2, color=COLOR, lw=2, alpha=0.6, label=INTERVAL)
        ax.plot([at[0]] * 2, np.clip(look.interval, 0, None), color=COLOR, lw=2, alpha=0.6)
    ax.plot(content.value, look.value, "o", color=COLOR, label="RL2")
    ax.set(xlabel="content: which tissue is shown", ylabel="look: how it is shown")
    _legend(ax)


def _bar(result: "RL2Result", ax: Any) -> None:
    ax.set(xlim=(-1, 1), ylim=(0, _reach(result)), xticks=[], ylabel="RL2")
    ax.bar(0, result.value, width=0.5, color=COLOR, alpha=0.4, label="RL2")
    if result.baseline is not None:
        ax.axhline(result.baseline, color="black", lw=0.8, ls=":", label=BASELINE)
    if result.interval is not None:
        ax.plot([0, 0], np.clip(result.interval, 0, None), color=COLOR, lw=2, label=INTERVAL)
    _legend(ax)


def _legend(ax: Any) -> None:
    ax.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.13), ncol=2, frameon=False)


def _reach(part: "PartResult | RL2Result") -> float:
    """The end of an axis."""
    ends = [part.value, (part.interval or (0.0, 0.0))[1], SHOWN * (part.baseline or 0.0)]
    return MARGIN * max(end for end in ends if math.isfinite(end)) or 1.0
