"""From pixels to features: preprocessing, ResNet-18 and global average pooling, frozen."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from torchmetrics_rl2.networks.resnet import ResNet18
from torchmetrics_rl2.pixels.batch import check_images, to_8_bit
from torchmetrics_rl2.runtime import exact_arithmetic

__all__ = ["FeatureExtractor", "Preprocessing"]

CPU_PIXELS = 16 * 224**2
"""Pixels that go through the network at once on a CPU."""


@dataclass(frozen=True)
class Preprocessing:
    """What happens to pixels in [0, 1] before the backbone, and which patches the weights were made for.

    Args:
        mean: Subtracted from red, green and blue.
        std: Divides red, green and blue.
        px: Side of the patches in pixels, ``None`` if they differed.
        mpp: Their resolution in um/px, ``None`` if unknown.

    """

    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    px: int | None = None
    mpp: float | None = None


class Frozen(nn.Module):
    """A module that modes, casts, gradients, default dtype and default device cannot reach."""

    mean: Tensor

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.mean.device

    @property
    def dtype(self) -> torch.dtype:
        """That of the weights: float32, or float64 after :meth:`LatentEncoder.with_dtype`."""
        return self.mean.dtype

    def train(self, mode: bool = True) -> "Frozen":
        """Stay in evaluation mode: batch statistics would make a score depend on the batch."""
        return super().train(False)

    def requires_grad_(self, requires_grad: bool = True) -> "Frozen":
        """Stay without gradients."""
        return super().requires_grad_(False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Frozen":
        # .half(), .to(bfloat16) and the like arrive here as well as device moves; only the move is taken over.
        device = fn(torch.empty(0, device=self.device)).device
        moved: Frozen = super()._apply(lambda tensor: tensor.to(device), recurse)  # type: ignore[no-untyped-call]
        return moved


class FeatureExtractor(Frozen):
    """Preprocessing, ResNet-18 backbone and global average pooling (Eq. 1 of the RL2 paper).

    As input to ``forward`` the extractor accepts

    - ``images`` (:class:`~torch.Tensor`): ``(N, 3, H, W)`` with H, W >= 32, uint8, or floating point in [0, 1], which
      is clamped and rounded to 8 bits; NaN is kept

    As output of ``forward`` the extractor returns

    - ``features`` (:class:`~torch.Tensor`): ``(N, 512)``

    Args:
        preprocessing: What happens to pixels first.
        state_dict: State dict of a torchvision ResNet-18 without its classifier.

    """

    mean: Tensor
    std: Tensor
    num_features = 512
    half_precision = False
    """Whether convolutions are computed in float16."""

    def __init__(self, preprocessing: Preprocessing, state_dict: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.preprocessing = preprocessing
        for name in ("mean", "std"):
            values = torch.tensor(getattr(preprocessing, name), dtype=torch.float32, device="cpu")
            self.register_buffer(name, values.view(1, 3, 1, 1))
        self.load_backbone(state_dict)

    def load_backbone(self, state_dict: Mapping[str, Tensor], trainable: bool = False) -> None:
        """Take another backbone.

        Args:
            state_dict: State dict of a torchvision ResNet-18 without its classifier.
            trainable: Whether it is to be trained, and keeps batch normalization beside the convolutions.

        """
        backbone = ResNet18.of(state_dict)
        self.backbone = backbone if trainable else backbone.fold()
        self.backbone.to(self.device).to(memory_format=torch.channels_last)
        self.requires_grad_(False)
        self.train(False)

    def forward(self, images: Tensor) -> Tensor:
        """Features ``(N, 512)`` of raw images ``(N, 3, H, W)``."""
        check_images(images)
        size = len(images)
        if self.device.type == "cpu":  # which is no faster with more, but takes more memory
            size = max(1, CPU_PIXELS // (images.shape[2] * images.shape[3]))
        with exact_arithmetic(self.device):
            return torch.cat([self.with_gradients(part) for part in torch.split(images, size)])

    def with_gradients(self, images: Tensor) -> Tensor:
        """What :meth:`forward` computes, with the gradients and arithmetic of the caller."""
        check_images(images)
        if not torch.compiler.is_compiling():  # nor exporting, for which older versions of torch take no such call
            self.backbone.eval()  # model.apply(lambda m: m.train()) passes by train() above
        pixels = images.to(self.dtype) if images.dtype == torch.uint8 else to_8_bit(images.to(self.dtype))
        inputs = ((pixels / 255 - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.float16) if self.half_precision else nullcontext():
            features: Tensor = self.backbone(inputs)
        return features
