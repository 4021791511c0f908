"""Fit a flow to real patches: features of a frozen trunk, computed once, then maximum likelihood with Lightning."""

import hashlib
import json
import os
import shutil
import signal
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning_utilities.core.rank_zero import rank_zero_only
from torch import Tensor
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from torchmetrics_rl2.encoder import FeatureExtractor, reference_of
from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.flow import RealNVP
from torchmetrics_rl2.images import ImageReader
from torchmetrics_rl2.scoring import default_device, versions
from torchmetrics_rl2.splitting import Split
from torchmetrics_rl2.weights import Weights, write_weights
from torchmetrics_rl2.weights.backbone import Backbone, load_backbone

__all__ = ["FitResult", "FitSettings", "fit"]

SHARD = 1024


@dataclass(frozen=True)
class FitSettings:
    """How a flow is built and trained.

    Args:
        layers: Number of couplings; without any the flow is one Gaussian.
        hidden: Width of the conditioners.
        scale_bound: Bound of the log-scale of a coupling.
        linear: Full ``"whitening"`` or ``"diagonal"`` standardisation in front.
        learning_rate: Of AdamW.
        weight_decay: Of AdamW.
        batch_size: Feature vectors a step, over all devices together.
        max_epochs: Epochs, at most.
        patience: Epochs without a better held-out likelihood before training stops.
        seed: Of initial weights and of the order of the data.

    """

    layers: int = 4
    hidden: int = 128
    scale_bound: float = 0.2
    linear: Literal["diagonal", "whitening"] = "whitening"
    learning_rate: float = 3e-4
    weight_decay: float = 1e-2
    batch_size: int = 128
    max_epochs: int = 500
    patience: int = 20
    seed: int = 0


@dataclass(frozen=True)
class FitResult:
    """What a fit came to.

    Args:
        out: The weights file.
        weights_id: Which latents these are.
        n_fit: Patches the flow was fitted to.
        n_stop: Patches that stopped it.
        n_reference: Patches of the reference.
        epochs: Epochs trained.
        gaussian: Mean held-out log-likelihood before training, with the linear layer alone, in nats a patch.
        held_out: The same of the flow that was kept.
        unreadable: Files that were left out, with the reason.

    """

    out: str
    weights_id: str
    n_fit: int
    n_stop: int
    n_reference: int
    epochs: int
    gaussian: float
    held_out: float
    unreadable: list[str]


class FlowFitting(LightningModule):
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
        self.log("held_out", self.flow.log_prob(batch[0]).mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW over the couplings."""
        couplings = self.flow.couplings.parameters()
        return torch.optim.AdamW(couplings, lr=self.settings.learning_rate, weight_decay=self.settings.weight_decay)


class _Progress(Callback):
    def __init__(self, report: Callable[[str, int, int, int], None], epochs: int) -> None:
        self.report, self.epochs = report, epochs

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        held_out = float(trainer.callback_metrics["held_out"])
        best = max([held_out, *(float(c.best_score) for c in trainer.early_stopping_callbacks)])
        epoch = trainer.current_epoch + 1
        total = epoch if trainer.should_stop else self.epochs
        self.report(f"flow, held-out {held_out:.1f}, best {best:.1f} nats", epoch, total, 0)


def fit(
    split: Split,
    out: str | Path,
    *,
    backbone: str | Path = "lung-colon",
    settings: FitSettings | None = None,
    card: Mapping[str, Any] | None = None,
    reader: ImageReader | None = None,
    mpp: float | None = None,
    accelerator: str = "auto",
    devices: int | str = 1,
    num_nodes: int = 1,
    resume: bool = False,
    progress: Callable[[str, int, int, int], None] | None = None,
) -> FitResult:
    """Fit a flow to real patches and write it as a weights file.

    The trunk stays as it is; its features are computed once and kept, with checkpoints, in a folder beside the output,
    so that an interrupted run goes on with ``resume=True``. The folder is removed when the weights are written.

    Args:
        split: Patches that fit the flow, stop it, and become its reference, see
            :func:`~torchmetrics_rl2.splitting.split_images`.
        out: The weights file to write, ``.safetensors``.
        backbone: Name or path of weights, ``imagenet``, or the path of a torchvision ResNet-18 state dict.
        settings: How the flow is built and trained.
        card: What a person should know of the data: ``data``, ``licence``, ``citation``.
        reader: How images are read, cut and scaled.
        mpp: Resolution of the patches in um/px, if known.
        accelerator: As of a Lightning Trainer.
        devices: As of a Lightning Trainer.
        num_nodes: As of a Lightning Trainer.
        resume: Go on with an interrupted run of the same images, backbone and settings.
        progress: Called with what is being done, how much is done, how much there is, and images read since.

    Raises:
        RL2Error: If the output exists, an image cannot be read, or there is nothing, or something else, to resume.
        KeyboardInterrupt: On Ctrl-C; the run can be resumed.

    """
    out, settings, reader = Path(out), settings or FitSettings(), reader or ImageReader()
    trunk = load_backbone(backbone)
    run = _run_folder(out, resume, _description(split, trunk, settings, reader))
    device = feature_device(accelerator)
    extractor = FeatureExtractor(trunk.preprocessing, dict(trunk.state_dict)).to(device)
    features, sizes, unreadable = {}, set(), []
    for side, paths in vars(split).items():
        shards = _features(extractor, paths, reader, run / side, progress)
        features[side] = torch.cat([shard["features"] for shard in shards])
        sizes |= {px for shard in shards for px in shard["px"]}
        unreadable += [reason for shard in shards for reason in shard["unreadable"]]
        if len(features[side]) < 2:
            raise RL2Error(f"Only {len(features[side])} patches could be read for {side}; expected at least 2.")

    flow = RealNVP(
        512, settings.layers, settings.hidden, settings.scale_bound, linear=settings.linear, seed=settings.seed
    )
    flow.linear.adapt(features["fit"])
    with torch.no_grad():
        gaussian = flow.log_prob(features["stop"]).mean().item()
    held_out, epochs = gaussian, 0
    if settings.layers:
        module = FlowFitting(flow, features["fit"], features["stop"], settings)
        held_out, epochs = _train(module, run, progress, accelerator, devices, num_nodes)

    px = sizes.pop() if len(sizes) == 1 else None
    # The trunk's own scale says nothing of these patches.
    preprocessing = replace(trunk.preprocessing, px=px, mpp=mpp)
    history = {
        "backbone": trunk.name,
        "n_fit": len(features["fit"]),
        "n_stop": len(features["stop"]),
        "n_unreadable": len(unreadable),
        "tile": reader.tile,
        "scale": reader.scale,
        "settings": asdict(settings),
        "epochs": epochs,
        "gaussian_log_likelihood": gaussian,
        "held_out_log_likelihood": held_out,
        "versions": versions(),
    }
    flow.requires_grad_(False)
    weights = Weights(
        preprocessing,
        trunk.state_dict,
        flow.config,
        flow.state_dict(),
        reference_of(flow, features["reference"]),
        {**(card or {}), "fit": history},
    )
    if getattr(rank_zero_only, "rank", 0) == 0:
        write_weights(weights, out)
        shutil.rmtree(run)
    return FitResult(
        out=str(out),
        weights_id=weights.weights_id,
        n_fit=len(features["fit"]),
        n_stop=len(features["stop"]),
        n_reference=len(features["reference"]),
        epochs=epochs,
        gaussian=gaussian,
        held_out=held_out,
        unreadable=unreadable,
    )


def run_folder(out: Path) -> Path:
    """Where a run keeps features and checkpoints until its weights are written."""
    return out.with_suffix(".fit")


def _run_folder(out: Path, resume: bool, description: dict[str, Any]) -> Path:
    run = run_folder(out)
    record = run / "run.json"
    if out.suffix != ".safetensors":
        raise RL2Error(f"The output is a .safetensors file, but got {out}.")
    if out.exists():
        raise RL2Error(f"{out} exists. Choose another name, or remove it first.")
    if not out.parent.is_dir():
        raise RL2Error(f"The folder {out.parent} for the output does not exist. Create it first.")
    is_first = "LOCAL_RANK" not in os.environ
    if record.exists() and not resume and is_first:
        raise RL2Error(f"{run} holds an interrupted run. Go on with --resume, or remove the folder.")
    if resume and not record.exists():
        raise RL2Error(f"There is no interrupted run {run} to resume. Leave out --resume to start one.")
    if record.exists() and json.loads(record.read_text()) != description:
        before = json.loads(record.read_text())
        changed = [key for key in description if description[key] != before.get(key)]
        raise RL2Error(f"{run} is a run with other {', '.join(changed)}. Resume with the same, or remove the folder.")
    run.mkdir(exist_ok=True)
    record.write_text(json.dumps(description, indent=1))
    return run


def _description(split: Split, trunk: Backbone, settings: FitSettings, reader: ImageReader) -> dict[str, Any]:
    listed = {
        side: [(str(path.resolve()), path.stat().st_size) for path in paths] for side, paths in vars(split).items()
    }
    return {
        "images": hashlib.sha256(json.dumps(listed).encode()).hexdigest(),
        "backbone": Weights(trunk.preprocessing, trunk.state_dict, {}, {}).trunk_id,
        "settings": asdict(settings),
        "tile and scale": [reader.tile, reader.scale],
    }


def feature_device(accelerator: str) -> torch.device:
    """Where features are computed under a Trainer's accelerator."""
    return default_device({"auto": None, "gpu": "cuda"}.get(accelerator, accelerator))


def _features(
    extractor: FeatureExtractor,
    paths: Sequence[Path],
    reader: ImageReader,
    shards: Path,
    progress: Callable[[str, int, int, int], None] | None,
) -> list[dict[str, Any]]:
    """Features ``(N, 512)``, px of the patches (``None`` if not square) and unreadable files, in shards on disk."""
    found = []
    for start in range(0, len(paths), SHARD):
        shard = shards.with_name(f"{shards.name}-{start // SHARD:05}.pt")
        if not shard.exists():
            features, px, skipped = [torch.empty(0, 512)], set(), len(reader.unreadable)
            if progress:
                progress(f"features to {shards.name}", start, len(paths), 0)
            for batch in reader.read(paths[start : start + SHARD]):
                height, width = batch.images.shape[-2:]
                px.add(width if height == width else None)
                features.append(extractor(batch.images.to(extractor.device)).cpu())
                if progress:
                    progress(f"features to {shards.name}", start + reader.files_read, len(paths), len(batch.images))
            part = shard.with_suffix(f".{os.getpid()}")
            torch.save(
                {"features": torch.cat(features), "px": list(px), "unreadable": reader.unreadable[skipped:]}, part
            )
            part.replace(shard)
        found.append(torch.load(shard, weights_only=True))
    return found


def _train(
    module: FlowFitting,
    run: Path,
    progress: Callable[[str, int, int, int], None] | None,
    accelerator: str,
    devices: int | str,
    num_nodes: int,
) -> tuple[float, int]:
    """Train the couplings; leaves the best of them in the module, or none if none beat the linear layer alone."""
    untrained = {key: value.clone() for key, value in module.flow.state_dict().items()}
    with torch.no_grad():
        gaussian = module.flow.log_prob(module.stop_features).mean().item()
    checkpoint = ModelCheckpoint(
        run, "best", "held_out", mode="max", save_last=True, enable_version_counter=False, save_weights_only=False
    )
    settings = module.settings
    callbacks: list[Callback] = [EarlyStopping("held_out", mode="max", patience=settings.patience), checkpoint]
    if progress:
        callbacks.append(_Progress(progress, settings.max_epochs))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*number of training batches.*")
        warnings.filterwarnings("ignore", message=".*exists and is not empty.*")
        trainer = Trainer(
            accelerator=accelerator,
            devices=devices,
            num_nodes=num_nodes,
            max_epochs=settings.max_epochs,
            callbacks=callbacks,
            gradient_clip_val=1.0,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            num_sanity_val_steps=0,
        )
        last = run / "last.ckpt"
        handler = signal.getsignal(signal.SIGINT)
        try:
            trainer.fit(module, ckpt_path=last if last.exists() else None)
        except SystemExit as stop:
            # How Lightning ends a run after Ctrl-C; it leaves the signal ignored.
            signal.signal(signal.SIGINT, handler)
            raise KeyboardInterrupt from stop
    trainer.strategy.barrier()
    best = checkpoint.best_model_score
    if best is None or not float(best) > gaussian:
        module.flow.load_state_dict(untrained)
        return gaussian, trainer.current_epoch
    state = torch.load(checkpoint.best_model_path, map_location="cpu", weights_only=True)["state_dict"]
    module.cpu().load_state_dict(state)
    return float(best), trainer.current_epoch
