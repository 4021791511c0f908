"""Optical density."""

from torch import Tensor

__all__ = ["optical_density"]


def optical_density(images: Tensor) -> Tensor:
    """Optical density of transmittances in [0, 1], Beer-Lambert, natural logarithm."""
    return -images.clamp(min=1 / 255).log()
