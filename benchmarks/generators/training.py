"""Trains the generators: all on the same tiles, each for its share of the time, with samples at several ages."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import torch
from networks import LATENT, Critic, Decoder, Encoder, UNet
from torch import Tensor, nn
from torch.nn import functional as F

EULER_STEPS = 50
SAMPLED_AT_ONCE = 125
Sampler = Callable[[Tensor], Tensor]


@dataclass
class Budget:
    """Seconds of training, or steps in their place; what sampling takes does not count."""

    seconds: float
    steps: int | None = None
    done: int = 0
    spent: float = 0.0
    since: float = field(default_factory=time.monotonic)

    def share(self) -> float:
        """What is used up, 0 to 1."""
        if self.steps:
            return min(1.0, self.done / self.steps)
        now = time.monotonic()
        if self.done > 1:  # the first step waits for the GPU to be tuned
            self.spent += now - self.since
        self.since = now
        return min(1.0, self.spent / self.seconds)

    def resume(self) -> None:
        """Forget the time since the last step."""
        self.since = time.monotonic()


@dataclass(frozen=True)
class Tiles:
    """Tiles to train on, uint8 ``(N, 3, H, W)``, and the number of the kind of each, on one device."""

    images: Tensor
    kinds: Tensor

    def batch(self, size: int) -> tuple[Tensor, Tensor]:
        """Random tiles in [-1, 1], an eighth of them under each of the eight flips and rotations, and their kinds."""
        rows = torch.randint(len(self.images), (size,), device=self.images.device)
        images = self.images[rows].float().div_(127.5).sub_(1)
        for i in range(8):
            turned = images[i::8].rot90(i % 4, (2, 3))
            images[i::8] = turned.flip(3) if i >= 4 else turned.clone()
        return images.contiguous(memory_format=torch.channels_last), self.kinds[rows]

    def autocast(self) -> AbstractContextManager[Any]:
        """Arithmetic of networks in bfloat16 where that is fast."""
        device = self.images.device.type
        return torch.autocast(device, torch.bfloat16, enabled=device == "cuda")


@dataclass(frozen=True)
class Age:
    """A generator at an age: its name, what it is, its steps and seconds of training, and what makes images."""

    name: str
    about: str
    steps: int
    seconds: float
    sample: Sampler


class Average:
    """Exponential moving average of the weights of a network, quicker at first."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network, self.decay, self.steps = deepcopy(network).requires_grad_(False).eval(), decay, 0

    @torch.no_grad()
    def follow(self, network: nn.Module) -> None:
        """After a step."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(list(self.network.parameters()), list(network.parameters()), 1 - decay)


def prepared(network: nn.Module, tiles: Tiles) -> nn.Module:
    """On the device, channels last."""
    return network.to(tiles.images.device, memory_format=torch.channels_last)


def rated(share: float, warm: float = 0.02, fall: float = 0.3) -> float:
    """Learning rate in shares of the highest: up at first, down to 0 in the end."""
    return min(1.0, share / warm + 0.01, (1 - share) / fall)


def to_bytes(images: Tensor) -> Tensor:
    """From [-1, 1] to uint8 on the CPU."""
    return images.float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8).cpu()


def in_parts(tiles: Tiles, sample: Sampler) -> Sampler:
    """Sample some images at a time, without gradients, in the arithmetic of training."""

    def sampled(kinds: Tensor) -> Tensor:
        with torch.no_grad(), tiles.autocast():
            return torch.cat([to_bytes(sample(part.to(tiles.images.device))) for part in kinds.split(SAMPLED_AT_ONCE)])

    return sampled


def ages(
    name: str, about: str, at: dict[str, float], budget: Budget, step: Callable[[float], Tensor], sample: Sampler
) -> Iterator[Age]:
    """Train to the end, and stop at each age to be sampled."""
    budget.resume()
    for age, until in at.items():
        while (share := budget.share()) < until or not budget.done:
            loss = step(share)
            budget.done += 1
            if budget.done % 100 == 0:
                print(f"{name}: step {budget.done}, {share:.0%}, loss {float(loss):.4f}", flush=True)
        yield Age(f"{name}_{age}", f"{about}, {until:.0%} of its training", budget.done, budget.spent, sample)
        budget.resume()


def flow(tiles: Tiles, kinds: int, budget: Budget, batch: int, widths: Sequence[int]) -> Iterator[Age]:
    """Flow matching (Lipman et al., arXiv 2210.02747), sampled by 50 steps of Euler without guidance."""
    network = prepared(UNet(kinds, tuple(widths)), tiles)
    average = Average(network, 0.999)
    optimizer = torch.optim.AdamW(network.parameters(), 6e-4, weight_decay=0.01, fused=tiles.images.is_cuda)
    side = tiles.images.shape[-1]

    def step(share: float) -> Tensor:
        images, asked = tiles.batch(batch)
        # The larger the image, the more noise it takes to hide it: times lean to the side of noise.
        noise, at = torch.randn_like(images), torch.sigmoid(torch.randn(batch, device=images.device) - side / 224)
        with tiles.autocast():
            found = network(torch.lerp(noise, images, at[:, None, None, None]), at, asked)
        loss = F.mse_loss(found.float(), images - noise)
        updated(optimizer, loss, 6e-4 * rated(share), network)
        average.follow(network)
        return loss.detach()

    def sample(asked: Tensor) -> Tensor:
        x = torch.randn(len(asked), 3, side, side, device=asked.device).contiguous(memory_format=torch.channels_last)
        for i in range(EULER_STEPS):
            at = torch.full((len(asked),), i / EULER_STEPS, device=asked.device)
            x = x + average.network(x, at, asked).float() / EULER_STEPS
        return x

    at = {"early": 0.03, "mid": 0.12, "late": 0.4, "latest": 1.0}
    yield from ages("flow", f"flow matching at {side} px", at, budget, step, in_parts(tiles, sample))


def updated(optimizer: torch.optim.Optimizer, loss: Tensor, rate: float, *clipped: nn.Module) -> None:
    """One step down."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    for network in clipped:
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimizer.step()


def vae(tiles: Tiles, kinds: int, budget: Budget, batch: int, _: Sequence[int]) -> Iterator[Age]:
    """Variational autoencoder whose noise is fitted in closed form (Rybkin et al., arXiv 2006.13202)."""
    side = tiles.images.shape[-1]
    encoder, decoder = prepared(Encoder(side), tiles), prepared(Decoder(kinds, side), tiles)
    weights = list(chain(encoder.parameters(), decoder.parameters()))
    optimizer = torch.optim.AdamW(weights, 5e-4, fused=tiles.images.is_cuda)

    def step(share: float) -> Tensor:
        images, asked = tiles.batch(batch)
        with tiles.autocast():
            mean, log_variance = (part.float().clamp(-10, 10) for part in encoder(images))
            found = decoder(mean + torch.randn_like(mean) * (log_variance / 2).exp(), asked)
        apart = images[0].numel() / 2 * F.mse_loss(found.float(), images).log()
        divergence = (mean.square() + log_variance.exp() - 1 - log_variance).sum(1).mean() / 2
        updated(optimizer, apart + divergence, 5e-4 * rated(share), encoder, decoder)
        return apart.detach()

    def sample(asked: Tensor) -> Tensor:
        return decoder(torch.randn(len(asked), LATENT, device=asked.device), asked)

    at = {"early": 0.1, "latest": 1.0}
    yield from ages("vae", f"variational autoencoder at {side} px", at, budget, step, in_parts(tiles, sample))


def gan(tiles: Tiles, kinds: int, budget: Budget, batch: int, _: Sequence[int]) -> Iterator[Age]:
    """Generative adversarial network with hinge loss; both sides are moved and brightened before they are judged."""
    side, half = tiles.images.shape[-1], max(2, batch // 2)
    maker, critic = prepared(Decoder(kinds, side), tiles), prepared(Critic(kinds), tiles)
    average = Average(maker, 0.999)
    optimizers = [
        torch.optim.Adam(network.parameters(), 2e-4, betas=(0.0, 0.99), fused=tiles.images.is_cuda)
        for network in (maker, critic)
    ]

    def made(asked: Tensor) -> Tensor:
        return maker(torch.randn(len(asked), LATENT, device=asked.device), asked)

    def step(share: float) -> Tensor:
        # In float32, as the norms of the critic's weights need it.
        rate = 2e-4 * min(1.0, 10 * share + 0.1)
        images, asked = tiles.batch(half)
        with torch.no_grad():
            fake = made(asked)
        real, fake = critic(disturbed(images), asked), critic(disturbed(fake), asked)
        loss = F.relu(1 - real).mean() + F.relu(1 + fake).mean()
        updated(optimizers[1], loss, 2 * rate)
        updated(optimizers[0], -critic(disturbed(made(asked)), asked).mean(), rate)
        average.follow(maker)
        return loss.detach()

    def sample(asked: Tensor) -> Tensor:
        return average.network(torch.randn(len(asked), LATENT, device=asked.device), asked)

    at = {"early": 0.15, "latest": 1.0}
    yield from ages("gan", f"GAN at {side} px", at, budget, step, in_parts(tiles, sample))


def disturbed(images: Tensor) -> Tensor:
    """Moved by up to an eighth of the side and brightened, each image by itself (Zhao et al., arXiv 2006.10738)."""
    n, side = len(images), images.shape[-1]
    brighter = images + torch.rand(n, 1, 1, 1, device=images.device) - 0.5
    still = torch.eye(2, 3, device=images.device).repeat(n, 1, 1)
    grid = F.affine_grid(still, [n, 3, side, side], align_corners=False)
    grid = grid + (torch.rand(n, 1, 1, 2, device=images.device) - 0.5) / 2
    return F.grid_sample(brighter, grid, padding_mode="reflection", align_corners=False)


MAKERS = {"flow": (flow, 0.62), "vae": (vae, 0.1), "gan": (gan, 0.28)}
"""What trains each generator, and its share of the time."""
