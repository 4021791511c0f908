"""From what a backbone and hand-crafted statistics know of an image to its features."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from torchmetrics_rl2.pixels.handcrafted import HANDCRAFTED, handcrafted_statistics

__all__ = ["READ", "Readout"]

READ = 512 + len(HANDCRAFTED)


class Readout(nn.Module):
    """512 stored linear combinations of the 512 channels of a backbone and fifteen hand-crafted statistics.

    Global average pooling of the last stage, Eq. 1 of the RL2 paper, has lost some of what is fine or rare in an image,
    such as blur of half a pixel; the statistics still know it.

    Args:
        tensors: ``mean``, ``(527,)``, and ``matrix``, ``(527, 512)``.

    """

    mean: Tensor
    matrix: Tensor

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        for name in ("mean", "matrix"):
            self.register_buffer(name, tensors[name].to("cpu", torch.float32, copy=True))

    def forward(self, channels: Tensor, images: Tensor) -> Tensor:
        """Features ``(N, 512)`` of channels ``(N, 512)`` and images ``(N, 3, H, W)`` in [0, 1]."""
        return (torch.cat([channels, handcrafted_statistics(images)], 1) - self.mean) @ self.matrix
