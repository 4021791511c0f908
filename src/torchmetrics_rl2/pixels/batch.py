"""Batches of images: what is accepted, and how floats become 8 bits."""

from typing import Any

import torch
from torch import Tensor

__all__ = ["MIN_PX", "check_images", "to_8_bit"]

MIN_PX = 32


def check_images(images: Any) -> None:
    """Refuse what is no batch of color images, by shape and dtype alone.

    Raises:
        ValueError: If it is not a tensor ``(N, 3, H, W)``, uint8 or floating point, with N >= 1 and H, W >= 32.

    """
    if not isinstance(images, Tensor):
        raise ValueError(f"Expected images as a tensor (N, 3, H, W), but got {type(images).__name__}.")
    shape = tuple(images.shape)
    if images.ndim != 4 or shape[1] != 3:
        gray = " Grayscale images have no stain to judge; these weights are for color." if 1 in shape[1:2] else ""
        raise ValueError(f"Expected color images of shape (N, 3, H, W), but got {shape}.{gray}")
    if min(shape[2:]) < MIN_PX:
        raise ValueError(f"Expected images of at least {MIN_PX} x {MIN_PX} px, but got {shape[2]} x {shape[3]}.")
    if shape[0] == 0:
        raise ValueError(f"Expected at least one image, but got an empty batch {shape}.")
    if images.dtype != torch.uint8 and not images.is_floating_point():
        raise ValueError(f"Expected uint8 images or floating point in [0, 1], but got {images.dtype}.")


def to_8_bit(images: Tensor) -> Tensor:
    """Floats in [0, 1] as whole numbers from 0 to 255 of the same dtype, clamped and rounded; NaN stays."""
    return (images * 255).round().clamp(0, 255)
