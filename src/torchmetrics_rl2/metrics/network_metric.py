"""A metric that holds a network without owning it, and that errors leave as it was."""

import copy
import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat
from torchmetrics.wrappers.feature_share import NetworkCache

from torchmetrics_rl2.encoder.encoder import DTYPES, LatentEncoder
from torchmetrics_rl2.encoder.own import check_encoder, name_of, weights_id_of
from torchmetrics_rl2.encoder.sharing import (
    StoredEncoder,
    cache_over,
    network_of,
    network_on,
    number_of,
    private_copy,
)
from torchmetrics_rl2.errors import RL2Error

__all__ = ["NetworkMetric"]


class NetworkMetric(Metric):
    """Base of metrics that put images through a frozen network.

    The network is ``metric.encoder``, outside of the metric's modules: a frozen network has no business in checkpoints,
    optimizers, DDP buckets, ``train()`` and casts. Its tensors are shared by all metrics that were given it, and by
    clones; states are replaced and never changed in place, so that an exception can be undone.

    Args:
        encoder: Name of weights, path of a weights file, or a module with ``num_features``.
        kwargs: See :class:`torchmetrics.Metric`.

    """

    feature_network = "encoder"
    encoder: nn.Module
    encoder_id: Tensor

    def __init__(self, encoder: str | Path | nn.Module, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        network = encoder if isinstance(encoder, nn.Module) else LatentEncoder.load(encoder)
        self.num_features = check_encoder(network, type(self).__name__)
        # Lightning builds large models on the meta device; sums and a network with its weights are real from the start.
        self._device = torch.device("cpu") if self.device.type == "meta" else self.device
        self._hold(network_on(network, self.device))
        self.add_state("encoder_id", self._encoder_id(), dist_reduce_fx="max")

    @torch.jit.unused
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Add a batch and return its value alone; an exception leaves the metric as it was."""
        with self._unchanged_by_errors():  # torchmetrics resets all states before it updates
            return super().forward(*args, **kwargs)

    def merge_state(self, incoming_state: "dict[str, Any] | Metric") -> None:
        """Add the sums of another metric, or of its state, such as a shard that was computed elsewhere.

        Args:
            incoming_state: A metric of the same weights and options, or its ``metric_state``.

        Raises:
            RL2Error: If its weights are others.

        """
        if not isinstance(incoming_state, Metric | dict):
            raise ValueError(
                f"Expected a metric or its metric_state to merge, but got {type(incoming_state).__name__}."
            )
        state: dict[str, Any] = incoming_state.metric_state if isinstance(incoming_state, Metric) else incoming_state
        missing = [key for key in self._defaults if key not in state and key != "encoder_id"]
        if missing:
            raise RL2Error(f"The state to merge has no {missing[0]}: it is of a metric with other options.")
        mark = state.get("encoder_id", self.encoder_id)
        if self._is_of_other_weights(mark):
            raise RL2Error(
                f"The state to merge is of other weights than {self._encoder_name()}. Merge only what has the same."
            )
        wrong = self._unlike_own({key: value for key, value in state.items() if key in self._defaults})
        if wrong:
            raise RL2Error(f"The state to merge does not fit: {wrong}")
        with self._unchanged_by_errors():
            self._reduce_states({**state, "encoder_id": mark})  # as merge_state of torchmetrics since 1.5
        self.encoder_id = self._encoder_id()
        self._computed = None
        self._update_count += 1

    def set_dtype(self, dst_type: str | torch.dtype) -> "NetworkMetric":
        """Let the encoder compute in another dtype; the states stay as they are.

        Args:
            dst_type: ``torch.float32``; ``torch.float64``; or ``torch.float16``, of convolutions alone, which is
                several times faster on a GPU, see :meth:`LatentEncoder.with_dtype`.

        """
        network = network_of(self.encoder)
        if dst_type not in DTYPES or not isinstance(network, LatentEncoder):
            raise ValueError(
                f"{type(self).__name__}.set_dtype takes float32, float64 or float16 for an encoder made from weights, "
                f"but got {dst_type} for {type(network).__name__}."
            )
        assert isinstance(dst_type, torch.dtype)
        self._place(self.device, dst_type)
        self._defaults["encoder_id"] = self.encoder_id = self._encoder_id()
        return self

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._encoder_name()!r}{self._described()})"

    def _described(self) -> str:
        """What a repr adds to the name of the encoder."""
        return ""

    def _encoder_name(self) -> str:
        network = network_of(self.encoder)
        return network.name if isinstance(network, LatentEncoder) else name_of(network)

    def _weights_id(self) -> str | None:
        return weights_id_of(network_of(self.encoder))

    def _encoder_id(self) -> Tensor:
        """Says which latents these are, even while all sums are 0; small numbers, which compare as equal or not."""
        network = network_of(self.encoder)
        digits = hashlib.sha256(str(self._weights_id() or number_of(network)).encode()).digest()
        dtype = getattr(network, "dtype", None)
        return torch.tensor([*digits, DTYPES.index(dtype) if dtype in DTYPES else 0], device=self.device)

    def _is_of_other_weights(self, mark: Tensor) -> bool:
        """Whether a mark is of other weights, as far as weights are known by an identity; the dtype is no matter."""
        return self._weights_id() is not None and not torch.equal(mark[:-1].to(self.device), self.encoder_id[:-1])

    def _hold(self, network: nn.Module) -> None:
        held = self.__dict__.get("encoder")
        encoder = cache_over(held, network) if isinstance(held, NetworkCache) else private_copy(network)
        object.__setattr__(self, "encoder", encoder)

    def _place(self, device: torch.device, dtype: torch.dtype | None = None) -> None:
        network = network_of(self.encoder)
        found = network_on(network, device, dtype)
        if found is not network:
            self._hold(found)

    @contextmanager
    def _unchanged_by_errors(self) -> Iterator[None]:
        # No state is changed in place but lists, by reset; so this is all that an exception could lose.
        before = {name: [*value] if isinstance(value, list) else value for name, value in self.__dict__.items()}
        try:
            yield
        except BaseException:
            self.__dict__.update(before)
            raise

    @contextmanager
    def sync_context(self, *args: Any, **kwargs: Any) -> Iterator[None]:
        """Sums over all processes inside of it; an exception leaves the metric as it was before."""
        with self._unchanged_by_errors(), super().sync_context(*args, **kwargs):
            yield

    @contextmanager
    def _synced(self) -> Iterator[None]:
        # A caller of sync() has the sums of all processes in place, and unsync() is up to him.
        should_sync = self._to_sync and not self._is_synced
        with self.sync_context(
            dist_sync_fn=self.dist_sync_fn,
            should_sync=should_sync,
            should_unsync=self._should_unsync and should_sync,
        ):
            yield

    def _wrap_update(self, update: Callable[..., Any]) -> Callable[..., Any]:
        counted = super()._wrap_update(update)

        @wraps(update)
        def guarded(*args: Any, **kwargs: Any) -> None:
            with self._unchanged_by_errors():
                counted(*args, **kwargs)

        return guarded

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        weights_id = self._weights_id()
        if weights_id and hasattr(destination, "_metadata"):
            destination._metadata[prefix[:-1]]["weights_id"] = weights_id

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        found = {key: state_dict[prefix + key] for key in self._defaults if prefix + key in state_dict}
        before, here = local_metadata.get("weights_id"), self._weights_id()
        # Sums that were saved bring their mark, also where the metadata was stripped.
        mark = found.pop("encoder_id", self.encoder_id)
        state_dict.pop(f"{prefix}encoder_id", None)
        if here and ((before or here) != here or self._is_of_other_weights(mark)):
            error_msgs.append(
                f"{prefix}encoder has the weights {self._encoder_name()} ({here[:12]}), but the checkpoint was made "
                f"with others{f' ({before[:12]})' if before else ''}, whose values do not compare. Give the metric the "
                "same weights, or give it another name in the model to start anew."
            )
            return
        missing = [key for key in self._defaults if found and key not in found and key != "encoder_id"]
        if missing:
            error_msgs.append(
                f"{prefix}{missing[0]} is not in the checkpoint, whose sums are of a metric with other options."
            )
            return
        wrong = self._unlike_own(found)
        if wrong:
            error_msgs.append(f"{prefix}{wrong}")
            return
        for key, value in found.items():
            current = getattr(self, key)
            if isinstance(current, Tensor):
                state_dict[prefix + key] = value.to(current.device, current.dtype)
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )
        self._computed = None
        self._update_count = max(self._update_count, int(bool(found)))

    def _grows(self, state: str) -> bool:
        """Whether a state is a tensor that becomes longer."""
        return isinstance(self._defaults[state], Tensor) and self._reductions[state] is dim_zero_cat

    def _unlike_own(self, states: dict[str, Tensor]) -> str:
        """Why states that come from elsewhere are not such as these, if they are not."""
        for key, value in states.items():
            own = getattr(self, key)
            if isinstance(own, list):
                continue
            free = int(self._grows(key))
            fits = value.ndim == own.ndim and value.shape[free:] == own.shape[free:]
            if not fits and key != "encoder_id":
                return (
                    f"{key} has the shape {tuple(value.shape)}, but {tuple(own.shape)} here: of another encoder, or of "
                    "other options."
                )
            if value.dtype in (torch.float16, torch.bfloat16):
                return f"{key} is {value.dtype}, too narrow for sums. Save them as they are, in {own.dtype}."
        return ""

    def __setattr__(self, name: str, value: Any) -> None:
        if name != "encoder":
            super().__setattr__(name, value)
            return
        # FeatureShare does this.
        given, own = network_of(value), network_of(self.encoder)
        same_weights = self._weights_id() is not None and weights_id_of(given) == self._weights_id()
        if given is not own and not (same_weights and getattr(given, "dtype", None) == getattr(own, "dtype", None)):
            raise ValueError(
                f"{type(self).__name__} with the weights {self._encoder_name()} was given another network, "
                f"{type(given).__name__}, as FeatureShare does with metrics of different networks. Put only metrics "
                "that share their weights and dtype into one FeatureShare."
            )
        object.__setattr__(self, name, value if isinstance(value, NetworkCache) else private_copy(given))

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"encoder": StoredEncoder.of(network_of(self.encoder))}

    def __setstate__(self, state: dict[str, Any]) -> None:
        stored = state["encoder"]
        network = stored.load() if isinstance(stored, StoredEncoder) else stored
        super().__setstate__(state | {"encoder": private_copy(network)})
        # Of a network without an identity, this may be another one than before.
        self._defaults["encoder_id"] = self.encoder_id = self._encoder_id()

    def __deepcopy__(self, memo: dict[int, Any]) -> "NetworkMetric":
        twin = type(self).__new__(type(self))
        memo[id(self)] = twin
        state = {key: value for key, value in self.__getstate__().items() if key != "encoder"}
        # Shared, unless the owner of the metric owns the network too and copied it. The owner's memo is left alone.
        network = network_of(self.encoder)
        network = memo.get(id(network), network)
        twin.__setstate__(copy.deepcopy(state, memo) | {"encoder": network})
        if isinstance(self.encoder, NetworkCache):
            cache = NetworkCache(private_copy(network), self.encoder.max_size)
            object.__setattr__(twin, "encoder", memo.setdefault(id(self.encoder), cache))
        return twin

    def _apply(  # type: ignore[override]
        self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = "", recurse: bool = True
    ) -> nn.Module:
        # Casts arrive here as well as device moves. States never change dtype, but MPS has no float64. Module.to_empty
        # passes recurse, which the base class does not take; there are no submodules.
        device = fn(torch.zeros((), device=self.device)).device

        def move(tensor: Tensor) -> Tensor:
            lacks_double = device.type == "mps" and tensor.dtype == torch.float64
            return tensor.to(device, torch.float32) if lacks_double else tensor.to(device)

        self._place(device)
        return super()._apply(move, exclude_state)
