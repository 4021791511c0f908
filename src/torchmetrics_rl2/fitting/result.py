"""What a fit came to."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torchmetrics_rl2.fitting.kinds_picture import kinds_picture

__all__ = ["FitResult"]

STOPPED_BY = {
    "effective_rank": "before the effective rank fell below its share",
    "probe": "before the linear probe fell below its share",
    "epochs": "all that were asked for",
}


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
        kinds: Name, share, spread and typical patches of each kind of tissue; empty if there is but one.
        joint: How the backbone was trained, if it was, ``None`` if it was not.
        left_out: Files of the folder that are no images.
        warnings: Sentences on what makes the fit less dependable.

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
    kinds: list[dict[str, Any]] = field(default_factory=list)
    joint: dict[str, Any] | None = None
    left_out: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """As ``rl2 fit --json`` prints it."""
        return asdict(self)

    def __str__(self) -> str:
        lines = [
            f"Wrote {self.out} ({self.weights_id[:12]}): {self.n_fit} patches fitted the flow, {self.n_stop} stopped "
            f"it after {self.epochs} epochs, {self.n_reference} became the reference data",
            f"Held-out log-likelihood: {self.held_out:.1f} nats a patch; {self.gaussian:.1f} without couplings",
        ]
        if self.kinds:
            shares = ", ".join(f"{kind['name']} {kind['share']:.0%}" for kind in self.kinds)
            lines.append(f"{len(self.kinds)} kinds of tissue: {shares}; {kinds_picture(Path(self.out))} shows them")
        else:
            lines.append("One kind of tissue, so RL2 has no content and look")
        if self.joint:
            start, end = self.joint["trace"][0], self.joint["trace"][self.joint["epochs"]]
            lines.append(
                f"Backbone trained for {self.joint['epochs']} epochs, {STOPPED_BY[self.joint['stopped_by']]}: "
                f"effective rank {start['effective_rank']:.1f} to {end['effective_rank']:.1f}, R^2 of the probe "
                f"{start['probe']:.3f} to {end['probe']:.3f}"
            )
        return "\n".join(lines)
