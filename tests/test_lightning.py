import lightning
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from tests.conftest import random_images
from torchmetrics_rl2 import ResNetL2
from torchmetrics_rl2.functional import resnet_l2


class Model(lightning.LightningModule):
    def __init__(self, encoder):
        super().__init__()
        self.head = nn.Linear(2, 1)
        self.rl2 = ResNetL2(encoder)

    def training_step(self, batch, _):
        return self.head(torch.ones(1, 2, dtype=self.head.weight.dtype)).sum()

    def validation_step(self, batch, _):
        self.rl2.update(batch[0], real=True)
        self.rl2.update(batch[0] // 2, real=False)
        self.log("val/rl2", self.rl2)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "bf16-true", "64-true"])
@pytest.mark.filterwarnings("ignore")
def test_logged_by_a_trainer_in_every_precision(encoder, tmp_path, precision):
    images = random_images(8)
    loader = DataLoader(TensorDataset(images), batch_size=4)
    model = Model(encoder)
    trainer = lightning.Trainer(
        max_epochs=2,
        accelerator="cpu",
        precision=precision,
        logger=False,
        default_root_dir=tmp_path,
        enable_progress_bar=False,
    )
    trainer.fit(model, loader, loader)
    assert trainer.callback_metrics["val/rl2"] == resnet_l2(encoder(images), encoder(images // 2))
    assert len(trainer.optimizers[0].param_groups[0]["params"]) == 2
    checkpoint = torch.load(trainer.checkpoint_callback.best_model_path, weights_only=False)
    assert list(checkpoint["state_dict"]) == ["head.weight", "head.bias"]
