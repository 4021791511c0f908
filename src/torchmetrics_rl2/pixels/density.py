"""Optical density."""

from torch import Tensor

__all__ = ["optical_density", "quantile"]


def optical_density(images: Tensor) -> Tensor:
    """Optical density of transmittances in [0, 1], Beer-Lambert, natural logarithm."""
    return -images.clamp(min=1 / 255).log()


def quantile(values: Tensor, share: float) -> float:
    """The value ``(n,)`` that this share of the others is below, one of them."""
    return float(values.kthvalue(1 + int(share * (len(values) - 1))).values)
