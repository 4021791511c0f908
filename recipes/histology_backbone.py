"""Train the backbone of ``histology@2``: that of ``lung_colon_backbone.py`` goes on, in many virtual laboratories.

A batch is sixteen laboratories of 32 crops: of each of eight images one crop, one beside it, and two damaged copies of
the first. A laboratory is one data set with a stain, scale and compression drawn for it. It learns at once:

- ``kind``: kind of tissue, among those of its data set
- ``severity``: of seven families of damage, and the scale
- ``statistics``: twenty-five simple statistics of the crop as seen, and nine Haar energies
- ``neighbor``: which of eight crops of the laboratory lies beside this one (InfoNCE, arXiv 1807.03748)
- ``distance``: damaged crops are further from the mean of their laboratory's clean ones than clean ones are

    python recipes/histology_backbone.py MANY_LABS LC25000 backbone.safetensors --start first.safetensors

Two minutes on one H200, most of a day on two CPU cores. Interrupted, the same command goes on where it stopped.
``--fold 1`` or ``--fold 2`` keeps half of the sets out, so that a backbone can be judged on laboratories that it has
not seen; ``--drop LOSS`` leaves a loss out.
"""

import argparse
import time
from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import resnet18
from torchvision.transforms.v2 import functional as TF

from appearance import haar_energies
from many_labs import Corpus, corpus
from torchmetrics_rl2 import RL2Error
from torchmetrics_rl2.pixels.patch_statistics import STATISTICS, patch_statistics
from torchmetrics_rl2.runtime import default_device
from torchmetrics_rl2.weights import load_backbone
from virtual_labs import FAMILIES, Draws, damage, on, restain, rounded

SEED, STEPS, PX, RATE, WARM_UP = 0, 3200, 128, 2e-3, 0.08
LABS, IMAGES, COPIES = 16, 8, 2
CROPS = (2 + COPIES) * IMAGES
FOLDS = (
    (
        *("breakhis_400x_a", "crc_val_he_7k_jpg", "kather_texture_2016", "nct_crc_he_100k_tif", "ocdc"),
        *("osteosarcoma_utsw", "tnbc"),
    ),
    (
        *("bcss_tiles", "brecahad", "camelyon16_resampled", "camelyon_srgan_real", "ebhi_seg", "openslide_OS-1_crop"),
        "oral_oscc_224",
    ),
)
"""Sets that a fold keeps out; sets of one laboratory are in one fold. The losses were chosen by the first."""
WEIGHTS = {"kind": 1.0, "severity": 30.0, "statistics": 3.0, "neighbor": 1.0, "distance": 10.0}
NUMBERS = len(STATISTICS) + 9
MEAN, SD = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).view(2, 1, 3, 1, 1)
TEMPERATURE, SHARPNESS, KEPT = 0.2, 4.0, 500


class Batches:
    """Draws batches of crops from a corpus, and damages some.

    Args:
        images: What to draw from.
        device: Where pixels are.
        seed: Of all draws.

    """

    def __init__(self, images: Corpus, device: torch.device, seed: int) -> None:
        self.images = images
        self.pixels = images.pixels.to(device)
        self.draws = Draws(device, seed)
        self.of_domain = [(images.domains == k).nonzero().flatten() for k in range(len(images.names))]
        self.shares = torch.tensor([len(rows) for rows in self.of_domain]).sqrt()

    def clean(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Crops ``(N, 3, PX, PX)``, their image, scale in octaves, and whether a crop differs in scale from its lab."""
        plan, images = self.draws.plan, self.images
        labs = torch.multinomial(self.shares, LABS, replacement=True, generator=plan.generator)
        rows = []
        for lab in labs.tolist():
            own = self.of_domain[lab]
            rows.append(own[torch.randperm(len(own), generator=plan.generator)[torch.arange(IMAGES) % len(own)]])
        index = torch.stack(rows).repeat(1, 2 + COPIES).flatten()
        octaves = (plan.uniform(-0.75, 0.75, LABS) * plan.chosen(0.5, LABS)).repeat_interleave(CROPS)
        role = torch.arange(LABS * CROPS) % CROPS // IMAGES
        changed = (role > 1) & plan.chosen(0.15, LABS * CROPS)
        change = plan.uniform(0.25, 1, LABS * CROPS) * (1 - 2 * plan.integers(2, LABS * CROPS))
        octaves = ((octaves - torch.where(changed, change, 0.0)) * 8).round() / 8
        heights, widths = images.heights[index], images.widths[index]
        side = (PX * octaves.exp2()).round().long().clamp(max=torch.minimum(heights, widths))
        place = plan.uniform(0, 1, LABS, 1, IMAGES, 2).expand(LABS, 2 + COPIES, IMAGES, 2).reshape(-1, 2)
        beside = plan.uniform(-0.5, 0.5, LABS * CROPS, 2) * (role == 1)[:, None] * side[:, None]
        room = torch.stack([heights - side, widths - side], 1)
        corner = (place * room + beside).round().long().clamp(min=0).minimum(room)
        crops = self._cut(index, corner, side, widths)
        return self._turned(crops), index, (side / PX).log2(), changed

    def _cut(self, index: Tensor, corner: Tensor, side: Tensor, widths: Tensor) -> Tensor:
        pixels = self.pixels
        starts = on(self.images.starts[index] + corner[:, 0] * widths + corner[:, 1], pixels)
        widths = on(widths, pixels)
        crops = torch.empty(len(index), 3, PX, PX, device=pixels.device)
        for px in side.unique().tolist():
            rows = on((side == px).nonzero().flatten(), pixels)
            axis = torch.arange(px, device=pixels.device)
            first, width = starts[rows].view(-1, 1, 1), widths[rows].view(-1, 1, 1)
            cut = pixels[first + axis[:, None] * width + axis].permute(0, 3, 1, 2).float() / 255
            crops[rows] = cut if px == PX else TF.resize(cut, [PX, PX], antialias=True)
        return rounded(crops)

    def _turned(self, crops: Tensor) -> Tensor:
        up, left, across = self.draws.chosen(0.5, 3, len(crops), 1, 1, 1)
        crops = torch.where(up, crops.flip(2), crops)
        crops = torch.where(left, crops.flip(3), crops)
        return torch.where(across, crops.transpose(2, 3), crops)

    @torch.no_grad()
    def next(self) -> dict[str, Tensor]:
        """Crops as seen, and what is to be learned of them."""
        crops, index, octaves, changed = self.clean()
        plan = self.draws.plan
        copy = torch.arange(len(crops)) % CROPS >= 2 * IMAGES
        number = 1 + plan.chosen(0.3, len(crops)).long() - (changed & plan.chosen(0.5, len(crops))).long()
        number = torch.where(copy, number, 0)
        seen, severity = damage(restain(crops, LABS, self.draws), number, self.draws)
        return {
            "seen": seen,
            "image": on(index, crops),
            "class": on(self.images.classes[index], crops),
            "domain": on(self.images.domains[index], crops),
            "severity": torch.cat([severity, on(octaves, crops)[:, None]], 1),
            "damaged": on((number > 0) | changed, crops),
            "numbers": torch.cat([patch_statistics(seen), haar_energies(seen)], 1),
        }


class Learner(nn.Module):
    """The backbone, and a head for each thing that it learns.

    Args:
        labels: Domain of each class.
        center: Of the statistics.
        spread: Of the statistics.

    """

    labels: Tensor
    center: Tensor
    spread: Tensor

    def __init__(self, labels: Tensor, center: Tensor, spread: Tensor) -> None:
        super().__init__()
        self.backbone = resnet18(weights=None)
        self.backbone.fc = nn.Identity()
        self.kind = nn.Linear(512, len(labels))
        self.severity = nn.Linear(512, len(FAMILIES) + 1)
        self.statistics = nn.Linear(512, NUMBERS)
        self.neighbor = nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, 128))
        for name, numbers in (("labels", labels), ("center", center), ("spread", spread)):
            self.register_buffer(name, numbers)
        self.register_buffer("mean", MEAN)
        self.register_buffer("sd", SD)

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Each loss of a batch."""
        inputs = ((batch["seen"] - self.mean) / self.sd).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cuda", torch.bfloat16, enabled=inputs.is_cuda):
            features = self.backbone(inputs)
        features = features.float()
        standard = (batch["numbers"] - self.center) / self.spread
        return {
            "kind": self._kind(features, batch),
            "severity": F.smooth_l1_loss(self.severity(features), batch["severity"]),
            "statistics": F.smooth_l1_loss(self.statistics(features), standard),
            "neighbor": self._neighbor(features, batch["image"]),
            "distance": _distance(features, batch["damaged"]),
        }

    def _kind(self, features: Tensor, batch: dict[str, Tensor]) -> Tensor:
        logits = self.kind(features).masked_fill(self.labels != batch["domain"][:, None], -1e4)
        each = F.cross_entropy(logits, batch["class"].clamp(min=0), reduction="none")
        known = batch["class"] >= 0
        return (each * known).sum() / known.sum().clamp(min=1)

    def _neighbor(self, features: Tensor, image: Tensor) -> Tensor:
        clean = features.view(LABS, CROPS, -1)[:, : 2 * IMAGES].flatten(0, 1)
        first, second = F.normalize(self.neighbor(clean), dim=1).view(LABS, 2, IMAGES, -1).unbind(1)
        images = image.view(LABS, CROPS)[:, :IMAGES]
        same = images[:, :, None] == images[:, None]
        itself = torch.eye(IMAGES, dtype=torch.bool, device=image.device)
        likeness = (first @ second.transpose(1, 2) / TEMPERATURE).masked_fill(same & ~itself, -1e4)
        target = torch.arange(IMAGES, device=image.device).expand(LABS, IMAGES).flatten()
        both = [likeness.flatten(0, 1), likeness.transpose(1, 2).flatten(0, 1)]
        return torch.stack([F.cross_entropy(one, target) for one in both]).mean()


def _distance(features: Tensor, damaged: Tensor) -> Tensor:
    """Logistic loss of each damaged and each clean crop of a laboratory being in the wrong order of distance."""
    features, damaged = features.view(LABS, CROPS, -1), damaged.view(LABS, CROPS)
    clean = (~damaged).float()
    count = clean.sum(1, keepdim=True)
    center = (features * clean[:, :, None]).sum(1, keepdim=True) / count[:, :, None]
    # The mean of the others, for a crop that is in the mean.
    own = torch.where(damaged, 1.0, count / (count - 1))
    distance = (features - center).square().sum(2).clamp(min=1e-8).log() / 2 + own.log()
    wrong = F.softplus(SHARPNESS * (distance[:, None, :] - distance[:, :, None])) / SHARPNESS
    pairs = damaged[:, :, None] * clean[:, None, :]
    return (wrong * pairs).sum() / pairs.sum().clamp(min=1)


def train(
    images: Corpus,
    steps: int,
    start: Mapping[str, Tensor],
    drop: Collection[str] = (),
    device: torch.device | None = None,
    keep: Path | None = None,
) -> dict[str, Tensor]:
    """The state dict of a backbone, half precision where it has weights to round.

    Args:
        images: What to learn from.
        steps: Batches.
        start: State dict of a backbone to go on from.
        drop: Losses to leave out.
        device: Where.
        keep: Checkpoint to write every 500 steps, and to go on from.

    """
    torch.manual_seed(SEED)
    device = device or default_device(None)
    batches = Batches(images, device, SEED)
    numbers = torch.cat([batches.next()["numbers"] for _ in range(16)])
    learner = Learner(images.labels, numbers.mean(0), numbers.std(0)).to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(learner.parameters(), lr=RATE, weight_decay=0.05, fused=device.type == "cuda")
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, RATE, total_steps=steps, pct_start=WARM_UP, cycle_momentum=False
    )
    learner.backbone.load_state_dict(start)
    parts = {"learner": learner, "optimizer": optimizer, "schedule": schedule}
    options = {"steps": steps, "drop": sorted(drop), "sets": list(images.names)}
    step, began = _resumed(keep, parts, batches, options), time.time()
    while step < steps:
        losses = learner.losses(batches.next())
        optimizer.zero_grad()
        torch.stack([WEIGHTS[name] * loss for name, loss in losses.items() if name not in drop]).sum().backward()
        nn.utils.clip_grad_norm_(learner.parameters(), 5)
        optimizer.step()
        schedule.step()
        step += 1
        if step % 100 == 0 or step == steps:
            shown = ", ".join(f"{name} {loss.item():.4f}" for name, loss in losses.items())
            print(f"step {step}/{steps}: {shown} ({time.time() - began:.0f} s)", flush=True)
        if keep and step % KEPT == 0:
            state = {name: part.state_dict() for name, part in parts.items()}
            torch.save(state | {"step": step, "options": options}, keep.with_suffix(".part"))
            keep.with_suffix(".part").replace(keep)
    # Half precision on disk; what follows is fitted on the rounded backbone, so nothing moves when it is loaded.
    return {
        key: (value.half() if value.ndim == 4 else value).cpu().contiguous()
        for key, value in learner.backbone.state_dict().items()
    }


def _resumed(keep: Path | None, parts: dict[str, nn.Module], batches: Batches, options: dict[str, object]) -> int:
    if keep is None or not keep.exists():
        return 0
    saved = torch.load(keep, weights_only=True, map_location=batches.draws.device)
    if saved["options"] != options:
        raise RL2Error(f"{keep} is of a run with other options, {saved['options']}. Give the same, or delete it.")
    for name, part in parts.items():
        part.load_state_dict(saved[name])
    # Other crops than those before.
    batches.draws = Draws(batches.draws.device, SEED + saved["step"])
    return int(saved["step"])


def main() -> None:
    """Train, and write the state dict under torchvision's keys."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("many_labs", type=Path, help="a folder with a folder for each set of many_labs.csv")
    parser.add_argument("lc25000", type=Path, help="the LC25000 images, in any folder layout")
    parser.add_argument("out", type=Path, help="where the backbone is written")
    parser.add_argument("--start", required=True, help="weights, or the state dict of a ResNet-18, to go on from")
    parser.add_argument("--fold", type=int, choices=(1, 2), help="keep a half of the sets out, to judge by")
    parser.add_argument("--drop", choices=list(WEIGHTS), action="append", default=[], help="a loss to leave out")
    parser.add_argument("--steps", type=int, default=STEPS)
    arguments = parser.parse_args()
    without = FOLDS[arguments.fold - 1] if arguments.fold else ()
    images = corpus(arguments.many_labs, arguments.lc25000, ["fit"], without)
    start, keep = load_backbone(arguments.start).state_dict, arguments.out.with_suffix(".ckpt")
    save_file(train(images, arguments.steps, start, arguments.drop, keep=keep), arguments.out)
    keep.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
