import csv
import importlib
import json
import sys

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.strategies import DDPStrategy
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import MetricCollection

from tests.conftest import random_images
from tests.fixtures import processes  # noqa: F401, what it preloads
from torchmetrics_rl2 import ResNetL2, RL2Error
from torchmetrics_rl2.callbacks import ResNetL2Monitor, monitor
from torchmetrics_rl2.explaining.images import image_shares

REAL = TensorDataset(random_images(13))
TRAIN = DataLoader(TensorDataset(torch.zeros(4)), batch_size=2)
QUIET = {"accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False}

pytestmark = pytest.mark.filterwarnings("ignore")


def generated(real):
    """Some of them are darker than others."""
    return torch.where(real[:, :1, :1, :1] < 64, real // 8, real // 2)


class Model(lightning.LightningModule):
    def __init__(self, encoder, **options):
        super().__init__()
        self.head = nn.Linear(2, 1)
        self.rl2 = ResNetL2(encoder, uncertainty=True, **options)

    def training_step(self, batch, _):
        return self.head(torch.ones(1, 2)).sum()

    def validation_step(self, batch, _):
        fake = generated(batch[0])
        self.rl2.update(batch[0], real=True)
        self.rl2.update(fake, real=False)
        self.log("val/rl2", self.rl2)
        return {"fake": fake}

    def val_dataloader(self):
        return DataLoader(REAL, batch_size=3, sampler=range(self.global_rank, len(REAL), self.trainer.world_size))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer(folder, *callbacks, loggers=None, **options):
    loggers = [TensorBoardLogger(folder, name=None), CSVLogger(folder, name="csv")] if loggers is None else loggers
    options = {"max_epochs": 2, "default_root_dir": folder, "enable_checkpointing": False, **QUIET, **options}
    return lightning.Trainer(callbacks=[*callbacks], logger=loggers, log_every_n_steps=1, **options)


def events(folder):
    return EventAccumulator(str(folder / "version_0"), size_guidance={"tensors": 0, "images": 0}).Reload()


def texts(found):
    return [event.tensor_proto.string_val[0].decode() for event in found.Tensors("rl2/cause/text_summary")]


@pytest.fixture
def drawn(monkeypatch):
    """The images that are drawn, an epoch each, and what is said of them."""
    calls = []
    draw = monitor.draw_images
    monkeypatch.setattr(monitor, "draw_images", lambda *call: calls.append(call) or draw(*call))
    return calls


def expected(encoder):
    metric = ResNetL2(encoder, uncertainty=True)
    metric.update(REAL.tensors[0], real=True)
    metric.update(generated(REAL.tensors[0]), real=False)
    return metric.result()


def test_numbers_reach_all_loggers_and_pictures_those_that_show_them(encoder_of_kinds, tmp_path):
    best = ModelCheckpoint(tmp_path, monitor="rl2/look")
    fitted = trainer(tmp_path, ResNetL2Monitor(), best, enable_checkpointing=True)
    fitted.fit(Model(encoder_of_kinds), TRAIN)
    result, found = expected(encoder_of_kinds), events(tmp_path)
    scalars = result.scalars("rl2/")
    assert {"rl2/rl2", "rl2/content", "rl2/look_low"} <= set(scalars)
    for name, value in scalars.items():
        assert fitted.callback_metrics[name].item() == pytest.approx(value, rel=1e-5)
        assert [(event.step, event.value) for event in found.Scalars(name)] == [
            (step, pytest.approx(value, rel=1e-5)) for step in (1, 3)
        ]
    assert best.best_model_score.item() == pytest.approx(result.look.value, rel=1e-5)
    rows = [*csv.DictReader((tmp_path / "csv" / "version_0" / "metrics.csv").open())]
    assert float(rows[-1]["rl2/content"]) == pytest.approx(result.content.value, rel=1e-5)
    for name in ("rl2/plot", "rl2/worst_images"):
        assert [(event.step, event.width > 300) for event in found.Images(name)] == [(1, True), (3, True)]
    assert (
        texts(found)
        == ["No damage is named: kinds@1 has no signatures of damage; 'rl2 fit' makes weights that have"] * 2
    )


class OfSlides(Model):
    """Patches of five slides, and generated ones that are each of their own noise."""

    def __init__(self, encoder):
        super().__init__(encoder)
        self.rl2 = ResNetL2(encoder, groups=True)

    def validation_step(self, batch, batch_idx):
        real, slides = batch
        fake = generated(real)
        self.rl2.update(real, real=True, groups=slides)
        self.rl2.update(fake, real=False, groups=[f"{batch_idx} {i}" for i in range(len(fake))])
        self.log("val/rl2", self.rl2)
        return {"fake": fake}

    def val_dataloader(self):
        return DataLoader([(image, f"slide {i % 5}") for i, (image,) in enumerate(REAL)], batch_size=3)


class Conditional(Model):
    """A generator that is asked for two classes."""

    def __init__(self, encoder):
        super().__init__(encoder)
        self.rl2 = ResNetL2(encoder, uncertainty=True, classes=True)

    def validation_step(self, batch, _):
        real, labels = batch
        fake = generated(real)
        self.rl2.update(real, real=True, classes=labels)
        self.rl2.update(fake, real=False, classes=labels)
        self.log("val/rl2", self.rl2)
        return {"fake": fake}

    def val_dataloader(self):
        return DataLoader([(image, "odd" if i % 2 else "even") for i, (image,) in enumerate(REAL)], batch_size=3)


def test_each_class_is_logged_by_its_name(encoder_of_kinds, tmp_path):
    best = ModelCheckpoint(tmp_path, monitor="rl2/odd/debiased")
    fitted = trainer(tmp_path, ResNetL2Monitor(), best, enable_checkpointing=True)
    fitted.fit(Conditional(encoder_of_kinds), TRAIN)
    images, metric = REAL.tensors[0], ResNetL2(encoder_of_kinds, uncertainty=True, classes=True)
    for real, side in ((True, images), (False, generated(images))):
        metric.update(side, real=real, classes=["odd" if i % 2 else "even" for i in range(13)])
    result, found = metric.result(), events(tmp_path)
    for one in result.strata:
        low, high = one.interval
        for name, number in (("rl2", one.value), ("debiased", one.debiased), ("rl2_low", low), ("rl2_high", high)):
            logged = [event.value for event in found.Scalars(f"rl2/{one.name}/{name}")]
            assert logged == pytest.approx([number] * 2, rel=1e-4)
    assert best.best_model_score.item() == pytest.approx(result.strata[1].debiased, rel=1e-4)


def test_slides_as_units_have_a_p_value_in_the_logger(encoder_of_kinds, tmp_path):
    fitted = trainer(tmp_path, ResNetL2Monitor(), loggers=[CSVLogger(tmp_path)])
    fitted.validate(OfSlides(encoder_of_kinds))
    images, metric = REAL.tensors[0], ResNetL2(encoder_of_kinds, groups=True)
    metric.update(images, real=True, groups=[f"slide {i % 5}" for i in range(13)])
    metric.update(generated(images), real=False, groups=range(13))
    result = metric.result()
    assert (result.groups_real, result.groups_fake) == (5, 13)
    for name in ("p_value", "look_p_value", "rl2_low", "rl2_high"):
        assert fitted.callback_metrics[f"rl2/{name}"].item() == pytest.approx(result.scalars()[name], rel=1e-4)


def test_the_worst_images_are_those_with_the_largest_shares(encoder, tmp_path, drawn):
    trainer(tmp_path, ResNetL2Monitor(images=3), max_epochs=1).fit(Model(encoder), TRAIN)
    real, fake = REAL.tensors[0], generated(REAL.tensors[0])
    z_real, z_fake = encoder(real).double(), encoder(fake).double()
    shares = image_shares(z_fake, z_real.mean(0), z_fake.mean(0))
    worst = shares.argsort(descending=True)[:3]
    ((images, title),) = drawn
    assert [share for share, _ in images] == pytest.approx(shares[worst].tolist(), rel=1e-5)
    assert torch.equal(torch.stack([image for _, image in images]), fake[worst])
    assert title == "the 3 worst of 13 generated images; share of RL2, average: 1x"


def test_what_is_drawn_at_random_says_so(encoder, tmp_path, drawn):
    trainer(tmp_path, ResNetL2Monitor(keep=4), max_epochs=1).fit(Model(encoder), TRAIN)
    assert len(drawn[0][0]) == 4
    assert drawn[0][1] == "the 4 worst of 4 drawn at random of 13 generated images; share of RL2, average: 1x"


@pytest.mark.parametrize(("every", "steps"), [(1, [1, 3]), (2, [3])])
def test_only_each_nth_epoch_is_logged_and_the_sanity_check_is_not(encoder, tmp_path, every, steps):
    monitored = ResNetL2Monitor(every_n_epochs=every, prefix="val/of_")
    trainer(tmp_path, monitored, num_sanity_val_steps=2).fit(Model(encoder), TRAIN)
    found = events(tmp_path)
    assert [event.step for event in found.Images("val/of_plot")] == steps
    assert [event.step for event in found.Scalars("val/of_rl2")] == steps
    assert [event.step for event in found.Scalars("val/rl2")] == [1, 3]


def test_a_validation_by_itself_is_always_logged(encoder, tmp_path):
    fitted = trainer(tmp_path, ResNetL2Monitor(every_n_epochs=5))
    fitted.validate(Model(encoder))
    assert fitted.callback_metrics["rl2/rl2"].item() == pytest.approx(expected(encoder).value, rel=1e-5)
    assert [event.step for event in events(tmp_path).Images("rl2/worst_images")] == [0]


class Silent(Model):
    def validation_step(self, batch, i):
        super().validation_step(batch, i)


def test_a_model_that_returns_no_images_is_told_so_once(encoder, tmp_path):
    with pytest.warns(UserWarning, match=r"shows no images.*Return \{'fake': images\}") as warned:
        trainer(tmp_path, ResNetL2Monitor()).fit(Silent(encoder), TRAIN)
    assert sum("shows no images" in str(one.message) for one in warned) == 1
    assert "rl2/worst_images" not in events(tmp_path).Tags()["images"]
    assert "rl2/plot" in events(tmp_path).Tags()["images"]


@pytest.mark.parametrize("fake", [[1], torch.zeros(3, 8, 8)])
def test_what_is_no_batch_of_images_is_refused(encoder, tmp_path, fake):
    model = Model(encoder)
    model.validation_step = lambda batch, batch_idx: {"fake": fake}
    with pytest.raises(ValueError, match=r"expects color images \(N, 3, H, W\) as 'fake'"):
        trainer(tmp_path, ResNetL2Monitor()).fit(model, TRAIN)


def test_without_a_logger_that_shows_pictures_nothing_is_kept_or_drawn(encoder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setattr(monitor, "latents_of", None)
    fitted = trainer(tmp_path, ResNetL2Monitor(), loggers=[CSVLogger(tmp_path)])
    fitted.fit(Model(encoder), TRAIN)
    assert fitted.callback_metrics["rl2/rl2"].item() == pytest.approx(expected(encoder).value, rel=1e-5)
    with pytest.raises(RL2Error, match="Pictures need matplotlib"):
        trainer(tmp_path, ResNetL2Monitor()).fit(Model(encoder), TRAIN)


def test_nan_is_logged_and_does_not_stop_training(encoder, tmp_path):
    model = Model(encoder, normalize=True)
    images = torch.full((4, 3, 64, 64), torch.nan)

    def validation_step(batch, batch_idx):
        model.rl2.update(batch[0] / 255, real=True)
        model.rl2.update(images, real=False)
        return {"fake": images}

    model.validation_step = validation_step
    trainer(tmp_path, ResNetL2Monitor(), max_epochs=1).fit(model, TRAIN)
    assert events(tmp_path).Scalars("rl2/rl2")[0].value != events(tmp_path).Scalars("rl2/rl2")[0].value
    assert events(tmp_path).Tags()["images"] == ["rl2/plot"]


class Several(Model):
    """A collection whose metrics share their sums: only the first is updated."""

    def __init__(self, encoder):
        super().__init__(encoder)
        del self.rl2
        parts = {name: ResNetL2(encoder, part=name) for name in ("content", "look")}
        self.metrics = MetricCollection(parts, prefix="val/")

    def validation_step(self, batch, _):
        self.metrics.update(batch[0], real=True)
        self.metrics.update(generated(batch[0]), real=False)

    def on_validation_epoch_end(self):
        self.log_dict(self.metrics.compute())
        self.metrics.reset()


def test_one_of_several_is_named(encoder_of_kinds, tmp_path):
    fitted = trainer(tmp_path, ResNetL2Monitor("metrics.look", images=0))
    fitted.fit(Several(encoder_of_kinds), TRAIN)
    assert fitted.callback_metrics["rl2/rl2"].item() == pytest.approx(expected(encoder_of_kinds).value, rel=1e-5)
    for name, sentence in (
        (None, r"Several, which has 2: metrics\.content, metrics\.look\. Name one"),
        ("metrics.rl2", "got nothing"),
        ("rl2", "got nothing"),
        ("head", "got Linear"),
    ):
        with pytest.raises(RL2Error, match=sentence):
            trainer(tmp_path, ResNetL2Monitor(name)).fit(Several(encoder_of_kinds), TRAIN)


def test_a_model_without_the_metric_is_told_before_training(encoder, tmp_path):
    model = Model(encoder)
    del model.rl2
    with pytest.raises(RL2Error, match="Model, which has none"):
        trainer(tmp_path, ResNetL2Monitor()).fit(model, TRAIN)


def test_checkpoints_and_early_stopping_wait_for_an_epoch_that_is_logged(encoder_of_kinds, tmp_path):
    others = [ModelCheckpoint(tmp_path, monitor="rl2/rl2", every_n_epochs=2), EarlyStopping("rl2/rl2", strict=False)]
    fitted = trainer(tmp_path, ResNetL2Monitor(every_n_epochs=2), *others, loggers=[], enable_checkpointing=True)
    fitted.fit(Model(encoder_of_kinds), TRAIN)
    assert others[0].best_model_score == fitted.callback_metrics["rl2/rl2"]


@pytest.mark.parametrize("option", [{"every_n_epochs": 0}, {"keep": 0}, {"images": -1}])
def test_options_that_make_no_sense_are_refused(option):
    with pytest.raises(ValueError, match="ResNetL2Monitor expects every_n_epochs"):
        ResNetL2Monitor(**option)


@pytest.mark.slow
def test_two_processes_show_what_one_does(encoder_of_kinds, tmp_path):
    """Seven and six images a process."""
    for devices in (1, 2):
        strategy = DDPStrategy(start_method="forkserver") if devices == 2 else "auto"
        fitted = trainer(
            tmp_path / str(devices),
            ResNetL2Monitor(images=2),
            max_epochs=1,
            devices=devices,
            strategy=strategy,
            use_distributed_sampler=False,
        )
        fitted.fit(Model(encoder_of_kinds), TRAIN)
    one, two = (events(tmp_path / str(devices)) for devices in (1, 2))
    for name in expected(encoder_of_kinds).scalars("rl2/"):
        assert [event.value for event in two.Scalars(name)] == pytest.approx([one.Scalars(name)[0].value], rel=1e-5)
    for name in ("rl2/plot", "rl2/worst_images"):
        assert [e.encoded_image_string for e in two.Images(name)] == [e.encoded_image_string for e in one.Images(name)]
    assert texts(two) == texts(one)


def test_weights_and_biases_shows_the_same_offline(encoder, tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    logger = WandbLogger(save_dir=tmp_path, offline=True)
    trainer(tmp_path, ResNetL2Monitor(), loggers=[logger], max_epochs=1).fit(Model(encoder), TRAIN)
    summary = dict(logger.experiment.summary)
    wandb.finish()
    assert summary["rl2/rl2"] == pytest.approx(expected(encoder).value, rel=1e-5)
    (media,) = tmp_path.glob("wandb/offline-run-*/files/media")
    pictures = sorted(path.name.rpartition("_")[0].rpartition("_")[0] for path in media.glob("images/rl2/*.png"))
    assert pictures == ["plot", "worst_images"]
    (table,) = media.glob("table/rl2/cause_*.json")
    assert "has no signatures" in json.loads(table.read_text())["data"][0][0]


@pytest.mark.parametrize(("module", "name"), [("monitor", "ResNetL2Monitor"), ("checkpoint", "ResNetL2Checkpoint")])
def test_without_lightning_a_sentence_says_what_to_install(monkeypatch, module, name):
    monkeypatch.delitem(sys.modules, f"torchmetrics_rl2.callbacks.{module}", raising=False)
    monkeypatch.setitem(sys.modules, "lightning", None)
    monkeypatch.setitem(sys.modules, "lightning.pytorch", None)
    with pytest.raises(RL2Error, match=rf"{name} needs Lightning: pip install 'torchmetrics-rl2\[fit\]'"):
        importlib.import_module(f"torchmetrics_rl2.callbacks.{module}")
