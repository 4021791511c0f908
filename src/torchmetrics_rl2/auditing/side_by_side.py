"""Audits of several weights on the same images, side by side."""

from collections.abc import Sequence

from torchmetrics_rl2.auditing.result import AuditResult
from torchmetrics_rl2.errors import RL2Error

__all__ = ["side_by_side"]


def side_by_side(results: Sequence[AuditResult]) -> str:
    """A line for each ladder and family, with a column for each of several weights.

    Args:
        results: Audits on the same images, with the same ladders.

    Raises:
        RL2Error: If they are of other images or ladders.

    """
    first = results[0]
    if len({(one.images, one.n, *(ladder.name for ladder in one.ladders)) for one in results}) > 1:
        raise RL2Error("Audits of other images or other ladders do not stand side by side. Run them with the same.")
    width = max(22, *(len(one.name) + 2 for one in results))
    lines = [
        f"Audits on {first.n} images, {first.units} units, of {first.images}: verdict, and AUC of damage that a person "
        "clearly sees",
        f"{'':21}{''.join(f'{one.name:>{width}}' for one in results)}{'hand-crafted':>14}",
    ]
    for i, ladder in enumerate(first.ladders):
        cells = "".join(
            f"{f'{one.ladders[i].verdict} {one.ladders[i].at_visible.auc:.2f}':>{width}}" for one in results
        )
        lines.append(f"{ladder.number:2} {ladder.name:18}{cells}{ladder.at_visible.auc_handcrafted:14.2f}")
    for family, (_, _, handcrafted) in first.families().items():
        cells = "".join(f"{one.families()[family][0]:{width}.3f}" for one in results)
        lines.append(f"   {'mean, ' + family:18}{cells}{handcrafted:14.3f}")
    names = [ladder.name for ladder in first.content]
    if names and all([ladder.name for ladder in one.content] == names for one in results):
        lines.append(
            f"   verdict of content, and share of draws of {first.cross_talk[0].n} images a side that it differs in"
        )
        for i, name in enumerate(names):
            ladders = [one.content[i] for one in results]
            cells = "".join(f"{f'{one.verdict} {one.power[max(one.power)]:.2f}':>{width}}" for one in ladders)
            lines.append(f"   {name:18}{cells}")
    return "\n".join(lines)
