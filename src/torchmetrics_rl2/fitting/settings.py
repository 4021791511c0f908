"""How a flow is built and trained, and a backbone with it."""

import math
from dataclasses import dataclass
from typing import Literal

from torchmetrics_rl2.errors import RL2Error

__all__ = ["FitSettings", "JointSettings", "Machine"]


@dataclass(frozen=True)
class FitSettings:
    """How a flow is built and trained.

    Args:
        layers: Number of couplings; without any the flow is one Gaussian.
        hidden: Width of the conditioners.
        scale_bound: Bound of the log-scale of a coupling.
        linear: Full ``"whitening"`` or ``"diagonal"`` standardization in front.
        learning_rate: Of AdamW.
        weight_decay: Of AdamW.
        batch_size: Feature vectors a step, over all devices together.
        max_epochs: Epochs, at most.
        patience: Epochs without a better held-out likelihood before training stops.
        seed: Of initial weights and of the order of the data.
        within_groups: Take the mean of its group off each patch first, as of its laboratory: what makes groups differ
            then counts neither as spread nor as a kind of tissue.

    """

    layers: int = 4
    hidden: int = 128
    scale_bound: float = 0.2
    linear: Literal["diagonal", "whitening"] = "whitening"
    learning_rate: float = 3e-4
    weight_decay: float = 1e-2
    batch_size: int = 128
    max_epochs: int = 500
    patience: int = 20
    seed: int = 0
    within_groups: bool = False

    def __post_init__(self) -> None:
        counts = (self.hidden, self.batch_size, self.max_epochs, self.patience)
        rates = (self.scale_bound, self.learning_rate)
        if not 0 <= self.seed < 2**63:
            raise RL2Error(f"The seed is a whole number from 0 to 2^63 - 1, but got {self.seed}.")
        if self.layers < 0 or min(counts) < 1 or not all(0 < rate < math.inf for rate in rates):
            raise RL2Error(
                "A fit needs layers >= 0, hidden, batch size, epochs and patience >= 1, and a scale bound and a "
                f"learning rate above 0, but got {self}."
            )


@dataclass(frozen=True)
class Machine:
    """Where to train, as of a Lightning Trainer.

    Args:
        accelerator: ``cpu``, ``gpu``, ``mps`` or ``auto``.
        devices: Devices a machine.
        num_nodes: Machines.

    Raises:
        RL2Error: If there would be no device or machine.

    """

    accelerator: str = "auto"
    devices: int | str = 1
    num_nodes: int = 1

    def __post_init__(self) -> None:
        if self.num_nodes < 1 or (isinstance(self.devices, int) and self.devices < 1):
            raise RL2Error(
                f"A fit needs at least one device and one node, but got {self.devices} and {self.num_nodes}."
            )


@dataclass(frozen=True)
class JointSettings:
    """How a backbone is trained together with a flow, and when that stops.

    Args:
        max_epochs: Epochs, at most; one takes every image once, or 50 batches of them.
        learning_rate: Of the backbone, with AdamW; that of the couplings is the flow's own.
        rank_share: Training stops before the effective rank falls below this share of what it was.
        probe_share: Training stops before R^2 of the linear probe falls below this share of what it was.

    Raises:
        RL2Error: If epochs or rate are not above 0, or a share is not above 0 and at most 1.

    """

    max_epochs: int = 10
    learning_rate: float = 2e-5
    rank_share: float = 0.9
    probe_share: float = 0.9

    def __post_init__(self) -> None:
        shares = (self.rank_share, self.probe_share)
        if self.max_epochs < 1 or not 0 < self.learning_rate < math.inf or not all(0 < share <= 1 for share in shares):
            raise RL2Error(
                "Joint training needs epochs >= 1, a learning rate above 0, and shares above 0 and at most 1, "
                f"but got {self}."
            )
