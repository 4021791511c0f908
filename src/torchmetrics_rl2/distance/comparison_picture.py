"""A comparison of generators as a picture."""

from typing import TYPE_CHECKING, Any

from torchmetrics_rl2.runtime import require_matplotlib

if TYPE_CHECKING:
    from torchmetrics_rl2.distance.comparison import ComparisonResult

__all__ = ["plot_comparison"]

COLORS = {"RL2": "tab:red", "look": "tab:orange", "content": "tab:blue"}
APART = 0.22


def plot_comparison(comparison: "ComparisonResult", ax: Any = None) -> tuple[Any, Any]:
    """Draw a row a generator, the closest on top.

    Args:
        comparison: Of at least two generators.
        ax: A matplotlib axis; without one there is a new figure.

    Returns:
        Figure and axis.

    """
    require_matplotlib()
    generators = comparison.generators
    if ax is None:
        import matplotlib.pyplot as plt

        _, ax = plt.subplots(figsize=(6.4, 1.6 + 0.5 * len(generators)), layout="constrained")
    for row, generator in enumerate(generators):
        result = generator.result
        shown = {"RL2": result, "look": result.look, "content": result.content}
        for line, (name, part) in enumerate(shown.items()):
            if part is None or part.interval is None:
                continue
            at = row + APART * (line - 1)
            ax.plot(part.interval, [at, at], color=COLORS[name], lw=2, alpha=0.6)
            ax.plot(part.debiased, at, "o", ms=4, color=COLORS[name], label=name if row == 0 else None)
    tied = set(comparison.closest) if len(comparison.closest) > 1 else set()
    names = [f"{one.name} (tie)" if one.name in tied else one.name for one in generators]
    ax.set_yticks(range(len(generators)), names)
    ax.invert_yaxis()
    ax.axvline(0, color="gray", lw=0.8)
    ax.set_xlabel("debiased distance from the real images, 95 % intervals")
    ax.legend(frameon=False, fontsize=8)
    return ax.figure, ax
