"""A small network that tells kinds of tissue apart, trained from scratch: no metric has a part in it."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PX = 64
BATCH = 50
STEPS = 200
WIDTHS = (16, 32, 64)
DESCRIBED = f"{PX} px, {STEPS} x {BATCH}, {WIDTHS}"


def small(images: Tensor) -> Tensor:
    """Images ``(N, 3, 64, 64)`` in [-1, 1] of uint8 ones of any size."""
    resized = F.interpolate(images.float(), (PX, PX), mode="bilinear", antialias=True)
    return resized / 127.5 - 1


class Classifier(nn.Sequential):
    """Six convolutions, with batch norm."""

    def __init__(self, kinds: int) -> None:
        layers: list[nn.Module] = []
        for inputs, outputs in zip((3, *WIDTHS[:-1]), WIDTHS, strict=True):
            for before, stride in ((inputs, 2), (outputs, 1)):
                layers += [nn.Conv2d(before, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(WIDTHS[-1], kinds))


def trained(images: Tensor, kinds: Tensor, count: int, seed: int, device: torch.device) -> Classifier:
    """A classifier of small images, as ``small`` makes them, trained with flips and rotations for a fixed time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Classifier(count).to(device)
        optimizer = torch.optim.AdamW(network.parameters(), 4e-3, weight_decay=0.02)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, STEPS, pct_start=0.15)
        order = torch.cat([torch.randperm(len(images)) for _ in range(STEPS * BATCH // len(images) + 1)])
        for step, rows in enumerate(order[: STEPS * BATCH].split(BATCH)):
            batch = images[rows].rot90(step % 4, (2, 3)).to(device)
            batch = batch.flip(3) if step % 8 >= 4 else batch
            loss = F.cross_entropy(network(batch), kinds[rows].to(device), label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return network.eval()


@torch.no_grad()
def predicted(network: Classifier, images: Tensor) -> Tensor:
    """Number of the kind of each small image, on the CPU."""
    device = next(network.parameters()).device
    return torch.cat([network(part.to(device)).argmax(1).cpu() for part in images.split(200)])
