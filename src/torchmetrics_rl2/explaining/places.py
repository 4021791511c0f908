"""Where in an image a distance comes from."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["CELL", "WINDOW", "places"]

WINDOW, CELL = 48, 16
"""Side of a window, and of a cell of the map, in pixels."""

BATCH = 256


@torch.no_grad()
def places(images: Tensor, reals: Tensor, direction: Tensor, encode: Callable[[Tensor], Tensor]) -> Tensor:
    r"""How far each place of some images lies from real ones, along the direction of a distance.

    Each window :math:`w` of 48 px, one every 16 px, is embedded by itself and compared with the windows of real images,

    .. math:: p_w = \max(0, \langle z_w - \bar z_r, u \rangle), \quad u = d / \lVert d \rVert,

    and a cell of 16 px has the least of the windows that it is in, so that damage does not smear over whole windows.
    Images are mirrored at their border.
    It is no share of RL2: a window shows less than an image, and its latent is another one.

    Args:
        images: uint8, ``(N, 3, H, W)``, at least 48 px high and wide.
        reals: Real images to compare with, uint8, ``(M, 3, H', W')``.
        direction: The difference of means ``d``, ``(d,)``.
        encode: Gives latents of images of any size.

    Returns:
        ``(N, H // 16, W // 16)``.

    """
    of_real, _ = _windows(reals, WINDOW)
    around = WINDOW - CELL
    # Mirrored at the border, where a cell would else have few windows, all of which damage beside it may reach.
    mirrored = F.pad(images.float(), (around,) * 4, mode="reflect").to(torch.uint8)
    windows, (rows, columns) = _windows(mirrored, CELL)
    along = direction.cpu().double()
    along = along / along.norm()
    apart = [(_latents(x, encode) @ along) for x in (of_real, windows)]
    values = (apart[1] - apart[0].mean()).clamp(min=0).view(len(images), 1, rows, columns)
    # Each cell has the windows that begin at it and up to two before; the least of them is the greatest of negatives.
    return -F.max_pool2d(-values, WINDOW // CELL, stride=1)[:, 0]


def _windows(images: Tensor, step: int) -> tuple[Tensor, tuple[int, int]]:
    cut = images.unfold(2, WINDOW, step).unfold(3, WINDOW, step)
    rows, columns = cut.shape[2:4]
    return cut.permute(0, 2, 3, 1, 4, 5).reshape(-1, images.shape[1], WINDOW, WINDOW), (rows, columns)


def _latents(images: Tensor, encode: Callable[[Tensor], Tensor]) -> Tensor:
    return torch.cat([encode(part).cpu().double() for part in torch.split(images, BATCH)])
