"""One network for many metrics: on every device one copy, and none that a metric outside of it can change."""

import copy
import weakref
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary, WeakValueDictionary

import torch
from torch import Tensor, nn

from torchmetrics_rl2.encoder.encoder import LatentEncoder
from torchmetrics_rl2.encoder.own import OwnEncoder, check_encoder, first_tensor
from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.runtime import default_device
from torchmetrics_rl2.storage import digest
from torchmetrics_rl2.weights.file import weights_id_in
from torchmetrics_rl2.weights.loading import load_weights

if TYPE_CHECKING:
    from torchmetrics.wrappers.feature_share import NetworkCache

__all__ = [
    "StoredEncoder",
    "any_encoder_of",
    "cache_over",
    "encoder_of",
    "identity_of",
    "network_of",
    "network_on",
    "number_of",
    "private_copy",
]

_Place = tuple[torch.device, torch.dtype]


@dataclass
class _Family:
    """A network and its copies on other devices and in other dtypes, for as long as someone uses them."""

    origin: "weakref.ref[nn.Module]"
    number: int
    copies: WeakValueDictionary[_Place, nn.Module] = field(default_factory=WeakValueDictionary)


_loaded: WeakValueDictionary[tuple[tuple[str, Path, str], torch.device, torch.dtype], nn.Module] = WeakValueDictionary()
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


def any_encoder_of(
    weights: str | Path | nn.Module, device: str | torch.device | None = None
) -> LatentEncoder | OwnEncoder:
    """What :func:`encoder_of` gives, or a module of one's own with the attributes of an encoder, on a device.

    Args:
        weights: Name or path of weights, an encoder that has them, or a module with ``num_features``.
        device: Where to compute; by default a GPU if there is one.

    Raises:
        RL2Error: If there are no such weights, or no such device.
        ValueError: If a module is no encoder.

    """
    if not isinstance(weights, nn.Module) or isinstance(weights, LatentEncoder):
        return encoder_of(weights, device)
    check_encoder(weights, "An encoder")
    return OwnEncoder(network_on(weights, default_device(device)))


def identity_of(encoder: LatentEncoder | OwnEncoder) -> str:
    """What an encoder is known by: the start of its ``weights_id``, or of a digest of a module that declares none."""
    network = encoder.network if isinstance(encoder, OwnEncoder) else encoder
    return (encoder.weights_id or digest([type(network).__name__], network.state_dict()))[:12]


def encoder_of(weights: str | Path | LatentEncoder, device: str | torch.device | None = None) -> LatentEncoder:
    """Encoder of weights on a device; one that is given is never moved, and is copied where it is needed elsewhere.

    Args:
        weights: Name or path of weights, or an encoder that has them.
        device: Where to compute; by default a GPU if there is one.

    Raises:
        RL2Error: If there are no such weights, or no such device.

    """
    place = default_device(device)
    encoder = network_on(weights if isinstance(weights, LatentEncoder) else LatentEncoder.load(weights), place)
    assert isinstance(encoder, LatentEncoder)
    return encoder


@dataclass(frozen=True)
class StoredEncoder:
    """What is pickled of an encoder whose weights are in a file: where they are, and which they have to be.

    Args:
        name: What they were asked for by.
        path: Their file.
        weights_id: Which latents these are.
        place: An empty tensor of its device and dtype, which ``map_location`` of ``torch.load`` moves.

    """

    name: str
    path: Path
    weights_id: str
    place: Tensor

    @classmethod
    def of(cls, network: nn.Module) -> "StoredEncoder | nn.Module":
        """The network itself where its file is gone or another one, or it is not what the file says any more."""
        if not isinstance(network, LatentEncoder) or network.path is None or not network.is_as_loaded():
            return network
        if weights_id_in(network.path) != network.weights_id:
            return network
        place = torch.empty(0, device=network.device, dtype=network.dtype)
        return cls(network.name, network.path, network.weights_id, place)

    def load(self) -> nn.Module:
        """The encoder again, one for all that are loaded while it is in use.

        Raises:
            RL2Error: If neither file nor name have these weights any more.

        """
        # Under the place of each, as a copy elsewhere may be all that is in use.
        which, device, dtype = (self.name, self.path, self.weights_id), self.place.device, self.place.dtype
        here = (which, device, dtype)
        loaded = [encoder for key, encoder in _loaded.items() if key[0] == which and key[1].type != "meta"]
        encoder = _loaded.get(here, loaded[0] if loaded else None)
        for source in (self.path, self.name) if encoder is None else ():
            with suppress(RL2Error):
                weights = load_weights(source)
                if weights.weights_id == self.weights_id:
                    encoder = LatentEncoder(replace(weights, name=self.name))
                    break
        if encoder is None:
            raise RL2Error(
                f"The weights {self.name} ({self.weights_id[:12]}) of a pickled metric are neither at {self.path} nor "
                "known by that name any more. Put the file there, or pickle a metric made of weights that are here."
            )
        found = _loaded[here] = network_on(encoder, device, dtype)
        return found


def private_copy(network: nn.Module) -> nn.Module:
    """The same network, tensors and submodules as another object.

    FeatureShare replaces ``forward`` of the object that a metric holds; other metrics hold others.
    """
    twin = copy.copy(network)
    twin.__dict__["_shared_network"] = network
    return twin


def network_of(encoder: nn.Module) -> nn.Module:
    """The network behind a private copy, or behind FeatureShare's cache of one."""
    from torchmetrics.wrappers.feature_share import NetworkCache

    while isinstance(encoder, NetworkCache):
        encoder = encoder.network
    network: nn.Module = encoder.__dict__.get("_shared_network", encoder)
    return network


def cache_over(cache: "NetworkCache", network: nn.Module) -> nn.Module:
    """FeatureShare's cache over a copy of its network elsewhere, one for all metrics that shared it."""
    from torchmetrics.wrappers.feature_share import NetworkCache

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


def _family(network: nn.Module) -> _Family:
    if network not in _families:
        _families[network] = _Family(weakref.ref(network), next(_numbers))
    return _families[network]


def _place(network: nn.Module) -> _Place | None:
    tensor = first_tensor(network)
    if tensor is None:
        return None
    return tensor.device, network.dtype if isinstance(network, LatentEncoder) else tensor.dtype
