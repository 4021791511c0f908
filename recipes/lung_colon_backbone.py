"""Train the backbone that ``histology_backbone.py`` starts from: that of ``lung-colon@1`` goes on learning.

It learns tissue kind, the severity of four kinds of damage, scale, fifteen image statistics and nine Haar energies at
once, on crops whose stain and compression vary. Half of the crops are not resampled, and damage begins weaker than for
``lung-colon@1``. A quarter of an hour on two CPU cores; interrupted, the same command goes on where it stopped.

    python recipes/lung_colon_backbone.py LC25000 backbone.safetensors --start lung-colon-1.pth

``--scratch`` begins with random weights, and ``--without FAMILY`` never shows a family of damage: so it was measured
what a backbone detects of damage that it has not met. ``lung-colon@1`` does not ship any more: its recipe is that of
commit 128b956, and ``--start`` takes the state dict of its ResNet-18.
"""

import argparse
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from torchvision.models import resnet18

from appearance import DAMAGE, crops, damage, haar_energies, restain
from lc25000 import KINDS, read_all, tiles
from torchmetrics_rl2.pixels import handcrafted_statistics
from torchmetrics_rl2.weights import load_backbone

SEED, STEPS, BATCH, PX, RATE, WARM_UP = 0, 1000, 64, 128, 1e-3, 0.1
LOSSES = "kind, severity, statistics"
MEAN, SD = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).view(2, 1, 3, 1, 1)


class Learner(nn.Module):
    """The backbone and one linear head for each thing that it learns."""

    def __init__(self, backbone: Mapping[str, Tensor] | None) -> None:
        super().__init__()
        self.backbone = resnet18(weights=None)
        self.backbone.fc = nn.Identity()
        if backbone:
            self.backbone.load_state_dict(backbone)
        self.kind = nn.Linear(512, len(KINDS))
        self.severity = nn.Linear(512, len(DAMAGE) + 1)
        self.statistics = nn.Linear(512, 24)

    def losses(self, images: Tensor, kind: Tensor, severity: Tensor, numbers: Tensor) -> Tensor:
        """Cross-entropy of tissue kind, smooth L1 of severities and log2 scale, smooth L1 of the statistics."""
        inputs = ((images - MEAN) / SD).to(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            features = self.backbone(inputs)
        features = features.float()
        return torch.stack(
            [
                F.cross_entropy(self.kind(features), kind),
                F.smooth_l1_loss(self.severity(features), severity),
                F.smooth_l1_loss(self.statistics(features), numbers),
            ]
        )


def batch(
    images: Tensor, kinds: Tensor, without: Sequence[str], generator: Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Seen crops, their tissue kind, severities with log2 scale, and raw statistics."""
    clean, index, scale = crops(images, PX, BATCH, generator)
    seen, severity = damage(restain(clean, generator), without, generator)
    numbers = torch.cat([handcrafted_statistics(seen), haar_energies(seen)], 1)
    return seen, kinds[index], torch.cat([severity, scale[:, None]], 1), numbers


def load(folder: Path, split: str) -> tuple[Tensor, Tensor]:
    """Tiles and tissue kinds of one side of the split."""
    wanted = tiles([split])
    return read_all(folder, wanted), torch.tensor([KINDS.index(tile.kind) for tile in wanted])


def main() -> None:
    """Train, report losses on tiles of the stop split, write the state dict under torchvision's keys."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the LC25000 images, in any folder layout")
    parser.add_argument("out", type=Path, help="where the backbone is written")
    parser.add_argument("--without", choices=DAMAGE, action="append", default=[], help="a family never to show")
    parser.add_argument("--steps", type=int, default=STEPS)
    start = parser.add_mutually_exclusive_group(required=True)
    start.add_argument("--start", help="weights, or the state dict of a ResNet-18, to go on from")
    start.add_argument("--scratch", action="store_true", help="begin with random weights")
    arguments = parser.parse_args()
    steps = arguments.steps
    torch.manual_seed(SEED)
    generator = Generator().manual_seed(SEED)
    images, kinds = load(arguments.folder, "fit")
    numbers = torch.cat([batch(images, kinds, arguments.without, generator)[3] for _ in range(16)])
    center, spread = numbers.mean(0), numbers.std(0)

    learner = Learner(load_backbone(arguments.start).state_dict if arguments.start else None)
    learner = learner.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(learner.parameters(), lr=RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, RATE, total_steps=steps, pct_start=WARM_UP, cycle_momentum=False
    )
    checkpoint = arguments.out.with_suffix(".ckpt")
    parts = {"learner": learner, "optimizer": optimizer, "schedule": schedule}
    step = 0
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        step = saved["step"]
        generator.set_state(saved["generator"])
        for name, part in parts.items():
            part.load_state_dict(saved[name])

    weight = torch.tensor([1.0, 10.0, 3.0])
    start = time.time()
    while step < steps:
        seen, kind, severity, raw = batch(images, kinds, arguments.without, generator)
        losses = learner.losses(seen, kind, severity, (raw - center) / spread)
        optimizer.zero_grad()
        (losses @ weight).backward()
        nn.utils.clip_grad_norm_(learner.parameters(), 5)
        optimizer.step()
        schedule.step()
        step += 1
        if step % 20 == 0:
            shown = " ".join(f"{loss:.4f}" for loss in losses.tolist())
            print(
                f"step {step}/{steps} kind, severity, statistics, correlation: {shown} ({time.time() - start:.0f} s)",
                flush=True,
            )
        if step % 100 == 0:
            state = {name: part.state_dict() for name, part in parts.items()}
            torch.save(state | {"step": step, "generator": generator.get_state()}, checkpoint.with_suffix(".part"))
            checkpoint.with_suffix(".part").replace(checkpoint)

    learner.eval()
    images, kinds = load(arguments.folder, "stop")
    generator.manual_seed(SEED)
    held_out = []
    with torch.no_grad():
        for _ in range(16):
            seen, kind, severity, raw = batch(images, kinds, arguments.without, generator)
            held_out.append(learner.losses(seen, kind, severity, (raw - center) / spread))
    print(
        "stop split, kind, severity, statistics, correlation:",
        *(f"{loss:.4f}" for loss in torch.stack(held_out).mean(0).tolist()),
    )

    # Half precision on disk; what follows is fitted on the rounded backbone, so nothing moves when it is loaded.
    backbone = {key: value.half() if value.ndim == 4 else value for key, value in learner.backbone.state_dict().items()}
    save_file({key: value.contiguous() for key, value in backbone.items()}, arguments.out)


if __name__ == "__main__":
    main()
