"""Which metric of a model a callback is about."""

from torch import nn
from torchmetrics import MetricCollection

from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.metrics.resnet_l2 import ResNetL2

__all__ = ["find_metric"]


def find_metric(model: nn.Module, name: str | None, callback: str) -> ResNetL2:
    """The metric of a model.

    Args:
        model: That has it.
        name: Where it is in the model; ``None`` for the only one.
        callback: Name of the callback, for messages.

    Raises:
        RL2Error: If there is none of that name, or not one alone.

    """
    if name is None:
        found = [name for name, module in model.named_modules() if isinstance(module, ResNetL2)]
        if len(found) != 1:
            named = f"{len(found)}: {', '.join(found)}. Name one" if found else "none. Give it one, or name it"
            raise RL2Error(
                f"{callback} looks for a ResNetL2 in {type(model).__name__}, which has {named}, as in "
                f"{callback}('rl2')."
            )
        name = found[0]
    holder, _, last = name.rpartition(".")
    try:
        owner = model.get_submodule(holder)
        # Older torchmetrics brings the sums that metrics of a collection share up to date only when asked like this.
        metric = owner[last] if isinstance(owner, MetricCollection) else owner.get_submodule(last)
    except (AttributeError, KeyError):
        metric = None
    if not isinstance(metric, ResNetL2):
        raise RL2Error(
            f"{callback}({name!r}) expects {type(model).__name__}.{name} to be a ResNetL2, but got "
            f"{'nothing' if metric is None else type(metric).__name__}."
        )
    return metric
