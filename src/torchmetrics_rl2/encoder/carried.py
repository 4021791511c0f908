r"""The content that damage carries along, and what of it cannot be foretold.

Damage moves the mean look, and the mean content a little. Content is regressed on look over known damage, each at a
look of length 1:

.. math:: W = \arg\min_W \sum_j \lVert c_j - W l_j \rVert^2 + \lambda \lVert W \rVert^2

Sets whose looks differ by :math:`l` have :math:`W l` as content, though both show the same tissue. Content is tested
without it. What is left of damage of a ladder that took no part in the regression is the leak of look.
"""

from dataclasses import replace

import torch
from torch import Tensor

from torchmetrics_rl2.distance.kinds import LEAKS, Kinds
from torchmetrics_rl2.pixels.degradations import LADDERS
from torchmetrics_rl2.weights.signatures import Signatures

__all__ = ["DAMAGE", "leak_of_look", "with_carried"]

RIDGE = 0.1
CLEAR = 5  # standard errors of a shift, to learn from it
TINY = 1e-9
_NUMBERS = {"gaussian blur": 1, "gaussian noise": 1, "jpeg": 1, "rectangles": 0, "hematoxylin": 1}
DAMAGE = (
    *((name, LADDERS[name].severities[number]) for name, number in _NUMBERS.items()),
    ("hematoxylin", -LADDERS["hematoxylin"].severities[1]),
)
"""Blur of 1 px, noise of 5 %, JPEG at quality 50, rectangles over 5 %, and half an octave of hematoxylin."""


@torch.no_grad()
def with_carried(kinds: Kinds, signatures: Signatures) -> Kinds:
    """Kinds that know what damage carries along, and the leak that is left.

    Args:
        kinds: Of a flow.
        signatures: Of the same flow.

    """
    content = signatures.shifts @ kinds.basis
    look = signatures.shifts - content @ kinds.basis.T
    length = look.norm(dim=1, keepdim=True)
    clear = length[:, 0] > CLEAR * signatures.variances.double().sqrt()
    if not clear.any():
        return kinds
    look, content = look / length.clamp(min=TINY), content / length.clamp(min=TINY)
    means = kinds.means.to("cpu", torch.float64)
    apart = means - means.mean(0)
    # By means, as the signs of the basis are not the same everywhere.
    toward = torch.linalg.pinv(apart.T) @ kinds.basis @ _regressed(look[clear], content[clear]).T
    left = content.clone()
    for ladder in dict.fromkeys(signatures.ladders):
        own = torch.tensor([name == ladder for name in signatures.ladders])
        others = clear & ~own
        left[own] -= look[own] @ _regressed(look[others], content[others])
    unforeseen = replace(signatures, shifts=look + left @ kinds.basis.T)
    leak = max(LEAKS[0], leak_of_look(unforeseen, kinds.basis))
    return replace(kinds, carried=toward.float(), leaks=(leak, kinds.leaks[1]))


def leak_of_look(signatures: Signatures, basis: Tensor) -> float:
    """The most that one of six kinds of damage moves the mean content, as a share of what it moves the mean look."""
    rows = [
        row for row, known in enumerate(zip(signatures.ladders, signatures.severities, strict=True)) if known in DAMAGE
    ]
    moved = signatures.shifts[rows]
    content = moved @ basis
    look = moved - content @ basis.T
    return float((content.norm(dim=1) / look.norm(dim=1).clamp(min=TINY)).max()) if rows else 0.0


def _regressed(look: Tensor, content: Tensor) -> Tensor:
    """Coefficients ``(d, k)`` of content on look."""
    gram = look @ look.T + RIDGE * torch.eye(len(look), dtype=look.dtype)
    found: Tensor = look.T @ torch.linalg.solve(gram, content)
    return found
