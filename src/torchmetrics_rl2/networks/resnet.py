"""ResNet-18 without its classifier, under torchvision's keys.

Torchvision has the same network, but importing torchvision takes longer than scoring a hundred patches.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

__all__ = ["ResNet18"]

STAGES = ((64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2))


class ResNet18(nn.Module):
    """The network of He et al. 2016 up to its global average pooling (Eq. 1 of the RL2 paper).

    As input to ``forward`` the network accepts

    - ``images`` (:class:`~torch.Tensor`): ``(N, 3, H, W)``, after preprocessing

    As output of ``forward`` the network returns

    - ``features`` (:class:`~torch.Tensor`): ``(N, 512)``

    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        for i, (inputs, outputs, stride) in enumerate(STAGES, 1):
            setattr(self, f"layer{i}", nn.Sequential(_Block(inputs, outputs, stride), _Block(outputs, outputs, 1)))

    @classmethod
    def entries(cls) -> dict[str, Tensor]:
        """State dict of such a network, without numbers in it."""
        with torch.device("meta"):
            return cls().state_dict()

    @classmethod
    def of(cls, state_dict: Mapping[str, Tensor]) -> "ResNet18":
        """The network with these weights, copied to float32 on the CPU, in evaluation mode."""
        with torch.device("meta"):
            network = cls()
        single = {
            key: value.to("cpu", torch.float32 if value.is_floating_point() else value.dtype, copy=True)
            for key, value in state_dict.items()
        }
        network.load_state_dict(single, assign=True)
        return network.eval()

    def fold(self) -> "ResNet18":
        """Make batch normalization part of the convolutions, for good: the same features to rounding, but sooner."""
        for module in list(self.modules()):
            for name, after in (("conv1", "bn1"), ("conv2", "bn2"), ("0", "1")):
                conv, norm = getattr(module, name, None), getattr(module, after, None)
                if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                    assert norm.running_mean is not None
                    assert norm.running_var is not None
                    stored = (norm.running_mean, norm.running_var, norm.weight, norm.bias)
                    mean, var, weight, bias = (value.detach().double() for value in stored)
                    scale = weight / (var + norm.eps).sqrt()
                    conv.weight = nn.Parameter(conv.weight.detach() * scale.float()[:, None, None, None])
                    conv.bias = nn.Parameter((bias - mean * scale).float())
                    setattr(module, after, nn.Identity())
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Features ``(N, 512)`` of images ``(N, 3, H, W)``."""
        x = nn.functional.relu(self.bn1(self.conv1(images)), inplace=True)
        x = nn.functional.max_pool2d(x, 3, 2, 1)
        for i in range(1, len(STAGES) + 1):
            x = getattr(self, f"layer{i}")(x)
        # A mean over cells is more than half precision holds.
        return x.mean((2, 3), dtype=torch.promote_types(x.dtype, torch.float32))


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        same = stride == 1 and inputs == outputs
        self.downsample = (
            None if same else nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        )

    def forward(self, x: Tensor) -> Tensor:
        y = nn.functional.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        return nn.functional.relu(y.add_(x if self.downsample is None else self.downsample(x)), inplace=True)
