"""Keys and bytes of a Lightning checkpoint, and parameters of its optimizer, without a metric, with RL2, with FID.

    python benchmarks/checkpoints.py

FID gets a ResNet-18, the network of RL2, instead of its Inception, which has twice the parameters.
"""

import tempfile
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchmetrics import Metric
from torchmetrics.image.fid import FrechetInceptionDistance
from torchvision.models import resnet18

from torchmetrics_rl2 import ResNetL2


class Model(LightningModule):
    """A model of six parameters, and maybe a metric."""

    def __init__(self, metric: Metric | None) -> None:
        super().__init__()
        self.head = nn.Linear(2, 2)
        if metric is not None:
            self.metric = metric

    def training_step(self, batch: Tensor, _: int) -> Tensor:
        """Any loss."""
        return self.head(batch).sum()

    def configure_optimizers(self) -> Any:
        """Any optimizer over all parameters."""
        return torch.optim.Adam(self.parameters())


class Backbone(nn.Module):
    """A ResNet-18 in the form that FID takes."""

    num_features = 1000

    def __init__(self) -> None:
        super().__init__()
        self.net = resnet18(weights=None)

    def forward(self, images: Tensor) -> Tensor:
        """Features of images."""
        return self.net(images.float())


def main() -> None:
    """Print the table."""
    print(f"{'metric':24}{'keys':>6}{'bytes':>13}{'parameters in the optimizer':>30}")
    for name, metric in (
        ("none", None),
        ("ResNetL2", ResNetL2()),
        ("FID of a ResNet-18", FrechetInceptionDistance(Backbone())),
    ):
        with tempfile.TemporaryDirectory() as folder:
            trainer = Trainer(
                max_epochs=1,
                logger=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                default_root_dir=folder,
            )
            trainer.fit(Model(metric), DataLoader(torch.ones(2, 2)))
            path = Path(folder) / "model.ckpt"
            trainer.save_checkpoint(path)
            keys = len(torch.load(path, weights_only=False)["state_dict"])
            count = sum(p.numel() for group in trainer.optimizers[0].param_groups for p in group["params"])
            print(f"{name:24}{keys:6}{path.stat().st_size:13,}{count:30,}", flush=True)


if __name__ == "__main__":
    main()
