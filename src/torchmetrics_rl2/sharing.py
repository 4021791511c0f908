"""One network for many metrics: on every device one copy, and none that a metric outside of it can change."""

import copy
import weakref
from dataclasses import dataclass, field
from itertools import chain, count
from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary

import torch
from torch import nn
from torchmetrics.wrappers.feature_share import NetworkCache

from torchmetrics_rl2.encoder import LatentEncoder

__all__ = ["cache_over", "network_of", "network_on", "number_of", "private_copy", "weights_id_of"]

_Place = tuple[torch.device, torch.dtype]


@dataclass
class _Family:
    """A network and its copies on other devices and in other dtypes, for as long as someone uses them."""

    origin: "weakref.ref[nn.Module]"
    number: int
    copies: WeakValueDictionary[_Place, nn.Module] = field(default_factory=WeakValueDictionary)


_numbers = count()
_families: WeakKeyDictionary[nn.Module, _Family] = WeakKeyDictionary()
_caches: WeakKeyDictionary[nn.Module, WeakValueDictionary[_Place, nn.Module]] = WeakKeyDictionary()


def network_on(network: nn.Module, device: torch.device, dtype: torch.dtype | None = None) -> nn.Module:
    """The network itself if it is there already, else the one copy of it that all metrics on that device share.

    Where its owner has moved the original there since, that is taken instead of a copy, so that it stays the network
    which the owner trains.
    """
    place = _place(network)
    if place is None:
        return network
    wanted = (device, dtype or place[1])
    family = _family(network)
    for candidate in (family.origin(), network, family.copies.get(wanted)):
        if candidate is not None and _place(candidate) == wanted:
            return candidate
    twin = network.with_dtype(dtype) if isinstance(network, LatentEncoder) and dtype else copy.deepcopy(network)
    twin = family.copies[wanted] = twin.to(device)
    _families[twin] = family
    return twin


def private_copy(network: nn.Module) -> nn.Module:
    """The same network, tensors and submodules as another object.

    FeatureShare replaces ``forward`` of the object that a metric holds; other metrics hold others.
    """
    twin = copy.copy(network)
    twin.__dict__["_shared_network"] = network
    return twin


def network_of(encoder: nn.Module) -> nn.Module:
    """The network behind a private copy, or behind FeatureShare's cache of one."""
    while isinstance(encoder, NetworkCache):
        encoder = encoder.network
    network: nn.Module = encoder.__dict__.get("_shared_network", encoder)
    return network


def cache_over(cache: NetworkCache, network: nn.Module) -> nn.Module:
    """FeatureShare's cache over a copy of its network elsewhere, one for all metrics that shared it."""
    places = (_place(network_of(cache)), _place(network))
    if places[0] is None or places[1] is None:
        return cache
    family = _caches.setdefault(cache, WeakValueDictionary())
    family.setdefault(places[0], cache)
    found = family.get(places[1])
    if found is None or network_of(found) is not network:
        found = family[places[1]] = NetworkCache(private_copy(network), cache.max_size)
        _caches[found] = family
    return found


def number_of(network: nn.Module) -> int:
    """A number that this network and its copies on other devices have alone in this process."""
    return _family(network).number


def weights_id_of(network: Any) -> str | None:
    """The identity that a network declares."""
    declared = getattr(network, "weights_id", None)
    return declared if isinstance(declared, str) else None


def _family(network: nn.Module) -> _Family:
    if network not in _families:
        _families[network] = _Family(weakref.ref(network), next(_numbers))
    return _families[network]


def _place(network: nn.Module) -> _Place | None:
    tensor = next(chain(network.parameters(), network.buffers()), None)
    return None if tensor is None else (tensor.device, tensor.dtype)
