import copy
import json

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.strategies import DDPStrategy
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, TensorDataset

from tests.conftest import Moments, random_images
from tests.fixtures import processes  # noqa: F401, what it preloads
from torchmetrics_rl2 import ResNetL2
from torchmetrics_rl2.encoder.sharing import network_of
from torchmetrics_rl2.functional import resnet_l2


class Model(lightning.LightningModule):
    def __init__(self, encoder, folder=None, **options):
        super().__init__()
        self.head = nn.Linear(2, 1)
        self.rl2 = ResNetL2(encoder, **options)
        self.folder = folder

    def training_step(self, batch, _):
        return self.head(torch.ones(1, 2, dtype=self.head.weight.dtype)).sum()

    def validation_step(self, batch, _):
        self.rl2.update(batch[0], real=True)
        self.rl2.update(batch[0] // 2, real=False)
        self.log("val/rl2", self.rl2)

    def on_validation_epoch_end(self):
        if self.folder:
            seen = {"value": self.rl2.compute().item(), "result": self.rl2.result().to_dict()}
            with open(f"{self.folder}/{self.global_rank}-{self.current_epoch}.json", "w") as file:
                json.dump(seen, file)

    def val_dataloader(self):
        # Every rank its own images, none of them twice: a DistributedSampler would repeat some.
        return DataLoader(DATA, batch_size=4, sampler=range(self.global_rank, len(DATA), self.trainer.world_size))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


DATA = TensorDataset(random_images(9))
TRAIN = DataLoader(TensorDataset(torch.zeros(4)), batch_size=2)
QUIET = {"logger": False, "accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False}


def expected(encoder, images=DATA.tensors[0]):
    return resnet_l2(encoder(images), encoder(images // 2))


def trainer(tmp_path, **options):
    return lightning.Trainer(**{"default_root_dir": tmp_path, "max_epochs": 2, **QUIET, **options})


@pytest.mark.parametrize("precision", ["16-true", "bf16-mixed", "64-true"])
@pytest.mark.filterwarnings("ignore")
def test_logged_by_a_trainer_in_every_precision(encoder, tmp_path, precision):
    model = Model(encoder)
    fitted = trainer(tmp_path, precision=precision)
    fitted.fit(model, TRAIN)
    assert fitted.callback_metrics["val/rl2"] == expected(encoder)
    assert len(fitted.optimizers[0].param_groups[0]["params"]) == 2
    checkpoint = torch.load(fitted.checkpoint_callback.best_model_path, weights_only=False)
    assert list(checkpoint["state_dict"]) == ["head.weight", "head.bias"]


@pytest.mark.filterwarnings("ignore")
def test_built_by_the_trainer_in_its_precision(weights_file, encoder, tmp_path):
    fitted = trainer(tmp_path, precision="bf16-true")
    with fitted.init_module():
        model = Model(weights_file)
    fitted.fit(model, TRAIN)
    assert model.head.weight.dtype == torch.bfloat16
    assert fitted.callback_metrics["val/rl2"] == expected(encoder)


@pytest.mark.filterwarnings("ignore")
def test_every_epoch_starts_anew_and_the_sanity_check_leaves_nothing(encoder, tmp_path):
    trainer(tmp_path, max_epochs=3, num_sanity_val_steps=2).fit(Model(encoder, tmp_path, uncertainty=True), TRAIN)
    for epoch in range(3):
        seen = json.loads((tmp_path / f"0-{epoch}.json").read_text())
        assert (seen["result"]["n_real"], seen["result"]["n_fake"]) == (9, 9)
        assert seen["value"] == expected(encoder).item()
        assert seen["result"]["interval"][0] < seen["result"]["debiased"] < seen["result"]["interval"][1]


class FirstEpochOnly(Model):
    """Gives real images once, and keeps them."""

    def validation_step(self, batch, _):
        if self.current_epoch == 0 and not self.trainer.sanity_checking:
            self.rl2.update(batch[0], real=True)
        self.rl2.update(batch[0] // 2, real=False)
        self.log("val/rl2", self.rl2)


@pytest.mark.filterwarnings("ignore")
def test_kept_reals_serve_all_epochs(encoder, tmp_path):
    trainer(tmp_path, max_epochs=3).fit(FirstEpochOnly(encoder, tmp_path, reset_real_features=False), TRAIN)
    for epoch in range(3):
        seen = json.loads((tmp_path / f"0-{epoch}.json").read_text())
        assert (seen["result"]["n_real"], seen["result"]["n_fake"]) == (9, 9)
        assert seen["value"] == expected(encoder).item()


class TwoLoaders(Model):
    def __init__(self, encoder):
        super().__init__(encoder)
        self.metrics = nn.ModuleList([ResNetL2(encoder), ResNetL2(encoder)])

    def validation_step(self, batch, _, dataloader_idx=0):
        metric = self.metrics[dataloader_idx]
        metric.update(batch[0], real=True)
        metric.update(batch[0] // (2 + dataloader_idx), real=False)
        self.log("val/rl2", metric)

    def val_dataloader(self):
        return [DataLoader(DATA, batch_size=4), DataLoader(DATA, batch_size=2)]


@pytest.mark.filterwarnings("ignore")
def test_two_dataloaders_have_a_metric_each(encoder, tmp_path):
    fitted = trainer(tmp_path)
    fitted.fit(TwoLoaders(encoder), TRAIN)
    images = DATA.tensors[0]
    for i in range(2):
        value = fitted.callback_metrics[f"val/rl2/dataloader_idx_{i}"]
        torch.testing.assert_close(value, resnet_l2(encoder(images), encoder(images // (2 + i))), rtol=1e-5, atol=0)


class InTraining(Model):
    def training_step(self, batch, batch_idx):
        images = random_images(4, seed=batch_idx)
        self.rl2(images, torch.arange(4) < 2)
        self.log("train/rl2", self.rl2, on_step=True, on_epoch=True)
        return super().training_step(batch, batch_idx)

    validation_step = None


@pytest.mark.filterwarnings("ignore")
def test_by_step_and_by_epoch_in_training(encoder, tmp_path):
    fitted = trainer(tmp_path, max_epochs=1)
    fitted.fit(InTraining(encoder), TRAIN)
    z = [encoder(random_images(4, seed=seed)) for seed in range(2)]
    last, whole = resnet_l2(z[1][:2], z[1][2:]), resnet_l2(torch.cat([v[:2] for v in z]), torch.cat([v[2:] for v in z]))
    torch.testing.assert_close(fitted.callback_metrics["train/rl2_step"], last, rtol=1e-5, atol=0)
    torch.testing.assert_close(fitted.callback_metrics["train/rl2_epoch"], whole, rtol=1e-5, atol=0)


@pytest.mark.filterwarnings("ignore")
def test_resuming_goes_on_and_refuses_other_weights(encoder, other_weights, tmp_path):
    kept = ModelCheckpoint(tmp_path, monitor="val/rl2", save_last=True)
    trainer(tmp_path, max_epochs=1, callbacks=[kept]).fit(Model(encoder), TRAIN)
    assert kept.best_model_score == expected(encoder)
    resumed = trainer(tmp_path, max_epochs=2)
    resumed.fit(Model(encoder), TRAIN, ckpt_path=kept.last_model_path)
    assert resumed.current_epoch == 2
    with pytest.raises(RuntimeError, match=r"rl2\.encoder has the weights random@1.*Give the metric the same weights"):
        trainer(tmp_path).fit(Model(other_weights), TRAIN, ckpt_path=kept.last_model_path)


class Old(Model):
    """The model before someone added the metric."""

    def __init__(self):
        super().__init__(Moments())
        del self.rl2

    validation_step = None


@pytest.mark.filterwarnings("ignore")
def test_checkpoints_older_than_the_metric_are_resumed(encoder, tmp_path):
    fitted = trainer(tmp_path, max_epochs=1)
    fitted.fit(Old(), TRAIN)
    resumed = trainer(tmp_path, max_epochs=2)
    resumed.fit(Model(encoder), TRAIN, ckpt_path=fitted.checkpoint_callback.best_model_path)
    assert resumed.callback_metrics["val/rl2"] == expected(encoder)


class EMA(Callback):
    def on_fit_start(self, trainer, pl_module):
        self.averaged = AveragedModel(pl_module, multi_avg_fn=get_ema_multi_avg_fn(), use_buffers=True)

    def on_train_batch_end(self, trainer, pl_module, *_):
        self.averaged.update_parameters(pl_module)


@pytest.mark.filterwarnings("ignore")
def test_an_average_of_the_model_has_no_part_of_the_network(encoder, tmp_path):
    before = copy.deepcopy(encoder.state_dict())
    ema = EMA()
    trainer(tmp_path, callbacks=[ema]).fit(Model(encoder), TRAIN)
    assert not any("rl2" in name for name in ema.averaged.state_dict())
    assert network_of(ema.averaged.module.rl2.encoder) is encoder
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())


class TwoNetworks(Model):
    """Measures with weights, and with a module that could be trained: FID with such a module dies of DDP."""

    def __init__(self, encoder, folder):
        super().__init__(encoder, folder, uncertainty=True)
        self.other = ResNetL2(Moments(), uncertainty=True)

    def validation_step(self, batch, batch_idx):
        super().validation_step(batch, batch_idx)
        self.other.update(batch[0], real=True)
        self.other.update(batch[0] // 2, real=False)
        self.log("val/other", self.other)


@pytest.mark.filterwarnings("ignore")
def test_two_processes_log_what_one_does(encoder, tmp_path):
    """Five and four images a process."""
    strategy = DDPStrategy(start_method="forkserver")
    fitted = trainer(tmp_path, devices=2, strategy=strategy, use_distributed_sampler=False, sync_batchnorm=True)
    fitted.fit(TwoNetworks(encoder, str(tmp_path)), TRAIN)
    for name, network in (("val/rl2", encoder), ("val/other", Moments().eval())):
        torch.testing.assert_close(fitted.callback_metrics[name], expected(network).detach(), rtol=1e-5, atol=0)
    for epoch in range(2):
        ranks = [json.loads((tmp_path / f"{rank}-{epoch}.json").read_text()) for rank in range(2)]
        assert ranks[0] == ranks[1]
        assert ranks[0]["result"]["n_real"] == 9
        assert ranks[0]["result"]["interval"] is not None
