"""ResNetL2, the torchmetrics metric."""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.utilities import rank_zero_warn

from torchmetrics_rl2.encoder import LatentEncoder, network_on
from torchmetrics_rl2.functional import LatentSums, distance, latent_sums

__all__ = ["ResNetL2"]


class ResNetL2(Metric):
    r"""Distance between the mean latents of real and generated histopathology patches.

    Images pass through a frozen ResNet-18 and a RealNVP flow that was fitted on real patches only. With :math:`z_r`
    and :math:`z_g` the latents of the two sets (Eqs. 3 and 4 of arXiv 2411.01034),

    .. math:: \mathrm{RL2} = \lVert \mathbb{E}[z_r] - \mathbb{E}[z_g] \rVert_2 .

    Only sums and counts are kept, so memory does not grow with the data and ranks are combined by addition. Finite
    samples add to the distance, values at different numbers of images do not compare; ``debiased=True`` removes that.

    As input to ``forward`` and ``update`` the metric accepts

    - ``imgs`` (:class:`~torch.Tensor`): a batch ``(N, 3, H, W)``, uint8, or floats in [0, 1] with ``normalize=True``
    - ``real`` (``bool`` or bool :class:`~torch.Tensor`): the side of the batch, or of each of its N images

    As output of ``forward`` and ``compute`` the metric returns

    - ``rl2`` (:class:`~torch.Tensor`): a float32 scalar; NaN while a side is empty, and where an image held NaN

    The network is held as ``metric.encoder``, outside of the metric's modules: parameters, checkpoints, ``train()`` and
    casts of a model that owns the metric do not meet it, and clones of the metric share it.

    Args:
        encoder: Name of weights, path of a weights file, or a module that maps images to ``(N, num_features)`` and
            has ``num_features``; it is called in evaluation mode and without gradients.
        reference: ``"weights"`` measures from the real images inside the weights; real images given to ``update`` are
            then skipped before the network. ``None`` measures from the real images given to ``update``.
        normalize: If ``True``, images are floats in [0, 1], else uint8.
        reset_real_features: If ``False``, ``reset`` forgets only the generated images.
        debiased: Return the signed root of the unbiased squared distance, which needs two images a side.
        kwargs: See :class:`torchmetrics.Metric`.

    Raises:
        RL2Error: If there are no such weights, or they hold no reference though one is asked for.
        ValueError: If a module has no ``num_features``, or images or ``real`` have another type, shape or length.

    Example:
        >>> import torch
        >>> from torchmetrics_rl2 import ResNetL2
        >>> class Brightness(torch.nn.Module):
        ...     num_features = 3
        ...     def forward(self, imgs):
        ...         return imgs.float().mean((2, 3))
        >>> metric = ResNetL2(Brightness())
        >>> black = torch.zeros(4, 3, 8, 8, dtype=torch.uint8)
        >>> metric.update(black, real=True)
        >>> metric.update(black + 1, real=False)
        >>> metric.compute()
        tensor(1.7321)

    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False
    plot_lower_bound = 0.0
    feature_network = "encoder"

    fake_sum: Tensor
    fake_square_sum: Tensor
    fake_count: Tensor

    def __init__(
        self,
        encoder: str | Path | nn.Module = "lung-colon",
        *,
        reference: Literal["weights"] | None = None,
        normalize: bool = False,
        reset_real_features: bool = True,
        debiased: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if reference not in (None, "weights"):
            raise ValueError(f"ResNetL2 expects reference to be 'weights' or None, but got {reference!r}.")
        network = encoder if isinstance(encoder, nn.Module) else LatentEncoder.load(encoder)
        width = getattr(network, "num_features", None)
        if not isinstance(width, int):
            raise ValueError(
                f"ResNetL2 expects an encoder with an integer num_features, the width of its latents, but "
                f"{type(network).__name__}.num_features is {width!r}."
            )
        # Lightning builds large models on the meta device; sums and a network with its weights are real from the start.
        self._device = torch.device("cpu") if self.device.type == "meta" else self.device
        self.encoder: nn.Module = network_on(network, self.device)
        self.normalize = normalize
        self.reset_real_features = reset_real_features
        self.debiased = debiased
        self._reference: LatentSums | None = None
        if reference == "weights":
            if not isinstance(network, LatentEncoder) or network.reference is None:
                raise ValueError(
                    f"ResNetL2(reference='weights') needs weights with a reference, but {type(network).__name__} holds "
                    "none; leave reference out and give real images to update."
                )
            self._reference = network.reference.sums
            # While only real images came, the sums of all weights are 0, and a MetricCollection would merge them.
            mark = torch.tensor(int(network.weights_id[:15], 16), device=self.device)
            self.add_state("weights_mark", mark, dist_reduce_fx="max")
        self._in_forward = False
        self._has_warned = False

        # Metrics that differ after a reset must differ in their states, else a MetricCollection merges them.
        self._real_prefix = "real" if reset_real_features else "kept_real"
        dtype = torch.float32 if self.device.type == "mps" else torch.float64
        for side in ([] if self._reference else [self._real_prefix]) + ["fake"]:
            self.add_state(f"{side}_sum", torch.zeros(width, device=self.device, dtype=dtype), dist_reduce_fx="sum")
            self.add_state(f"{side}_square_sum", torch.zeros((), device=self.device, dtype=dtype), dist_reduce_fx="sum")
            count = torch.zeros((), device=self.device, dtype=torch.int64)
            self.add_state(f"{side}_count", count, dist_reduce_fx="sum")

    def update(self, imgs: Tensor, real: bool | Tensor) -> None:
        """Add images to one side, or each to its own.

        Args:
            imgs: A batch ``(N, 3, H, W)``, uint8, or floats in [0, 1] with ``normalize=True``.
            real: Whether the batch is real, or a bool tensor ``(N,)`` that says so of each image.

        """
        self._check(imgs, real)
        sides = self._split(real)
        if self._reference is not None:
            fake = sides["fake"]
            if fake is False or not torch.as_tensor(fake).any():
                return
            imgs, sides = imgs if fake is True else imgs[fake], {"fake": True}
        with torch.no_grad(), _evaluating(self.encoder):
            latents = self.encoder(imgs)
        width = self.fake_sum.shape[0]
        if latents.shape != (len(imgs), width):
            raise ValueError(
                f"ResNetL2 expects latents of shape {(len(imgs), width)} from its encoder, but got "
                f"{tuple(latents.shape)}."
            )
        for side, chosen in sides.items():
            if chosen is not False:
                self._add(side, latent_sums(latents if chosen is True else latents[chosen]))

    def compute(self) -> Tensor:
        """RL2 of all images so far."""
        fake = self._sums("fake")
        real = self._sums(self._real_prefix) if self._reference is None else self._reference.to(fake.sum.device)
        value = distance(real, fake, self.debiased).float()
        # One side alone is how FID's loop calls forward, and before the first update the base class warns.
        if self._update_count and not self._in_forward and not self._has_warned and value.isnan():
            self._has_warned = True
            rank_zero_warn(_why_nan(real, fake, self.debiased))
        return value

    @torch.jit.unused
    def forward(self, imgs: Tensor, real: bool | Tensor) -> Tensor:
        """Add images and return the value of this batch alone."""
        self._check(imgs, real)
        # No state is changed in place, so this is all that an exception in the base class could lose.
        before = dict(self.__dict__)
        self._in_forward = True
        try:
            value: Tensor = super().forward(imgs, real)
        except BaseException:
            self.__dict__.update(before)
            raise
        self._in_forward = False
        return value

    def reset(self) -> None:
        """Forget all images, or only the generated ones with ``reset_real_features=False``."""
        # Forward resets, updates and adds the earlier states back: kept reals would count twice.
        keep = not self.reset_real_features and not self._in_forward and self._reference is None
        self._has_warned = self._has_warned and self._in_forward
        kept = self._sums(self._real_prefix) if keep else None
        super().reset()
        if kept is not None:
            for name, value in vars(kept).items():
                setattr(self, f"{self._real_prefix}_{name}", value)

    def set_dtype(self, dst_type: str | torch.dtype) -> "ResNetL2":
        """Let the encoder compute in float64, or in float32 again; the states stay as they are.

        Args:
            dst_type: ``torch.float32`` or ``torch.float64``.

        """
        if dst_type not in (torch.float32, torch.float64) or not isinstance(self.encoder, LatentEncoder):
            raise ValueError(
                f"ResNetL2.set_dtype takes float32 or float64 for an encoder made from weights, but got {dst_type} for "
                f"{type(self.encoder).__name__}."
            )
        assert isinstance(dst_type, torch.dtype)
        self.encoder = network_on(self.encoder, self.device, dst_type)
        return self

    def plot(self, val: Tensor | Sequence[Tensor] | None = None, ax: Any = None) -> Any:
        """Plot a value, or several over time.

        Args:
            val: What ``forward`` or ``compute`` returned, or a list of it; by default ``compute`` is called.
            ax: A matplotlib axis to draw on.

        """
        return self._plot(val, ax)

    def _check(self, imgs: Tensor, real: bool | Tensor) -> None:
        """Refuse wrong input by its shapes and dtypes alone."""
        if not isinstance(imgs, Tensor) or imgs.ndim != 4 or imgs.shape[1] != 3 or not len(imgs):
            got = str(tuple(imgs.shape)) if isinstance(imgs, Tensor) else type(imgs).__name__
            raise ValueError(f"ResNetL2 expects at least one colour image, shape (N, 3, H, W), but got {got}.")
        if self.normalize and not imgs.is_floating_point():
            raise ValueError(
                f"ResNetL2(normalize=True) expects floats in [0, 1], got {imgs.dtype}; pass normalize=False for uint8."
            )
        if not self.normalize and imgs.dtype != torch.uint8:
            raise ValueError(
                f"ResNetL2 got {imgs.dtype} images but expects uint8; pass normalize=True for floats in [0, 1]."
            )
        is_mask = isinstance(real, Tensor) and real.dtype == torch.bool and real.shape == (len(imgs),)
        if not isinstance(real, bool) and not is_mask:
            got = f"{real.dtype} of shape {tuple(real.shape)}" if isinstance(real, Tensor) else repr(real)
            raise ValueError(
                f"ResNetL2 expects real as a bool or a bool tensor of shape ({len(imgs)},), but got {got}."
            )

    def _split(self, real: bool | Tensor) -> dict[str, bool | Tensor]:
        """Which images go to which side: all, none, or those of a mask."""
        if isinstance(real, bool):
            return {self._real_prefix: real, "fake": not real}
        return {self._real_prefix: real, "fake": ~real}

    def _sums(self, side: str) -> LatentSums:
        return LatentSums(*(getattr(self, f"{side}_{name}") for name in ("sum", "square_sum", "count")))

    def _add(self, side: str, more: LatentSums) -> None:
        # Out of place: a state made under inference mode could not be changed in place outside of it.
        for name, value in vars(self._sums(side) + more).items():
            setattr(self, f"{side}_{name}", value)

    def __setattr__(self, name: str, value: Any) -> None:
        # The encoder is no submodule: a frozen network has no business in checkpoints, optimizers and DDP buckets.
        if name == "encoder":
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def __deepcopy__(self, memo: dict[int, Any]) -> "ResNetL2":
        twin = type(self).__new__(type(self))
        memo[id(self)] = twin
        state = self.__getstate__()
        # Shared, unless the owner of the metric owns the network too and copied it. The owner's memo is left alone.
        encoder = memo.get(id(self.encoder), state.pop("encoder"))
        twin.__setstate__(copy.deepcopy(state, memo) | {"encoder": encoder})
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

        self.encoder = network_on(self.encoder, device)
        return super()._apply(move, exclude_state)


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    training = [module for module in network.modules() if module.training]
    network.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _why_nan(real: LatentSums, fake: LatentSums, debiased: bool) -> str:
    counts = f"{int(real.count)} real and {int(fake.count)} generated images"
    least = 2 if debiased else 1
    if min(int(real.count), int(fake.count)) < least:
        return f"ResNetL2 is NaN: it needs at least {least} on each side, but has seen {counts}."
    return f"ResNetL2 is NaN: among {counts} there are some with NaN pixels or latents."
