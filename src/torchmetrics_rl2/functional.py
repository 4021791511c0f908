"""The ResNet-L2 distance between two sets of latents."""

from dataclasses import dataclass, fields
from typing import Any

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
        second_moment: Sum of the outer products of ``(z, ||z||^2)`` with itself, ``(d + 1, d + 1)``, or of
            ``(z, ||z||^2, ||c||^2)`` where there are kinds; what the uncertainty of the distance and of the variance
            ratio needs, ``None`` where nobody asked for it.
        content_square_sum: Sum of the squared norms of the content ``c`` of the latents, ``()``; ``None`` without
            kinds.
        kind_counts: Number of images of each kind, ``(K,)``, int64; ``None`` without kinds.

    """

    sum: Tensor
    square_sum: Tensor
    count: Tensor
    second_moment: Tensor | None = None
    content_square_sum: Tensor | None = None
    kind_counts: Tensor | None = None

    def __add__(self, other: "LatentSums") -> "LatentSums":
        pairs = {field.name: (getattr(self, field.name), getattr(other, field.name)) for field in fields(self)}
        added: dict[str, Any] = {
            name: None if one is None or two is None else one + two for name, (one, two) in pairs.items()
        }
        return LatentSums(**added)

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> "LatentSums":
        """The same sums on another device, all but counts in another dtype."""
        values = {name: value for name, value in vars(self).items() if value is not None}
        return LatentSums(
            **{
                name: value.to(device, dtype) if value.is_floating_point() else value.to(device)
                for name, value in values.items()
            }
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


def latent_sums(latents: Tensor, second_moment: bool = False, content: Tensor | None = None) -> LatentSums:
    """Sums of latents ``(N, d)`` in float64, in float32 on MPS, which has no float64.

    Args:
        latents: ``(N, d)``.
        second_moment: Whether to take it.
        content: Their content, ``(N, k)``, if there are kinds.

    """
    latents = latents.to(torch.float32 if latents.device.type == "mps" else torch.float64)
    squares = latents.square().sum(1)
    extended, of_content = [latents, squares[:, None]], None
    if content is not None:
        of_content = content.to(latents.dtype).square().sum(1)
        extended.append(of_content[:, None])
    rows = torch.cat(extended, 1)
    return LatentSums(
        sum=latents.sum(0),
        square_sum=squares.sum(),
        count=torch.full((), len(latents), device=latents.device),  # a tensor of a number would make a GPU wait
        second_moment=rows.T @ rows if second_moment else None,
        content_square_sum=None if of_content is None else of_content.sum(),
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
