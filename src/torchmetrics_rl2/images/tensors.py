"""Images of Pillow as tensors, resized: as torchvision does it, which takes seconds to import."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

__all__ = ["resized", "to_tensor"]


def to_tensor(image: Image.Image) -> Tensor:
    """An image in mode RGB as uint8 ``(3, H, W)``."""
    # By NumPy, as threads of PyTorch take longer to wake up than a patch to copy.
    return torch.from_numpy(np.array(np.asarray(image).transpose(2, 0, 1), order="C"))


def resized(image: Tensor, size: Sequence[int]) -> Tensor:
    """An image, uint8 ``(3, H, W)`` on the CPU, at another height and width, bilinear and antialiased."""
    if tuple(image.shape[1:]) == tuple(size):
        return image
    # Channels last, without which PyTorch fails at a single pixel.
    inputs = image[None].contiguous(memory_format=torch.channels_last)
    return interpolate(inputs, list(size), mode="bilinear", align_corners=False, antialias=True)[0]
