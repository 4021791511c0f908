"""From pixels to latents: preprocessing, ResNet-18 and flow in one frozen module."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics.utilities import rank_zero_warn

from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.flow import RealNVP, log_likelihood
from torchmetrics_rl2.readout import Readout
from torchmetrics_rl2.statistics import Statistics
from torchmetrics_rl2.weights import Preprocessing, Reference, Weights, load_weights
from torchmetrics_rl2.weights.file import REFERENCE_SCORES, empty_trunk

__all__ = ["FeatureExtractor", "LatentEncoder"]

LEAST_PX = 32


class _Frozen(nn.Module):
    """A module that modes, casts, gradients, default dtype and default device cannot reach."""

    mean: Tensor

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.mean.device

    @property
    def dtype(self) -> torch.dtype:
        """What is computed in: float32, or float64 after :meth:`with_dtype`."""
        return self.mean.dtype

    def train(self, mode: bool = True) -> "_Frozen":
        """Stay in evaluation mode: batch statistics would make a score depend on the batch."""
        return super().train(False)

    def requires_grad_(self, requires_grad: bool = True) -> "_Frozen":
        """Stay without gradients."""
        return super().requires_grad_(False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "_Frozen":
        # .half(), .to(bfloat16) and the like arrive here as well as device moves; only the move is taken over.
        device = fn(torch.empty(0, device=self.device)).device
        moved: _Frozen = super()._apply(lambda tensor: tensor.to(device), recurse)  # type: ignore[no-untyped-call]
        return moved


class FeatureExtractor(_Frozen):
    """Preprocessing, ResNet-18 trunk and global average pooling (Eq. 1 of the RL2 paper), and a readout if any.

    As input to ``forward`` the extractor accepts

    - ``images`` (:class:`~torch.Tensor`): ``(N, 3, H, W)`` with H, W >= 32, uint8, or floating point in [0, 1], which
      is clamped and rounded to 8 bits; NaN is kept

    As output of ``forward`` the extractor returns

    - ``features`` (:class:`~torch.Tensor`): ``(N, 512)``

    Args:
        preprocessing: What happens to pixels first.
        state_dict: State dict of a torchvision ResNet-18 without its classifier.
        readout: Tensors of :class:`~torchmetrics_rl2.readout.Readout`; without any, features are the trunk's own.

    """

    mean: Tensor
    std: Tensor
    num_features = 512

    def __init__(
        self, preprocessing: Preprocessing, state_dict: dict[str, Tensor], readout: Mapping[str, Tensor] | None = None
    ) -> None:
        super().__init__()
        self.preprocessing = preprocessing
        for name in ("mean", "std"):
            values = torch.tensor(getattr(preprocessing, name), dtype=torch.float32, device="cpu")
            self.register_buffer(name, values.view(1, 3, 1, 1))
        self.trunk = empty_trunk()
        single = {
            key: value.to("cpu", torch.float32 if value.is_floating_point() else value.dtype, copy=True)
            for key, value in state_dict.items()
        }
        self.trunk.load_state_dict(single, assign=True)
        self.trunk.to(memory_format=torch.channels_last)
        self.readout = Readout(readout) if readout else None
        self.requires_grad_(False)
        self.train(False)

    def forward(self, images: Tensor) -> Tensor:
        """Features ``(N, 512)`` of raw images ``(N, 3, H, W)``."""
        with exact_arithmetic(self.device):
            return self.with_gradients(images)

    def with_gradients(self, images: Tensor) -> Tensor:
        """What :meth:`forward` computes, with the gradients and arithmetic of the caller."""
        check_images(images)
        self.trunk.eval()  # model.apply(lambda m: m.train()) passes by train() above
        pixels = images.to(self.dtype) if images.dtype == torch.uint8 else _to_8_bit(images, self.dtype)
        pixels = pixels / 255
        inputs = ((pixels - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        features: Tensor = self.trunk(inputs)
        return self.readout(features, pixels) if self.readout else features


class LatentEncoder(_Frozen):
    """Raw images to latents of a normal space, and to log-likelihoods.

    Frozen for good: ``train()``, ``half()``, autocast, ``requires_grad_()``, a default dtype and a default device do
    not reach it. It computes without gradients and TF32, in float32 unless :meth:`with_dtype` asks for float64.

    As input to ``forward`` and ``log_prob`` the encoder accepts

    - ``images`` (:class:`~torch.Tensor`): ``(N, 3, H, W)`` with H, W >= 32, uint8, or floating point in [0, 1], which
      is clamped and rounded to 8 bits; NaN is kept

    As output of ``forward`` the encoder returns

    - ``latents`` (:class:`~torch.Tensor`): ``(N, 512)``, float32

    Args:
        weights: Trunk, flow and preprocessing, see :func:`~torchmetrics_rl2.weights.load_weights`.

    Raises:
        ValueError: If images have another shape or dtype.

    Example:
        >>> import torch
        >>> from torchmetrics_rl2 import LatentEncoder
        >>> encoder = LatentEncoder.load("lung-colon@1")
        >>> encoder(torch.zeros(2, 3, 224, 224, dtype=torch.uint8)).shape
        torch.Size([2, 512])
        >>> encoder.log_prob(torch.zeros(2, 3, 224, 224)).shape
        torch.Size([2])

    """

    num_features = 512

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        self.name = weights.name
        self.weights_id = weights.weights_id
        self.reference = weights.reference
        self.features = FeatureExtractor(weights.preprocessing, dict(weights.trunk), weights.readout)
        self.flow = RealNVP(**weights.flow_config)
        self.flow.load_state_dict(dict(weights.flow))
        self._sizes_warned_of: set[tuple[int, int]] = set()
        self.requires_grad_(False)
        self.train(False)

    @classmethod
    def load(cls, name_or_path: str | Path) -> "LatentEncoder":
        """Encoder of named weights or of a weights file.

        Args:
            name_or_path: ``name@version``, a bare name, which stands for its newest version, or a path.

        Raises:
            RL2Error: If there are no such weights, or the file is not what it should be.

        """
        return cls(load_weights(name_or_path))

    @property
    def mean(self) -> Tensor:  # type: ignore[override]
        """Mean pixel that preprocessing subtracts, ``(1, 3, 1, 1)``; it has the device and dtype of all weights."""
        return self.features.mean

    def forward(self, images: Tensor) -> Tensor:
        """Latents ``(N, 512)`` of raw images ``(N, 3, H, W)``."""
        return self.encode(images)[0]

    def log_prob(self, images: Tensor) -> Tensor:
        """Log-likelihoods ``(N,)`` of raw images ``(N, 3, H, W)``, in nats (Eq. 2 of the RL2 paper)."""
        return log_likelihood(*self.encode(images))

    @property
    def reference_statistics(self) -> Statistics:
        """Statistics of the real images inside the weights.

        Raises:
            RL2Error: If there are none.

        """
        if self.reference is None:
            raise RL2Error(
                f"{self.name} holds no reference; give real images instead, with --real on the command line."
            )
        groups = self.reference.groups
        names = () if groups is None else tuple(f"reference {i}" for i in range(len(groups.count)))
        return Statistics(self.reference.sums, groups, names, self.name, self.weights_id, "weights")

    def with_dtype(self, dtype: torch.dtype) -> "LatentEncoder":
        """A copy that computes in another dtype, float32 or float64."""
        twin = copy.deepcopy(self)
        for module in twin.children():
            # Past the guard of the children, which keeps everybody else's casts out.
            nn.Module._apply(module, lambda value: value.to(dtype) if value.is_floating_point() else value)  # type: ignore[no-untyped-call]
        return twin

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Latents ``(N, 512)`` and log-determinants ``(N,)`` of raw images ``(N, 3, H, W)``, in one pass."""
        features = self.features(images)
        self.warn_of_other_px(images)
        with exact_arithmetic(self.device):
            z, log_det = self.flow(features)
            return z, log_det

    def warn_of_other_px(self, images: Tensor) -> None:
        """Warn, once, of images ``(N, 3, H, W)`` of another size than the weights were made for."""
        px = self.features.preprocessing.px
        height, width = images.shape[-2:]
        if px is not None and (height, width) != (px, px) and not self._sizes_warned_of:
            self._sizes_warned_of.add((height, width))
            rank_zero_warn(
                f"{self.name} was made for patches of {px} x {px} px and got {height} x {width}. Values compare only "
                "with those of patches of the same size, taken at the same mpp."
            )

    def __repr__(self) -> str:
        return f"LatentEncoder(name={self.name!r}, weights_id='{self.weights_id[:12]}')"


def reference_of(flow: RealNVP, features: Tensor, groups: Sequence[str] | None = None) -> Reference:
    """Reference from features ``(N, 512)`` of real images and their groups, computed as :class:`LatentEncoder` does."""
    with exact_arithmetic(features.device):
        z, log_det = flow(features)
        scores = torch.stack([log_likelihood(z, log_det), z.norm(dim=1), log_det], 1)
    statistics = Statistics.of_latents(z, groups)
    return Reference(statistics.sums, scores[:REFERENCE_SCORES].float(), statistics.groups)


def check_images(images: Any) -> None:
    """Refuse what is no batch of colour images, by shape and dtype alone."""
    if not isinstance(images, Tensor):
        raise ValueError(f"Expected images as a tensor (N, 3, H, W), but got {type(images).__name__}.")
    shape = tuple(images.shape)
    if images.ndim != 4 or shape[1] != 3:
        grey = " Greyscale images have no stain to judge; these weights are for colour." if 1 in shape[1:2] else ""
        raise ValueError(f"Expected colour images of shape (N, 3, H, W), but got {shape}.{grey}")
    if min(shape[2:]) < LEAST_PX:
        raise ValueError(f"Expected images of at least {LEAST_PX} x {LEAST_PX} px, but got {shape[2]} x {shape[3]}.")
    if shape[0] == 0:
        raise ValueError(f"Expected at least one image, but got an empty batch {shape}.")
    if images.dtype != torch.uint8 and not images.is_floating_point():
        raise ValueError(f"Expected uint8 images or floating point in [0, 1], but got {images.dtype}.")


@contextmanager
def exact_arithmetic(device: torch.device) -> Iterator[None]:
    """No gradients, no autocast, no TF32 or bfloat16 inside float32, no algorithm chosen by timing."""
    with torch.no_grad(), torch.autocast(device.type, enabled=False), _ieee_float32():
        yield


@contextmanager
def _ieee_float32() -> Iterator[None]:
    backends: Any = torch.backends
    if not hasattr(backends, "fp32_precision"):  # torch before 2.9
        precision = torch.get_float32_matmul_precision()
        with backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            torch.set_float32_matmul_precision("highest")
            try:
                yield
            finally:
                torch.set_float32_matmul_precision(precision)
        return
    units = (backends.cuda.matmul, backends.cudnn.conv, backends.mkldnn.matmul, backends.mkldnn.conv)
    switches: list[tuple[Any, str, object]] = [(unit, "fp32_precision", "ieee") for unit in units]
    switches += [(backends.cudnn, "benchmark", False), (backends.cudnn, "deterministic", True)]
    before = [getattr(owner, name) for owner, name, _ in switches]
    try:
        for owner, name, value in switches:
            setattr(owner, name, value)
        yield
    finally:
        for (owner, name, _), value in zip(switches, before, strict=True):
            setattr(owner, name, value)


def _to_8_bit(images: Tensor, dtype: torch.dtype) -> Tensor:
    return (images.to(dtype) * 255).round().clamp(0, 255)
