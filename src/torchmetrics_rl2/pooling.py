"""From the maps of a ResNet-18 to numbers of an image, from all of its stages."""

import torch
from torch import Tensor, nn

__all__ = ["STAGE_STATISTICS", "stage_statistics"]

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
        numbers += [x.mean((2, 3)), (x.float().var((2, 3), correction=0) + 1e-6).sqrt()]
    numbers.append(trunk.layer4(x).mean((2, 3)))  # type: ignore[operator]
    return (torch.cat([number.float() for number in numbers], 1) + OFFSET).log()
