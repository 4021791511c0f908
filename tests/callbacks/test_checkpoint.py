import csv
import logging
from pathlib import Path

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.strategies import DDPStrategy
from torch import Generator, nn
from torch.utils.data import DataLoader, TensorDataset

from tests.conftest import Moments
from tests.fixtures import processes  # noqa: F401, what it preloads
from torchmetrics_rl2 import ResNetL2, RL2Error
from torchmetrics_rl2.callbacks import ResNetL2Checkpoint, ResNetL2Monitor

QUIET = {"accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False}
IMPROVES = [60, 59, 10, 10.5]
"""How much darker than real ones the images of each validation are: only the third is better beyond chance."""

pytestmark = pytest.mark.filterwarnings("ignore")


def images(seed, darker=0.0, count=40):
    """Images of one color each."""
    colors = 150 + 8 * torch.randn(count, 3, 1, 1, generator=Generator().manual_seed(seed)) - darker
    return colors.clamp(0, 255).to(torch.uint8).expand(-1, -1, 8, 8)


REAL = images(1000)


class Model(lightning.LightningModule):
    """Counts its steps, so that a checkpoint tells of which validation it is."""

    def __init__(self, darker, **options):
        super().__init__()
        self.head = nn.Linear(2, 1)
        self.register_buffer("steps", torch.zeros(()))
        self.darker, self.validations = darker, 0
        self.rl2 = ResNetL2(Moments(), **(options or {"uncertainty": True}))

    def training_step(self, batch, _):
        self.steps += 1
        return self.head(torch.ones(1, 2)).sum()

    def generated(self):
        number = self.trainer.global_step // self.steps_between - 1
        return images(number, self.darker[number])

    @property
    def steps_between(self):
        return 2

    def validation_step(self, batch, _):
        (rows,) = batch
        self.rl2.update(REAL[rows], real=True)
        is_of_training = self.trainer.state.fn == "fit" and not self.trainer.sanity_checking
        fake = self.generated() if is_of_training else REAL
        self.rl2.update(fake[rows], real=False)
        self.log("val/rl2", self.rl2)

    def train_dataloader(self):
        return DataLoader(TensorDataset(torch.zeros(4)), batch_size=2)

    def val_dataloader(self):
        share = range(self.global_rank, len(REAL), self.trainer.world_size)
        return DataLoader(TensorDataset(torch.arange(len(REAL))), batch_size=16, sampler=share)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer(folder, *callbacks, **options):
    options = {"max_epochs": 4, "default_root_dir": folder, "logger": False, "log_every_n_steps": 1, **QUIET, **options}
    return lightning.Trainer(callbacks=[*callbacks], **options)


def debiased(number, darker):
    """RL2 of a validation, by the metric alone."""
    metric = ResNetL2(Moments(), uncertainty=True)
    metric.update(REAL, real=True)
    metric.update(images(number, darker[number]), real=False)
    return metric.result().debiased


def steps_of(path):
    return int(torch.load(path, weights_only=False)["state_dict"]["steps"])


def test_the_checkpoint_of_the_last_validation_that_was_better_is_kept_and_loads(tmp_path):
    keep = ResNetL2Checkpoint(dirpath=tmp_path / "kept")
    fitted = trainer(tmp_path, keep)
    fitted.fit(Model(IMPROVES))
    (file,) = (tmp_path / "kept").iterdir()
    assert file.name == "epoch=2-step=6.ckpt"
    assert Path(keep.best_model_path) == file
    assert steps_of(file) == 6
    assert keep.best_model_score.item() == pytest.approx(debiased(2, IMPROVES), rel=1e-5)
    model = Model(IMPROVES)
    fitted.validate(model, ckpt_path="best")
    assert model.steps == 6


def test_numbers_of_each_validation_reach_the_logger(tmp_path):
    fitted = trainer(tmp_path, ResNetL2Checkpoint(prefix="val/best_"), ResNetL2Monitor(), logger=CSVLogger(tmp_path))
    fitted.fit(Model(IMPROVES))
    (log,) = tmp_path.rglob("metrics.csv")
    rows = [row for row in csv.DictReader(log.open()) if row["val/best_debiased"]]
    assert [float(row["val/best_debiased"]) for row in rows] == [
        pytest.approx(debiased(i, IMPROVES), rel=1e-5) for i in range(4)
    ]
    assert [row["val/best_without_gain"] for row in rows] == ["0.0", "1.0", "0.0", "1.0"]
    assert [row["rl2/debiased"] for row in rows] == [row["val/best_debiased"] for row in rows]
    gains, detectable = ([row[f"val/best_{name}"] for row in rows] for name in ("gain", "detectable"))
    assert gains[0] == detectable[0] == ""
    for i, kept in ((1, 0), (2, 0), (3, 2)):
        expected = 1 - debiased(i, IMPROVES) ** 2 / debiased(kept, IMPROVES) ** 2
        assert float(gains[i]) == pytest.approx(expected, rel=1e-4)
        assert (float(gains[i]) > float(detectable[i]) > 0) == (i == 2)


def test_sentences_say_what_was_found_and_what_could_have_been(tmp_path, caplog):
    with caplog.at_level(logging.INFO, "lightning.pytorch.utilities.rank_zero"):
        trainer(tmp_path, ResNetL2Checkpoint(patience=1)).fit(Model([60, 10, 10.5, 10]))
    said = [line for line in caplog.messages if "RL2 of" in line or "ResNetL2" in line]
    assert said[0].endswith("This checkpoint is kept to begin with.")
    assert "below that of epoch 0, step 2, beyond chance: its square is 97" in said[1]
    assert f"RL2 of epoch 2, step 6, is {debiased(2, [0, 0, 10.5]):.1f}, not below that of epoch 1, step 4," in said[2]
    assert "beyond chance: its square is 5.64 % smaller;" in said[2]
    assert "smaller would have been found with 80 % power. The earlier checkpoint stays" in said[2]
    assert said[2].endswith("validations without a better one: 1.")
    assert said[3:] == ["ResNetL2Checkpoint stops the training: patience=1."]


def test_patience_counts_validations_in_a_row(tmp_path):
    fitted = trainer(tmp_path, ResNetL2Checkpoint(patience=2), max_epochs=8)
    fitted.fit(Model([60, 60, 10, 10, 10, 10, 10, 10]))
    assert fitted.current_epoch == 5


def test_only_validations_of_a_training_count(tmp_path):
    keep = ResNetL2Checkpoint()
    fitted = trainer(tmp_path, keep, num_sanity_val_steps=2)
    fitted.validate(Model(IMPROVES))
    assert keep.state_dict()["best_so_far"]["name"] is None
    fitted.fit(Model(IMPROVES))
    assert keep.state_dict()["best_so_far"]["comparisons"] == 3
    fitted.validate(Model(IMPROVES))
    assert keep.state_dict()["best_so_far"]["comparisons"] == 3
    quick = ResNetL2Checkpoint()
    trainer(tmp_path, quick, fast_dev_run=True).fit(Model([0] * 9))
    assert quick.state_dict()["best_so_far"]["name"] is None


class TwiceAnEpoch(Model):
    steps_between = 1


def test_a_validation_within_an_epoch_is_one_too(tmp_path):
    keep = ResNetL2Checkpoint(dirpath=tmp_path / "kept")
    trainer(tmp_path, keep, max_epochs=2, val_check_interval=0.5).fit(TwiceAnEpoch(IMPROVES))
    (file,) = (tmp_path / "kept").iterdir()
    assert (file.name, steps_of(file)) == ("epoch=1-step=3.ckpt", 3)


def test_a_training_that_is_resumed_ends_as_one_that_never_stopped(tmp_path):
    darker = [60, 10, 10.5, 10, 9.5]
    whole = ResNetL2Checkpoint(dirpath=tmp_path / "whole")
    trainer(tmp_path, whole, max_epochs=5).fit(Model(darker))
    first, last = ResNetL2Checkpoint(dirpath=tmp_path / "first"), ModelCheckpoint(tmp_path, filename="last")
    trainer(tmp_path, first, last, max_epochs=3).fit(Model(darker))
    # Lightning gives each run a folder of its own, and would then save the next validation in any case.
    second = ResNetL2Checkpoint(dirpath=tmp_path / "second")
    resumed = trainer(tmp_path, second, max_epochs=5)
    torch.load(last.best_model_path, weights_only=True)
    resumed.fit(Model(darker), ckpt_path=last.best_model_path)
    ended, expected = (one.state_dict()["best_so_far"] for one in (second, whole))
    units, of_whole = ended.pop("units"), expected.pop("units")
    assert ended == expected
    assert torch.equal(units["covariance"], of_whole["covariance"])
    assert not (tmp_path / "second").exists()
    assert second.best_model_path == first.best_model_path
    assert steps_of(second.best_model_path) == 4


def test_a_training_that_is_resumed_with_other_weights_is_refused(tmp_path):
    last = ModelCheckpoint(tmp_path, filename="last")
    trainer(tmp_path, ResNetL2Checkpoint(), last, max_epochs=1).fit(Model(IMPROVES))
    other = Model(IMPROVES)
    wider = nn.Sequential(Moments(), nn.Linear(3, 5))
    wider.num_features = 5
    other.rl2 = ResNetL2(wider, uncertainty=True)
    with pytest.raises(RL2Error, match=r"other weights \(no weights_id, 3 numbers\).*\(no weights_id, 5 numbers\)"):
        trainer(tmp_path, ResNetL2Checkpoint()).fit(other, ckpt_path=last.best_model_path)


class OfSlides(Model):
    def validation_step(self, batch, _):
        (rows,) = batch
        self.rl2.update(REAL[rows], real=True, groups=rows % 8)
        self.rl2.update(self.generated()[rows], real=False, groups=rows)
        self.log("val/rl2", self.rl2)


def test_slides_are_the_units(tmp_path):
    keep = ResNetL2Checkpoint()
    trainer(tmp_path, keep, num_sanity_val_steps=0).fit(OfSlides(IMPROVES, groups=True))
    assert keep.state_dict()["best_so_far"]["units"]["count"] == 40
    assert steps_of(keep.best_model_path) == 6


def test_nan_is_never_kept_and_training_goes_on(tmp_path):
    keep = ResNetL2Checkpoint(dirpath=tmp_path / "kept")

    class Broken(Model):
        def generated(self):
            made = super().generated().float() / 255
            return made * torch.nan if self.trainer.current_epoch in (0, 2) else made

        def validation_step(self, batch, _):
            (rows,) = batch
            self.rl2.update(REAL[rows] / 255, real=True)
            self.rl2.update(self.generated()[rows], real=False)
            self.log("val/rl2", self.rl2)

    model = Broken([5, 60, 5, 60], uncertainty=True, normalize=True)
    with pytest.warns(UserWarning, match=r"RL2 of epoch 2, step 6, is NaN.*compared with nothing, and not kept"):
        trainer(tmp_path, keep, num_sanity_val_steps=0).fit(model)
    assert [file.name for file in (tmp_path / "kept").iterdir()] == ["epoch=1-step=4.ckpt"]
    assert keep.state_dict()["best_so_far"]["comparisons"] == 1


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"debiased": True}, r"keeps sums alone\. Make it with groups=True"),
        ({"uncertainty": True, "part": "look"}, "RL2 as a whole, but got a metric with part='look'"),
    ],
)
def test_a_metric_that_does_not_do_is_refused_before_training(tmp_path, encoder_of_kinds, options, sentence):
    model = Model(IMPROVES)
    model.rl2 = ResNetL2(encoder_of_kinds, **options)
    with pytest.raises(RL2Error, match=sentence):
        trainer(tmp_path, ResNetL2Checkpoint(), num_sanity_val_steps=0).fit(model)
    assert model.steps == 0


def test_the_metric_has_to_be_the_only_one_or_named(tmp_path):
    model = Model(IMPROVES)
    model.other = ResNetL2(Moments(), uncertainty=True)
    with pytest.raises(RL2Error, match=r"has 2: rl2, other\. Name one, as in ResNetL2Checkpoint\('rl2'\)"):
        trainer(tmp_path, ResNetL2Checkpoint(), num_sanity_val_steps=0).fit(model)
    keep = ResNetL2Checkpoint("rl2")
    trainer(tmp_path, keep).fit(model)
    assert steps_of(keep.best_model_path) == 6


def test_fewer_than_four_images_a_side_are_refused(tmp_path):
    model = Model(IMPROVES)
    model.val_dataloader = lambda: DataLoader(TensorDataset(torch.arange(3)))
    with pytest.raises(RL2Error, match=r"at least 4 images a side in each validation, but got 3 of update"):
        trainer(tmp_path, ResNetL2Checkpoint()).fit(model)


def test_a_training_without_validation_is_told_that_nothing_is_kept(tmp_path):
    with pytest.warns(UserWarning, match="keeps no checkpoint"):
        trainer(tmp_path, ResNetL2Checkpoint(), limit_val_batches=0, max_epochs=1).fit(Model(IMPROVES))


@pytest.mark.parametrize("option", [{"level": 0}, {"level": 0.5}, {"planned": 0}, {"patience": 0}])
def test_options_that_make_no_sense_are_refused(option):
    with pytest.raises(ValueError, match="ResNetL2Checkpoint expects a level between 0 and 0.5"):
        ResNetL2Checkpoint(**option)


@pytest.mark.parametrize("option", ["monitor", "mode", "save_top_k", "every_n_epochs", "save_on_train_epoch_end"])
def test_options_of_model_checkpoint_that_decide_what_is_kept_are_refused(option):
    with pytest.raises(TypeError, match=option):
        ResNetL2Checkpoint(**{option: 1})


@pytest.mark.slow
def test_two_processes_keep_what_one_does(tmp_path):
    found = []
    for devices in (1, 2):
        keep = ResNetL2Checkpoint(dirpath=tmp_path / str(devices))
        strategy = DDPStrategy(start_method="forkserver") if devices == 2 else "auto"
        options = {"devices": devices, "strategy": strategy, "use_distributed_sampler": False}
        trainer(tmp_path, keep, num_sanity_val_steps=0, **options).fit(Model(IMPROVES))
        (file,) = (tmp_path / str(devices)).iterdir()
        ((_, state),) = torch.load(file, weights_only=False)["callbacks"].items()
        found.append((file.name, state["best_so_far"]))
    (name, one), (name_of_two, two) = found
    assert name == "epoch=2-step=6.ckpt"
    assert one["units"]["count"] == two["units"]["count"] == 40
    assert torch.allclose(one["units"]["covariance"], two["units"]["covariance"])
    assert (one["name"], one["comparisons"]) == ("epoch 2, step 6", 2)
    assert name_of_two == name
    assert one["spent"] == two["spent"]
