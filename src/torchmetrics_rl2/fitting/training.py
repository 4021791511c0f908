"""Maximum likelihood of a flow on features, with Lightning."""

import signal
import warnings
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from torch import Tensor
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from torchmetrics_rl2.fitting.settings import FitSettings, Machine
from torchmetrics_rl2.images.loading import reader_faults
from torchmetrics_rl2.networks.flow import RealNVP
from torchmetrics_rl2.rank_zero import rank_zero_only
from torchmetrics_rl2.runtime import Progress

__all__ = ["FlowTraining", "run_trainer", "train_flow"]


class FlowTraining(LightningModule):
    """Maximum likelihood of features; the held-out likelihood is logged as ``held_out``, in nats a patch."""

    def __init__(self, flow: RealNVP, fit: Tensor, stop: Tensor, settings: FitSettings) -> None:
        super().__init__()
        self.flow = flow
        self.fit_features, self.stop_features = fit, stop
        self.settings = settings

    def train_dataloader(self) -> DataLoader[Any]:
        """Every rank its share, in an order that seed and epoch decide; nothing is padded."""
        data = TensorDataset(self.fit_features)
        world = self.trainer.world_size
        sampler: DistributedSampler[Any] = DistributedSampler(
            data, world, self.global_rank, seed=self.settings.seed, drop_last=True
        )
        return DataLoader(data, max(1, self.settings.batch_size // world), sampler=sampler)

    def val_dataloader(self) -> DataLoader[Any]:
        """All held-out features, on every rank, so that all ranks stop together."""
        return DataLoader(TensorDataset(self.stop_features), len(self.stop_features))

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        """Mean negative log-likelihood of a feature."""
        return -self.flow.log_prob(batch[0]).mean() / batch[0].shape[1]

    def validation_step(self, batch: list[Tensor], _: int) -> None:
        """Log the mean held-out log-likelihood."""
        self.log("held_out", self.flow.log_prob(batch[0]).mean(), sync_dist=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW over the couplings."""
        couplings = self.flow.couplings.parameters()
        return torch.optim.AdamW(couplings, lr=self.settings.learning_rate, weight_decay=self.settings.weight_decay)


class _Progress(Callback):
    def __init__(self, report: Progress, epochs: int) -> None:
        self.report, self.epochs = report, epochs

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._tell(trainer, trainer.current_epoch + 1, self.epochs)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._tell(trainer, trainer.current_epoch, trainer.current_epoch)

    def _tell(self, trainer: Trainer, epoch: int, epochs: int) -> None:
        held_out = float(trainer.callback_metrics["held_out"])
        best = max([held_out, *(float(c.best_score) for c in trainer.early_stopping_callbacks)])
        self.report(f"flow, held-out {held_out:.1f}, best {best:.1f} nats", epoch, epochs, 0)


def train_flow(
    module: FlowTraining,
    gaussian: float,
    run: Path,
    machine: Machine,
    progress: Progress | None,
) -> tuple[float, int]:
    """Train the couplings; leaves the best of them in the module, or none if none beat the linear layer alone."""
    untrained = {key: value.clone() for key, value in module.flow.state_dict().items()}
    checkpoint = ModelCheckpoint(run, "best", "held_out", mode="max", save_last=True, enable_version_counter=False)
    settings = module.settings
    callbacks: list[Callback] = [EarlyStopping("held_out", mode="max", patience=settings.patience), checkpoint]
    if progress:
        callbacks.append(_Progress(progress, settings.max_epochs))
    trainer = run_trainer(module, callbacks, run / "last.ckpt", settings.max_epochs, machine)
    best = checkpoint.best_model_score
    if best is None or not float(best) > gaussian:
        module.flow.load_state_dict(untrained)
        return gaussian, trainer.current_epoch
    state = torch.load(checkpoint.best_model_path, map_location="cpu", weights_only=True)["state_dict"]
    module.load_state_dict(state)
    return float(best), trainer.current_epoch


def run_trainer(
    module: LightningModule,
    callbacks: list[Callback],
    last: Path,
    epochs: int,
    machine: Machine,
    **options: Any,
) -> Trainer:
    """Train a module, which is left on the CPU.

    Args:
        module: What to train.
        callbacks: Of the Trainer.
        last: The checkpoint to go on from, if it exists.
        epochs: Epochs, at most.
        machine: Accelerator, devices and nodes.
        options: More of the Trainer.

    Raises:
        KeyboardInterrupt: On Ctrl-C.
        RL2Error: If a process that reads fails.

    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*number of training batches.*")
        warnings.filterwarnings("ignore", message=".*exists and is not empty.*")
        warnings.filterwarnings("ignore", message=".*in eval mode at the start.*")
        trainer = Trainer(
            accelerator=machine.accelerator,
            devices=machine.devices,
            num_nodes=machine.num_nodes,
            max_epochs=epochs,
            callbacks=callbacks,
            gradient_clip_val=1.0,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            num_sanity_val_steps=0,
            **options,
        )
        if trainer.world_size == 1:  # as which it writes, whatever RANK of the environment is for
            setattr(rank_zero_only, "rank", 0)  # noqa: B010
        handler = signal.getsignal(signal.SIGINT)
        try:
            with reader_faults():
                trainer.fit(module, ckpt_path=last if last.exists() else None)
        except SystemExit as stop:
            # How Lightning ends a run after Ctrl-C; it leaves the signal ignored.
            signal.signal(signal.SIGINT, handler)
            raise KeyboardInterrupt from stop
    trainer.strategy.barrier()
    module.cpu()
    return trainer
