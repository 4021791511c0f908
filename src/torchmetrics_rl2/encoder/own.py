"""Encoders of one's own: what they get, what they give, and what they are to the rest of the package."""

import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn

from torchmetrics_rl2.distance.statistics import Statistics
from torchmetrics_rl2.errors import RL2Error

__all__ = ["OwnEncoder", "check_encoder", "first_tensor", "latents_of", "weights_id_of"]

CONTRACT = "See 'An encoder of your own' in the documentation."


class OwnEncoder(nn.Module):
    """A module of one's own, with the attributes of an encoder made from weights.

    It is called as :func:`latents_of` says. It has no flow, no card and no reference data.

    Args:
        network: Maps images to ``(N, num_features)``.

    """

    reference = None
    signatures = None
    reference_data = ""
    kinds = None

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.num_features = check_encoder(network, "An encoder")
        self.name = name_of(network)
        self.weights_id = weights_id_of(network)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        tensor = first_tensor(self.network)
        return torch.device("cpu") if tensor is None else tensor.device

    def forward(self, images: Tensor) -> Tensor:
        """Latents ``(N, num_features)`` of uint8 images ``(N, 3, H, W)``."""
        return latents_of(self.network, self.network, images).float()

    @property
    def reference_statistics(self) -> Statistics:
        """There are none.

        Raises:
            RL2Error: Always.

        """
        raise RL2Error(f"{self.name} is a module and holds no reference data; give real images.")

    def statistics(self, latents: Tensor, groups: Sequence[str] | None = None, **described: Any) -> Statistics:
        """Statistics of latents ``(N, num_features)`` of this encoder."""
        return Statistics.of_latents(latents, groups, weights=self.name, weights_id=self.weights_id, **described)

    def warn_of_other_px(self, images: Tensor) -> None:
        """Nobody knows what size it was made for."""


def name_of(network: nn.Module) -> str:
    """That of its class; of the network inside, where it is compiled or distributed."""
    inner = getattr(network, "_orig_mod", None)
    if isinstance(network, nn.parallel.DistributedDataParallel):
        inner = network.module
    return name_of(inner) if isinstance(inner, nn.Module) else type(network).__name__


def weights_id_of(network: Any) -> str | None:
    """The identity that a network declares."""
    declared = getattr(network, "weights_id", None)
    return declared if isinstance(declared, str) else None


def first_tensor(network: nn.Module) -> Tensor | None:
    """One whose device and dtype are those of the network, if it has any."""
    return next(chain(network.parameters(), network.buffers()), None)


def check_encoder(network: nn.Module, caller: str) -> int:
    """Width of the latents of a module.

    Raises:
        ValueError: If it does not say so, or says how to normalize pixels in a way that is not known.

    """
    width = _width(network)
    if width < 1:
        raise ValueError(
            f"{caller} expects an encoder with an integer num_features, the width of its latents, but "
            f"{type(network).__name__}.num_features is {getattr(network, 'num_features', None)!r}. {CONTRACT}"
        )
    config = getattr(network, "pretrained_cfg", None)
    if config is not None and _normalization(config) is None:
        raise ValueError(
            f"{type(network).__name__}.pretrained_cfg has no mean and std of three colors, so that nobody knows which "
            f"pixels it expects. Wrap it in a module that normalizes images itself. {CONTRACT}"
        )
    return width


def latents_of(encoder: nn.Module, network: nn.Module, images: Tensor) -> Tensor:
    """Latents of a module, in evaluation mode and without gradients.

    It gets images as they are: uint8, or floating point in [0, 1], and normalizes them itself. One that has a
    ``pretrained_cfg``, as models of timm do, gets float32 in [0, 1], less its mean and over its std.

    Args:
        encoder: What to call: the module, or a cache over it.
        network: The module.
        images: ``(N, 3, H, W)``.

    Raises:
        RL2Error: If it cannot take them.
        ValueError: If it returns something else than ``(N, num_features)``.

    """
    name, config = type(network).__name__, getattr(network, "pretrained_cfg", None)
    inputs = images if config is None else _inputs(encoder, config, images)
    try:
        with torch.no_grad(), _evaluating(network):
            latents = encoder(inputs)
    except (RL2Error, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # networks raise anything at what they do not expect
        dtype, shape = str(inputs.dtype).removeprefix("torch."), tuple(inputs.shape)
        said = f"{type(error).__name__}: {str(error).strip()}"
        raise RL2Error(
            f"The encoder {name} cannot take {dtype} images of shape {shape} ({said}). It gets images as they are, and "
            f"normalizes them itself. {CONTRACT}"
        ) from error
    width = _width(network)
    if not isinstance(latents, Tensor) or latents.shape != (len(images), width):
        got = tuple(latents.shape) if isinstance(latents, Tensor) else type(latents).__name__
        hint = " A model of timm gives them with num_classes=0." if config is not None else ""
        raise ValueError(
            f"Expected latents of shape {(len(images), width)} from {name}, but got {got}.{hint} {CONTRACT}"
        )
    return latents


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    training = [module for module in network.modules() if module.training]
    network.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _width(network: nn.Module) -> int:
    """Width of the latents; of some models of timm it is that of the layer before the classifier."""
    of_head = getattr(network, "head_hidden_size", None) if hasattr(network, "pretrained_cfg") else None
    width = of_head or getattr(network, "num_features", None)
    return int(width) if isinstance(width, Integral) and not isinstance(width, bool) else 0


def _inputs(encoder: nn.Module, config: Any, images: Tensor) -> Tensor:
    """Images as a ``pretrained_cfg`` asks for; the same tensor again for a cache, which goes by it."""
    last = encoder.__dict__.get("_last_inputs")
    if last is not None and last[0]() is images:
        found: Tensor = last[1]
        return found
    normalization = _normalization(config)
    assert normalization is not None
    from torchmetrics.wrappers.feature_share import NetworkCache

    mean, std = (images.new_tensor(values, dtype=torch.float32).view(3, 1, 1) for values in normalization)
    inputs = ((images / 255 if images.dtype == torch.uint8 else images.float()) - mean) / std
    if isinstance(encoder, NetworkCache):
        encoder.__dict__["_last_inputs"] = weakref.ref(images), inputs
    return inputs


def _normalization(config: Any) -> tuple[list[float], list[float]] | None:
    values = config if isinstance(config, Mapping) else getattr(config, "__dict__", {})
    try:
        mean, std = ([float(value) for value in values[name]] for name in ("mean", "std"))
    except (KeyError, TypeError, ValueError):
        return None
    return (mean, std) if len(mean) == len(std) == 3 and min(std) > 0 else None
