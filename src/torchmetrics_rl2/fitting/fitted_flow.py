"""A flow fitted to features, and what is known of it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from torchmetrics_rl2.fitting.features import Features
from torchmetrics_rl2.fitting.kinds import FoundKinds, kinds_in_card
from torchmetrics_rl2.fitting.settings import FitSettings, Machine
from torchmetrics_rl2.networks.flow import RealNVP
from torchmetrics_rl2.runtime import Progress

__all__ = ["FittedFlow", "fit_flow"]


@dataclass(frozen=True)
class FittedFlow:
    """A flow, and how it was fitted.

    Args:
        flow: The flow.
        kinds: What the card says of its kinds, if it has several.
        epochs: Epochs trained.
        gaussian: Held-out log-likelihood without couplings, in nats a patch.
        held_out: The same with them.

    """

    flow: RealNVP
    kinds: list[dict[str, Any]]
    epochs: int
    gaussian: float
    held_out: float


def fit_flow(
    features: Features,
    kinds: FoundKinds,
    settings: FitSettings,
    run: Path,
    machine: Machine,
    progress: Progress | None,
) -> FittedFlow:
    """Fit linear layer and base to features, and train couplings if there are any.

    Args:
        features: Of the split; those of the fit vary.
        kinds: Of the patches that fit.
        settings: How the flow is built and trained.
        run: The folder of checkpoints.
        machine: Where to train.
        progress: Whom to tell.

    """
    flow = RealNVP(
        512, settings.layers, settings.hidden, settings.scale_bound, settings.linear, settings.seed, len(kinds)
    )
    flow.adapt(features.fit, kinds.labels if len(kinds) > 1 else None)
    gaussian = _mean_log_likelihood(flow, features.stop)
    held_out, epochs = gaussian, 0
    if settings.layers:
        from torchmetrics_rl2.fitting.training import FlowTraining, train_flow

        module = FlowTraining(flow, features.fit, features.stop, settings)
        held_out, epochs = train_flow(module, gaussian, run, machine, progress)
    flow.requires_grad_(False)
    described = kinds_in_card(flow, features.fit, kinds, _names(features.fit_files)) if len(kinds) > 1 else []
    return FittedFlow(flow, described, epochs, gaussian, held_out)


@torch.no_grad()
def _mean_log_likelihood(flow: RealNVP, features: Tensor) -> float:
    return flow.log_prob(features).mean().item()


def _names(files: Sequence[str]) -> list[str]:
    """The name of the file of each patch, and the number of the tile where there are several of a file."""
    counts, seen, names = Counter(files), Counter[str](), []
    for file in files:
        names.append(f"{Path(file).name}, tile {seen[file]}" if counts[file] > 1 else Path(file).name)
        seen[file] += 1
    return names
