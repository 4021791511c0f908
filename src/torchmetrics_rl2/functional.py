"""The ResNet-L2 distance between two sets of latents."""

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["LatentSums", "resnet_l2"]


@dataclass(frozen=True)
class LatentSums:
    """What one side of the distance needs to know of its latents; sums of parts add up to the sums of the whole.

    Args:
        sum: Sum of the latents, ``(d,)``.
        square_sum: Sum of their squared norms, ``()``.
        count: Number of images, ``()``, int64.
        second_moment: Sum of the outer products of ``(z, ||z||^2)`` with itself, ``(d + 1, d + 1)``; what the
            uncertainty of the distance and of the variance ratio needs, ``None`` where nobody asked for it.

    """

    sum: Tensor
    square_sum: Tensor
    count: Tensor
    second_moment: Tensor | None = None

    def __add__(self, other: "LatentSums") -> "LatentSums":
        moments = (self.second_moment, other.second_moment)
        return LatentSums(
            self.sum + other.sum,
            self.square_sum + other.square_sum,
            self.count + other.count,
            None if moments[0] is None or moments[1] is None else moments[0] + moments[1],
        )

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> "LatentSums":
        """The same sums on another device, all but the count in another dtype."""
        moment = self.second_moment
        return LatentSums(
            self.sum.to(device, dtype),
            self.square_sum.to(device, dtype),
            self.count.to(device),
            None if moment is None else moment.to(device, dtype),
        )


def resnet_l2(real_latents: Tensor, fake_latents: Tensor, debiased: bool = False) -> Tensor:
    r"""Distance between the mean latents of real and generated images (Eqs. 3 and 4 of the RL2 paper).

    .. math:: \mathrm{RL2} = \lVert \bar z_r - \bar z_g \rVert_2

    Two samples of one distribution do not score 0 but about
    :math:`\sqrt{\mathrm{tr}\,S_r / n_r + \mathrm{tr}\,S_g / n_g}`. With ``debiased=True`` that is removed from the
    square, which is then unbiased and may be negative; the signed root is returned.

    Args:
        real_latents: Latents of real images, ``(N, d)``.
        fake_latents: Latents of generated images, ``(M, d)``.
        debiased: Remove what finite samples add. Needs two images a side.

    Returns:
        A scalar, computed in float64; float64 if an input is, else float32.

    Raises:
        ValueError: If latents are not ``(N, d)`` of one width, or a side has too few images.

    Example:
        >>> import torch
        >>> from torchmetrics_rl2.functional import resnet_l2
        >>> real = torch.tensor([[0.0, 0.0], [2.0, 0.0]])
        >>> fake = torch.tensor([[3.0, 4.0], [5.0, 4.0]])
        >>> resnet_l2(real, fake)
        tensor(5.)
        >>> resnet_l2(real, fake, debiased=True)
        tensor(4.7958)

    """
    if real_latents.ndim != 2 or fake_latents.ndim != 2 or real_latents.shape[1] != fake_latents.shape[1]:
        raise ValueError(
            "resnet_l2 expects two sets of latents (N, d) of one width d, but got shapes "
            f"{tuple(real_latents.shape)} and {tuple(fake_latents.shape)}."
        )
    least = 2 if debiased else 1
    if min(len(real_latents), len(fake_latents)) < least:
        raise ValueError(
            f"resnet_l2 needs at least {least} latents a side with debiased={debiased}, but got "
            f"{len(real_latents)} real and {len(fake_latents)} generated."
        )
    real, fake = latent_sums(real_latents), latent_sums(fake_latents)
    value = distance(real, fake)
    if debiased:
        value = debias(value, mean_variance(real) + mean_variance(fake))
    dtype = torch.promote_types(torch.promote_types(real_latents.dtype, fake_latents.dtype), torch.float32)
    return value.to(dtype)


def latent_sums(latents: Tensor, second_moment: bool = False) -> LatentSums:
    """Sums of latents ``(N, d)`` in float64, in float32 on MPS, which has no float64."""
    latents = latents.to(torch.float32 if latents.device.type == "mps" else torch.float64)
    squares = latents.square().sum(1)
    extended = torch.cat([latents, squares[:, None]], 1)
    return LatentSums(
        sum=latents.sum(0),
        square_sum=squares.sum(),
        count=torch.tensor(len(latents), device=latents.device),
        second_moment=extended.T @ extended if second_moment else None,
    )


def distance(real: LatentSums, fake: LatentSums) -> Tensor:
    """Distance of the means, a scalar of the sums' dtype; NaN where a side has no images."""
    return (real.sum / real.count - fake.sum / fake.count).square().sum().sqrt()


def debias(value: Tensor, noise: Tensor | float) -> Tensor:
    """Signed root of a squared distance without what the variance of the two means adds to it."""
    square = value.square() - noise
    return square.sign() * square.abs().sqrt()


def mean_variance(side: LatentSums) -> Tensor:
    """Trace of the covariance of the mean of independent latents; NaN where there is but one."""
    n = side.count
    return (side.square_sum - side.sum.square().sum() / n) / (n - 1) / n
