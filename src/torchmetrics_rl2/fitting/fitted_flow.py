"""A flow fitted to features, and what is known of it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from torchmetrics_rl2.fitting.features import Features
from torchmetrics_rl2.fitting.kinds import FoundKinds, describe_kinds
from torchmetrics_rl2.fitting.kinds_picture import Patch, patch_name
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
        typical: The most typical patches of each kind.
        epochs: Epochs trained.
        gaussian: Held-out log-likelihood without couplings, in nats a patch.
        held_out: The same with them.

    """

    flow: RealNVP
    kinds: list[dict[str, Any]]
    typical: list[list[Patch]]
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
    described, typical = _described(flow, features, kinds) if len(kinds) > 1 else ([], [])
    return FittedFlow(flow, described, typical, epochs, gaussian, held_out)


def _described(flow: RealNVP, features: Features, kinds: FoundKinds) -> tuple[list[dict[str, Any]], list[list[Patch]]]:
    patches = _patches(features.fit_files)
    described, rows = describe_kinds(flow, features.fit, kinds)
    typical = [[patches[row] for row in of_kind] for of_kind in rows]
    named = zip(described, typical, strict=True)
    return [kind | {"typical": [patch_name(patch) for patch in own]} for kind, own in named], typical


@torch.no_grad()
def _mean_log_likelihood(flow: RealNVP, features: Tensor) -> float:
    return flow.log_prob(features).mean().item()


def _patches(files: Sequence[str]) -> list[Patch]:
    counts, seen, patches = Counter(files), Counter[str](), list[Patch]()
    for file in files:
        patches.append((file, seen[file] if counts[file] > 1 else None))
        seen[file] += 1
    return patches
