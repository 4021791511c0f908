"""The summary of an audit, in the card of a weights file."""

from dataclasses import replace
from pathlib import Path

from torchmetrics_rl2.auditing.result import AuditResult
from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.weights.catalog import find_entry
from torchmetrics_rl2.weights.file import Weights, write_weights
from torchmetrics_rl2.weights.loading import lend, load_weights

__all__ = ["check_can_save", "save_audit"]


def check_can_save(weights: str | Path) -> Weights:
    """Refuse early weights whose file is not the user's, and read the others.

    Args:
        weights: Name or path.

    Raises:
        RL2Error: If it is a name, or no weights file.

    """
    if find_entry(weights) is not None:
        raise RL2Error(f"{weights} is a name, whose file is checked against the catalog; an audit is saved into files.")
    return load_weights(weights)


def save_audit(result: AuditResult, path: str | Path) -> None:
    """Write the summary of an audit into the card of a weights file; which latents these are stays the same.

    Args:
        result: What :func:`audit` found.
        path: The weights file.

    Raises:
        RL2Error: If the file has other weights than those audited, or cannot be written.

    """
    weights = check_can_save(path)
    if weights.weights_id != result.weights_id:
        raise RL2Error(f"{path} has the weights {weights.weights_id[:12]}, but {result.name} was audited.")
    write_weights(replace(weights, card={**weights.card, "audit": result.summary()}), path, lend)
