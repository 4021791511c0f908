"""From the maps of a ResNet-18 to the numbers of an image."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

__all__ = ["STAGE_STATISTICS", "StagePooling", "stage_statistics"]

STAGE_STATISTICS = 2 * (64 + 128 + 256) + 512
OFFSET = 0.1


def stage_statistics(trunk: nn.Module, inputs: Tensor) -> Tensor:
    """Log mean and log standard deviation of every channel of stages 1 to 3, and log mean of those of stage 4.

    Args:
        trunk: A torchvision ResNet-18.
        inputs: ``(N, 3, H, W)``, normalised.

    Returns:
        ``(N, 1408)``: ``log(x + 0.1)`` of means and standard deviations over the pixels of a map.

    """
    x = trunk.maxpool(trunk.relu(trunk.bn1(trunk.conv1(inputs))))  # type: ignore[operator]
    numbers = []
    for stage in (trunk.layer1, trunk.layer2, trunk.layer3):
        x = stage(x)  # type: ignore[operator]
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        numbers += [wide.mean((2, 3)), (wide.var((2, 3), correction=0) + 1e-6).sqrt()]
    numbers.append(trunk.layer4(x).to(numbers[0].dtype).mean((2, 3)))  # type: ignore[operator]
    return (torch.cat(numbers, 1) + OFFSET).log()


class StagePooling(nn.Module):
    """All stages of a ResNet-18 in 512 numbers: a stored affine map of :func:`stage_statistics`.

    Global average pooling of the last stage alone, as in Eq. 1 of the RL2 paper, has lost most of what is fine or rare
    in an image; the first stages still know it.

    Args:
        tensors: ``mean``, ``(1408,)``, and ``matrix``, ``(1408, 512)``.

    """

    mean: Tensor
    matrix: Tensor

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        for name in ("mean", "matrix"):
            self.register_buffer(name, tensors[name].to("cpu", torch.float32, copy=True))

    def forward(self, trunk: nn.Module, inputs: Tensor) -> Tensor:
        """Features ``(N, 512)`` of normalised images ``(N, 3, H, W)``."""
        return (stage_statistics(trunk, inputs) - self.mean) @ self.matrix
