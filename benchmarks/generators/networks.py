"""Networks of small generators of patches that are asked for a kind of tissue: flow matching, VAE and GAN."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

HEAD = 64
LATENT = 128
SMALLEST = 16


def normalized(x: Tensor) -> Tensor:
    """Zero mean and unit variance over the channels of each pixel."""
    # Autocast would do it in float32, which takes twice the time; where channels are last it is one kernel.
    with torch.autocast(x.device.type, enabled=False):
        return F.layer_norm(x.permute(0, 2, 3, 1), x.shape[1:2]).permute(0, 3, 1, 2)


class Block(nn.Module):
    """Residual block that knows what is asked for."""

    def __init__(self, inputs: int, outputs: int, asked: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.modulation = nn.Linear(asked, 2 * outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor, asked: Tensor) -> Tensor:
        """Add what is learned to the input."""
        scale, shift = self.modulation(asked)[:, :, None, None].chunk(2, 1)
        hidden = self.first(F.silu(normalized(x)))
        hidden = self.second(F.silu(normalized(hidden) * (1 + scale) + shift))
        return self.skip(x) + hidden


class Attention(nn.Module):
    """Every pixel looks at all others."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = max(1, width // HEAD)
        self.inputs, self.output = nn.Conv2d(width, 3 * width, 1), nn.Conv2d(width, width, 1)
        nn.init.zeros_(self.output.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Add what is seen."""
        n, c, h, w = x.shape
        parts = self.inputs(normalized(x)).view(n, 3, self.heads, c // self.heads, h * w).transpose(-1, -2)
        seen = F.scaled_dot_product_attention(*parts.unbind(1)).transpose(-1, -2).reshape(n, c, h, w)
        return x + self.output(seen)


class UNet(nn.Module):
    """Velocity from noise to patches, of patches at a time in [0, 1]; pixels of 2 x 2 are channels."""

    def __init__(self, kinds: int, widths: tuple[int, ...] = (96, 192, 384, 512), asked: int = 256) -> None:
        super().__init__()
        self.time = nn.Sequential(nn.Linear(32, asked), nn.SiLU(), nn.Linear(asked, asked))
        self.kind = nn.Embedding(kinds, asked)
        self.stem, self.head = nn.Conv2d(12, widths[0], 3, padding=1), nn.Conv2d(widths[0], 12, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        before = (widths[0], *widths[:-1])
        self.down = nn.ModuleList(self._level(i, o, asked) for i, o in zip(before, widths, strict=True))
        self.up = nn.ModuleList(self._level(2 * o, i, asked) for i, o in zip(before, widths, strict=True))
        self.attention = nn.ModuleList(Attention(width) for width in widths[2:])

    @staticmethod
    def _level(inputs: int, outputs: int, asked: int) -> nn.ModuleList:
        return nn.ModuleList([Block(inputs, outputs, asked), Block(outputs, outputs, asked)])

    def forward(self, x: Tensor, time: Tensor, kind: Tensor) -> Tensor:
        """Velocity of images ``(N, 3, H, W)`` whose sides are multiples of 16."""
        angles = time[:, None] * torch.pi * 2.0 ** torch.linspace(-2, 6, 16, device=time.device)
        asked = F.silu(self.time(torch.cat([angles.sin(), angles.cos()], 1)) + self.kind(kind))
        x, skips = self.stem(F.pixel_unshuffle(x, 2)), []
        for level, blocks in enumerate(self.down):
            x = F.avg_pool2d(x, 2) if level else x
            for block in blocks:
                x = block(x, asked)
            x = self.attention[level - 2](x) if level >= 2 else x
            skips.append(x)
        for level, blocks in reversed(list(enumerate(self.up))):
            x = torch.cat([x, skips[level]], 1)
            for block in blocks:
                x = block(x, asked)
            x = F.interpolate(x, scale_factor=2.0) if level else x
        return F.pixel_shuffle(self.head(F.silu(normalized(x))), 2)


class Decoder(nn.Module):
    """From latents and kinds of tissue to images of a side that is a multiple of 16."""

    def __init__(self, kinds: int, px: int, widths: tuple[int, ...] = (384, 256, 128, 64), asked: int = 256) -> None:
        super().__init__()
        self.start = px // SMALLEST
        self.kind = nn.Embedding(kinds, LATENT)
        self.asked = nn.Sequential(nn.Linear(2 * LATENT, asked), nn.SiLU(), nn.Linear(asked, asked), nn.SiLU())
        self.first = nn.Linear(2 * LATENT, widths[0] * self.start**2)
        before = (widths[0], *widths[:-1])
        self.blocks = nn.ModuleList(Block(i, o, asked) for i, o in zip(before, widths, strict=True))
        self.head = nn.Conv2d(widths[-1], 3, 3, padding=1)

    def forward(self, z: Tensor, kind: Tensor) -> Tensor:
        """Images in [-1, 1]."""
        given = torch.cat([z, self.kind(kind)], 1)
        asked, x = self.asked(given), self.first(given).view(len(z), -1, self.start, self.start)
        x = x.contiguous(memory_format=torch.channels_last)
        for block in self.blocks:
            x = block(F.interpolate(x, scale_factor=2.0), asked)
        return torch.tanh(self.head(F.silu(normalized(x))))


class Encoder(nn.Module):
    """From images to mean and log variance of their latents."""

    def __init__(self, px: int, widths: tuple[int, ...] = (64, 128, 256, 384)) -> None:
        super().__init__()
        pairs = zip((3, *widths[:-1]), widths, strict=True)
        self.layers = nn.ModuleList(nn.Conv2d(i, o, 4, stride=2, padding=1) for i, o in pairs)
        self.head = nn.Linear(widths[-1] * (px // SMALLEST) ** 2, 2 * LATENT)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance, ``(N, 128)`` each."""
        for layer in self.layers:
            x = F.silu(normalized(layer(x)))
        mean, log_variance = self.head(x.flatten(1)).chunk(2, 1)
        return mean, log_variance


class Critic(nn.Module):
    """How real patches of a kind look: a projection discriminator (Miyato and Koyama, arXiv 1802.05637)."""

    def __init__(self, kinds: int, widths: tuple[int, ...] = (64, 128, 256, 512)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in zip((3, *widths[:-1]), widths, strict=True):
            layers += [spectral_norm(nn.Conv2d(inputs, outputs, 4, stride=2, padding=1)), nn.LeakyReLU(0.2)]
            layers += [spectral_norm(nn.Conv2d(outputs, outputs, 3, padding=1)), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers)
        self.head, self.kind = spectral_norm(nn.Linear(widths[-1], 1)), spectral_norm(nn.Embedding(kinds, widths[-1]))

    def forward(self, x: Tensor, kind: Tensor) -> Tensor:
        """One number an image, ``(N,)``."""
        pooled = self.layers(x).mean((2, 3))
        return self.head(pooled)[:, 0] + (self.kind(kind) * pooled).sum(1)
