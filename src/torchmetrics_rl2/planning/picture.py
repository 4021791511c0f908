"""A plan as a curve."""

from typing import TYPE_CHECKING, Any

from torchmetrics_rl2.distance.uncertainty import MIN_UNITS
from torchmetrics_rl2.runtime import require_matplotlib

if TYPE_CHECKING:
    from torchmetrics_rl2.planning.result import PlanResult

__all__ = ["plot_plan"]

COLORS = {"whole": "tab:red", "look": "tab:orange", "content": "tab:blue"}
NAMES = {"whole": "RL2", "look": "look", "content": "content"}


def plot_plan(plan: "PlanResult", ax: Any = None) -> tuple[Any, Any]:
    """Draw a plan.

    Args:
        plan: With at least one number of units.
        ax: A matplotlib axis; without one there is a new figure.

    Returns:
        Figure and axis.

    """
    require_matplotlib()
    if ax is None:
        import matplotlib.pyplot as plt

        _, ax = plt.subplots(layout="constrained")
    for row in plan.rows:
        if row.name in NAMES.values():
            ax.loglog(plan.counts, row.smallest, marker="o", ms=3, color=COLORS[row.part], label=row.name)
    for goal in plan.goals:
        # What the least number of units finds lies far off the curves, and all in one place.
        if goal.needed is not None and goal.needed > MIN_UNITS and goal.part in COLORS:
            ax.plot(goal.needed, goal.distance, "x", color=COLORS[goal.part])
            ax.annotate(goal.name, (goal.needed, goal.distance), xytext=(4, 4), textcoords="offset points", fontsize=7)
    ax.set(
        xlabel=f"{plan.units} a side",
        ylabel=f"smallest distance found with {100 * plan.power:.0f} % power",
    )
    ax.grid(visible=True, which="both", alpha=0.2)
    ax.legend(frameon=False)
    return ax.figure, ax
