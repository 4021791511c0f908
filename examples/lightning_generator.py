"""Train a small generator of histopathology patches with Lightning, and watch RL2 fall in TensorBoard.

    python examples/lightning_generator.py [--epochs N] [--plot PNG]
    tensorboard --logdir generator_runs

A U-Net learns by flow matching (Lipman et al., arXiv 2210.02747) to make crops of 64 px out of noise. After each epoch
its samples are compared with crops of patches it never sees, which are of another part of the slide: neighboring
patches overlap, so patches held out at random would share pixels with those trained on. Real crops and samples have
the same size, so values compare among each other, and not with those of whole patches. Minutes on two CPU cores.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer, seed_everything
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset, DistributedSampler
from torchvision.utils import make_grid

from torchmetrics_rl2 import ResNetL2, RL2Result
from torchmetrics_rl2.callbacks import ResNetL2Monitor
from torchmetrics_rl2.images import find_images, read_image

CMU = Path(__file__).parent / "cmu"
PX, BATCH, EMA_DECAY, STEPS = 64, 8, 0.99, 16


class Crops(Dataset[tuple[Tensor, int]]):
    """Crops of patches with flips, in [0, 1]: random ones, or the same ones each time."""

    def __init__(self, folder: str | Path, length: int, fixed: bool = False) -> None:
        self.paths, self.length, self.fixed = find_images(folder), length, fixed

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        generator = Generator().manual_seed(index) if self.fixed else None
        patch = read_image(self.paths[index % len(self.paths)])
        top, left = (int(torch.randint(side - PX + 1, (), generator=generator)) for side in patch.shape[1:])
        flips = [axis for axis in (1, 2) if torch.rand((), generator=generator) < 0.5]
        return patch[:, top : top + PX, left : left + PX].flip(flips) / 255, index


class Block(nn.Module):
    """Residual block that knows the time."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.GroupNorm(8, inputs), nn.SiLU(), nn.Conv2d(inputs, outputs, 3, padding=1))
        self.time = nn.Linear(64, outputs)
        self.second = nn.Sequential(nn.GroupNorm(8, outputs), nn.SiLU(), nn.Conv2d(outputs, outputs, 3, padding=1))
        self.skip = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """Add what is learned to the input."""
        return self.skip(x) + self.second(self.first(x) + self.time(time)[:, :, None, None])


class UNet(nn.Module):
    """Velocity from noise to images, of images at a time in [0, 1]."""

    def __init__(self, widths: tuple[int, ...] = (48, 64, 96)) -> None:
        super().__init__()
        self.time = nn.Sequential(nn.Linear(16, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU())
        self.stem = nn.Conv2d(12, widths[0], 3, padding=1)
        self.down = nn.ModuleList(Block(i, o) for i, o in zip((widths[0], *widths[:-1]), widths, strict=True))
        ups = zip(widths[::-1], (*widths[-2::-1], widths[0]), strict=True)
        self.up = nn.ModuleList(Block(2 * i, o) for i, o in ups)
        self.head = nn.Sequential(nn.GroupNorm(8, widths[0]), nn.SiLU(), nn.Conv2d(widths[0], 12, 3, padding=1))

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """Run at half resolution and below, where pixels of 2 x 2 are channels."""
        angles = time[:, None] * torch.pi * 2.0 ** torch.arange(-1, 7, device=time.device)
        time = self.time(torch.cat([angles.sin(), angles.cos()], 1))
        x, skips = self.stem(F.pixel_unshuffle(x, 2)), []
        for level, block in enumerate(self.down):
            x = block(F.avg_pool2d(x, 2) if level else x, time)
            skips.append(x)
        for level, block in enumerate(self.up):
            x = block(torch.cat([F.interpolate(x, scale_factor=2.0) if level else x, skips.pop()], 1), time)
        return F.pixel_shuffle(self.head(x), 2)


class PatchGenerator(LightningModule):
    """Flow matching, with RL2 of its samples after each epoch."""

    def __init__(self, train: Crops, held_out: Crops, learning_rate: float = 2e-3) -> None:
        super().__init__()
        self.train_crops, self.held_out_crops, self.learning_rate = train, held_out, learning_rate
        self.network = UNet()
        self.average = AveragedModel(self.network, multi_avg_fn=get_ema_multi_avg_fn(EMA_DECAY)).requires_grad_(False)
        self.rl2 = ResNetL2("lung-colon", normalize=True, uncertainty=True, debiased=True)
        self.history: list[tuple[RL2Result, Tensor]] = []

    def train_dataloader(self) -> DataLoader[Any]:
        """Every process its share of each batch."""
        world = self.trainer.world_size
        sampler: DistributedSampler[Any] = DistributedSampler(self.train_crops, world, self.global_rank, drop_last=True)
        return DataLoader(self.train_crops, max(1, BATCH // world), sampler=sampler)

    def val_dataloader(self) -> DataLoader[Any]:
        """Every process its share, and each crop once."""
        # DistributedSampler repeats images until all processes have equally many, and each repeat moves a metric.
        share = range(self.global_rank, len(self.held_out_crops), self.trainer.world_size)
        return DataLoader(self.held_out_crops, BATCH, sampler=share)

    def on_train_start(self) -> None:
        """Give every process its own times and noise; seed_everything seeds all processes alike."""
        torch.manual_seed(torch.initial_seed() + self.global_rank)

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        """Squared error of the velocity at a random time."""
        images = 2 * batch[0] - 1
        noise, time = torch.randn_like(images), torch.randn(len(images), device=self.device).sigmoid()
        between = torch.lerp(noise, images, time[:, None, None, None])
        loss = F.mse_loss(self.network(between, time), images - noise)
        self.log("train/loss", loss)
        return loss

    def on_train_batch_end(self, *_: Any) -> None:
        """Follow the weights; samples of their average are far better."""
        self.average.update_parameters(self.network)

    def sample(self, noise: Tensor) -> Tensor:
        """Carry noise along the velocity, to images in [0, 1]."""
        x = noise
        for step in range(STEPS):
            x = x + self.average(x, torch.full((len(x),), step / STEPS, device=x.device)) / STEPS
        return (x / 2 + 0.5).clamp(0, 1)

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Give real crops to the metric, and as many samples; the monitor shows the worst of these."""
        real, indices = batch
        # Noise is seeded by index, so that the samples do not depend on the number of processes.
        noise = [torch.randn(real.shape[1:], generator=Generator().manual_seed(int(index))) for index in indices]
        fake = self.sample(torch.stack(noise).to(real))
        self.rl2.update(real, real=True)
        self.rl2.update(fake, real=False)
        self.log("val/rl2", self.rl2)
        if batch_idx == 0:
            self.grid = make_grid(fake, nrow=4)
        return {"fake": fake}

    def on_validation_epoch_end(self) -> None:
        """Log samples, and print the interval while the metric still has the images of this epoch."""
        if self.trainer.sanity_checking:
            return
        result = self.rl2.result()
        assert result.interval is not None
        low, high = result.interval
        if self.trainer.is_global_zero:
            self.logger.experiment.add_image("val/samples", self.grid, self.global_step)
            self.history.append((result, self.grid))
            counts = f"{result.n_fake} samples against {result.n_real} crops"
            print(
                f"epoch {self.current_epoch}: RL2 {result.debiased:.1f} ({low:.1f} to {high:.1f}),", counts, flush=True
            )

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW with a learning rate that falls to 0."""
        optimizer = torch.optim.AdamW(self.network.parameters(), self.learning_rate)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, self.learning_rate, int(self.trainer.estimated_stepping_batches), pct_start=0.1
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def plot(model: PatchGenerator, path: str) -> None:
    """Draw RL2 with its interval, and samples of the first and last epoch beneath."""
    import matplotlib.pyplot as plt

    train, real = (next(iter(DataLoader(crops, 128)))[0] for crops in (model.train_crops, model.held_out_crops))
    lowest = ResNetL2("lung-colon", normalize=True, debiased=True, sync_on_compute=False)
    lowest.update(train, real=False)
    lowest.update(real, real=True)
    results, grids = zip(*model.history, strict=True)
    figure, axes = plt.subplot_mosaic("ccc;012", figsize=(9, 5), height_ratios=[3, 2], layout="constrained")
    axes["c"].plot([result.debiased for result in results], marker="o", label="samples, with 95 % interval")
    axes["c"].fill_between(range(len(results)), *zip(*(result.interval for result in results), strict=True), alpha=0.3)
    axes["c"].axhline(lowest.compute(), linestyle="--", color="gray", label="crops of the training patches")
    axes["c"].set(xlabel="epoch", ylabel="RL2, debiased", xticks=range(len(results)), ylim=(0, None))
    axes["c"].legend()
    titles = ("samples, first epoch", "samples, last epoch", "held-out crops")
    for name, title, grid in zip("012", titles, (grids[0], grids[-1], make_grid(real[:BATCH], nrow=4)), strict=True):
        axes[name].imshow(grid.permute(1, 2, 0).cpu())
        axes[name].set_title(title)
        axes[name].axis("off")
    figure.savefig(path, dpi=110)


def main() -> None:
    """Train, and print RL2 after each epoch."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--images",
        nargs=2,
        default=(CMU / "clean", CMU / "reference"),
        metavar=("TRAIN", "HELD_OUT"),
        help="folders of patches that share no tissue (default: those of a slide in examples/cmu)",
    )
    parser.add_argument("--epochs", type=int, default=12, help="default: %(default)s")
    parser.add_argument("--out", default="generator_runs", help="folder of TensorBoard logs (default: %(default)s)")
    parser.add_argument("--devices", type=int, default=1, help="of a Lightning Trainer (default: %(default)s)")
    parser.add_argument("--accelerator", default="auto", help="of a Lightning Trainer: cpu, gpu, mps (default: auto)")
    parser.add_argument("--strategy", default="auto", help="of a Lightning Trainer (default: auto)")
    parser.add_argument("--seed", type=int, default=0, help="of weights, crops and noise (default: %(default)s)")
    parser.add_argument("--fast-dev-run", action="store_true", help="two epochs of a few batches: does it run at all?")
    parser.add_argument("--plot", metavar="PNG", help="also draw the curve and samples, needs matplotlib")
    arguments = parser.parse_args()
    seed_everything(arguments.seed)
    # Lightning's own fast_dev_run would turn the logger off.
    epochs, crops, samples = (2, 32, 16) if arguments.fast_dev_run else (arguments.epochs, 1536, 128)
    train, held_out = arguments.images
    model = PatchGenerator(Crops(train, crops), Crops(held_out, samples, fixed=True))
    trainer = Trainer(
        max_epochs=epochs,
        devices=arguments.devices,
        accelerator=arguments.accelerator,
        strategy=arguments.strategy,
        logger=TensorBoardLogger(arguments.out, name=None),
        callbacks=[ResNetL2Monitor()],
        log_every_n_steps=5,
        use_distributed_sampler=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    trainer.fit(model)
    if arguments.plot and trainer.is_global_zero:
        plot(model, arguments.plot)


if __name__ == "__main__":
    main()
