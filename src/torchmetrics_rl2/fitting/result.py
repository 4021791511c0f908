"""What a fit came to."""

from dataclasses import dataclass
from typing import Any

__all__ = ["FitResult"]


@dataclass(frozen=True)
class FitResult:
    """What a fit came to.

    Args:
        out: The weights file.
        weights_id: Which latents these are.
        n_fit: Patches the flow was fitted to.
        n_stop: Patches that stopped it.
        n_reference: Patches of the reference.
        epochs: Epochs trained.
        gaussian: Mean held-out log-likelihood before training, with the linear layer alone, in nats a patch.
        held_out: The same of the flow that was kept.
        unreadable: Files that were left out, with the reason.
        joint: How the backbone was trained, if it was, see :func:`~torchmetrics_rl2.joint.train_joint`.

    """

    out: str
    weights_id: str
    n_fit: int
    n_stop: int
    n_reference: int
    epochs: int
    gaussian: float
    held_out: float
    unreadable: list[str]
    joint: dict[str, Any] | None = None
