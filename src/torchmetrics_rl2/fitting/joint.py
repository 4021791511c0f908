"""Maximum likelihood of backbone and flow together, as in the RL2 paper, made well-posed."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader, DistributedSampler

from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.fitting.drawn_patches import DrawnPatches, by_size
from torchmetrics_rl2.fitting.guards import effective_rank, linear_probe
from torchmetrics_rl2.fitting.settings import FitSettings, JointSettings, Machine
from torchmetrics_rl2.fitting.split import Split
from torchmetrics_rl2.fitting.training import run_trainer
from torchmetrics_rl2.images.loading import one_thread
from torchmetrics_rl2.images.reader import ImageReader
from torchmetrics_rl2.networks.extractor import FeatureExtractor
from torchmetrics_rl2.networks.flow import RealNVP
from torchmetrics_rl2.pixels.handcrafted import handcrafted_statistics
from torchmetrics_rl2.rank_zero import is_rank_zero
from torchmetrics_rl2.runtime import Progress
from torchmetrics_rl2.weights.backbone import Backbone

__all__ = ["JointTraining", "train_joint"]

STEPS = 50  # of an epoch, at most, so that the guards look often where there are many images
MAX_HELD_OUT = 1000
MIN_HELD_OUT = 16


class JointTraining(LightningModule):
    r"""Maximum likelihood of backbone and flow together, with features standardized and two guards.

    .. math:: \max_{\theta, \phi} \; \mathrm{E} \log p_\phi(u), \qquad u = (f_\theta(x) - \mu_B) / \sigma_B

    The paper maximizes :math:`\log p_\phi(f_\theta(x))`, which has no maximum: features that shrink to a point are as
    likely as one likes, on held-out images too, so that stopping on the likelihood does not help. Here mean and sd are
    those of the batch, with their gradient, which makes scale and shift of a feature void; the scales of the couplings
    are bounded, and so is the likelihood. What is left to gain is that features repeat each other and forget the
    image. Therefore the effective rank of held-out features, and the R^2 with which they tell the fifteen hand-crafted
    statistics of their images, are measured after each epoch, and training stops, and what was before is kept, when one
    of them falls below its share of what it was. The batch norms inside the backbone keep their statistics, so that
    training sees the features that scoring sees.

    Args:
        extractor: From images to features; its backbone is trained.
        fit: Files of images to train on.
        stop: Files of held-out images.
        reader: How images are read, cut and scaled; its batch size is that of training, over all devices together.
        flow: How the flow is built and trained; its seed is also that of order, tiles and flips.
        settings: How the backbone is trained, and when that stops.

    Raises:
        RL2Error: If there are too few held-out images, they cannot be read, or the probe finds nothing in the features.

    """

    def __init__(
        self,
        extractor: FeatureExtractor,
        fit: Sequence[Path],
        stop: Sequence[Path],
        reader: ImageReader,
        flow: FitSettings,
        settings: JointSettings,
        progress: Progress | None = None,
    ) -> None:
        super().__init__()
        self.extractor, self.fit_files, self.stop_files = extractor, fit, stop
        self.reader, self.flow_settings, self.settings, self.progress = reader, flow, settings, progress
        if not flow.layers:
            raise RL2Error("Joint training needs a flow of at least one coupling, but got 0 layers.")
        # Without data its linear layer is the identity, as it should be behind standardized features.
        self.flow = RealNVP(extractor.num_features, flow.layers, flow.hidden, flow.scale_bound, "diagonal", flow.seed)
        # A greater eps would make small features likely ones.
        self.standardize = nn.BatchNorm1d(extractor.num_features, eps=1e-10, momentum=0.3, affine=False)
        self.to(extractor.device)
        features, self.targets = self._held_out()
        if len(features) < MIN_HELD_OUT:
            raise RL2Error(
                f"Joint training is stopped by held-out patches, and needs {MIN_HELD_OUT} of them, but got "
                f"{len(features)}. Give ten times as many images, or leave the backbone as it is."
            )
        self.standardize.running_mean, self.standardize.running_var = features.mean(0), features.var(0)
        self.trace = [self._measure(features)]
        if not self.trace[0]["probe"] > 0:
            raise RL2Error(
                f"The features of the backbone tell nothing of the {len(features)} held-out images (R^2 of the linear "
                f"probe {self.trace[0]['probe']:.3f}), so that joint training could not see what it destroys. Give "
                "more images, or another backbone."
            )
        extractor.backbone.requires_grad_(True)
        self.kept, self.kept_epochs, self.broken = self._backbone(), 0, ""

    def train_dataloader(self) -> DataLoader[Any]:
        """Every rank its share, in an order, with tiles and flips that seed and epoch decide."""
        world = self.trainer.world_size
        data = DrawnPatches(self.fit_files, self.reader, self.flow_settings.seed, self.current_epoch)
        sampler: DistributedSampler[Any] = DistributedSampler(
            data, world, self.global_rank, seed=self.flow_settings.seed, drop_last=len(data) >= world
        )
        if len(sampler) < 2:
            raise RL2Error(
                f"Joint training needs 2 patches to fit for every device, but got {len(data)} for {world} devices. "
                "Give more images, or use fewer devices."
            )
        sampler.set_epoch(self.current_epoch)
        batch = max(2, self.reader.batch_size // world)
        # The statistics of a remnant would be poor.
        drop_last = len(sampler) >= batch
        return DataLoader(
            data,
            batch,
            sampler=sampler,
            num_workers=self.reader.workers,
            collate_fn=by_size,
            drop_last=drop_last,
            worker_init_fn=one_thread,
        )

    def training_step(self, batch: list[np.ndarray[Any, Any]], _: int) -> Tensor:
        """Mean negative log-likelihood of a standardized feature."""
        sizes = [torch.from_numpy(images).to(self.device) for images in batch]
        features = torch.cat([self.extractor.with_gradients(images) for images in sizes])
        if self.progress:
            self.progress(self._words(), self.current_epoch, self.settings.max_epochs, len(features))
        return -self.flow.log_prob(self.standardize(features)).mean() / features.shape[1]

    def on_train_start(self) -> None:
        """Stop at once where the run that is resumed had been stopped."""
        self.trainer.should_stop = bool(self.broken)

    def on_train_epoch_end(self) -> None:
        """Measure, log, and either keep the backbone or stop."""
        row = self._measure(self._held_out()[0])
        self.trace.append(row)
        self.log_dict(row)
        shares = {"effective_rank": self.settings.rank_share, "probe": self.settings.probe_share}
        broken = [name for name, share in shares.items() if not row[name] >= share * self.trace[0][name]]
        # All ranks stop together, also if they round differently.
        if self.trainer.strategy.reduce_boolean_decision(bool(broken), all=False):
            self.broken = (broken or ["effective_rank"])[0]
            self.trainer.should_stop = True
        else:
            self.kept, self.kept_epochs = self._backbone(), self.current_epoch + 1
        if self.progress:
            self.progress(self._words(), self.current_epoch + 1, self.settings.max_epochs, 0)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what is kept."""
        checkpoint["joint"] = (self.trace, self.kept, self.kept_epochs, self.broken)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take it back."""
        self.trace, self.kept, self.kept_epochs, self.broken = checkpoint["joint"]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW over backbone and couplings."""
        rate = self.flow_settings.learning_rate
        backbone: dict[str, Any] = {
            "params": list(self.extractor.backbone.parameters()),
            "lr": self.settings.learning_rate,
        }
        couplings = {"params": list(self.flow.couplings.parameters())}
        return torch.optim.AdamW([backbone, couplings], lr=rate, weight_decay=self.flow_settings.weight_decay)

    def _held_out(self) -> tuple[Tensor, Tensor]:
        """Features of held-out patches, and their hand-crafted statistics."""
        features, targets, count = [], [], 0
        for batch in self.reader.read(self.stop_files):
            features.append(self.extractor(batch.images.to(self.extractor.device)))
            targets.append(handcrafted_statistics(batch.images.float() / 255))
            count += len(batch.images)
            if count >= MAX_HELD_OUT:
                break
        if not features:
            return torch.empty(0, self.extractor.num_features), torch.empty(0, 15)
        return torch.cat(features), torch.cat(targets)

    @torch.no_grad()
    def _measure(self, features: Tensor) -> dict[str, float]:
        mean, var = self.standardize.running_mean, self.standardize.running_var
        assert mean is not None
        assert var is not None
        likelihood = self.flow.log_prob((features - mean) / (var + self.standardize.eps).sqrt()).mean()
        rank, probe = effective_rank(features), linear_probe(features, self.targets)
        return {"held_out": float(likelihood), "effective_rank": rank, "probe": probe}

    def _backbone(self) -> dict[str, Tensor]:
        return {key: value.to("cpu", copy=True) for key, value in self.extractor.backbone.state_dict().items()}

    def _words(self) -> str:
        (first, last) = self.trace[0], self.trace[-1]
        return (
            f"backbone, effective rank {last['effective_rank']:.1f} of {first['effective_rank']:.1f}, probe "
            f"{last['probe']:.2f} of {first['probe']:.2f}, held-out {last['held_out']:.1f} nats"
        )


def train_joint(
    backbone: Backbone,
    extractor: FeatureExtractor,
    split: Split,
    reader: ImageReader,
    flow: FitSettings,
    settings: JointSettings,
    *,
    run: Path,
    machine: Machine,
    progress: Progress | None,
) -> tuple[Backbone, dict[str, Any]]:
    """Train the backbone together with a flow, see :class:`JointTraining`, up to where a guard stops it.

    The flow is let go: one is fitted to the features of the new backbone afterwards, as to those of any other.

    Args:
        backbone: The backbone to start from.
        extractor: The same at work; it is left with the new backbone.
        split: Files to train on and held-out files.
        reader: How images are read, cut and scaled, and how many are a batch.
        flow: How the flow is built and trained.
        settings: How the backbone is trained, and when that stops.
        run: The folder that keeps checkpoints.
        machine: Where to train.
        progress: Called with what is being done, how much is done, how much there is, and images read since.

    Returns:
        The backbone with its new weights, those of the last epoch which both guards let pass, or its old one if they
        let none pass; and for the card, settings, the number of epochs kept, what stopped them, and held-out
        log-likelihood, effective rank and R^2 of the probe, at the start and after each epoch.

    Raises:
        RL2Error: As :class:`JointTraining` does.
        KeyboardInterrupt: On Ctrl-C; the run can be resumed.

    """
    trained = run / "backbone.pt"
    if trained.exists():
        state, history = torch.load(trained, weights_only=True)
    else:
        device = extractor.device
        extractor.load_backbone(backbone.state_dict, trainable=True)
        module = JointTraining(extractor, split.fit, split.stop, reader, flow, settings, progress)
        checkpoint = ModelCheckpoint(run, "joint", save_on_train_epoch_end=True, enable_version_counter=False)
        run_trainer(
            module,
            [checkpoint],
            run / "joint.ckpt",
            settings.max_epochs,
            machine,
            limit_train_batches=STEPS,
            reload_dataloaders_every_n_epochs=1,
        )
        extractor.to(device).requires_grad_(False)
        # As the backbone is stored: what is fitted and measured is what the file will hold.
        state = {key: value.to(backbone.state_dict[key].dtype) for key, value in module.kept.items()}
        history = {
            "settings": asdict(settings),
            "batch_size": reader.batch_size,
            "epochs": module.kept_epochs,
            "stopped_by": module.broken or "epochs",
            "trace": module.trace,
        }
        if is_rank_zero():
            part = trained.with_suffix(".part.pt")
            torch.save((state, history), part)
            part.replace(trained)
    extractor.load_backbone(state)
    return replace(backbone, state_dict=state), history
