"""RL2 of a validation epoch in a logger: numbers, causes and pictures."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.distributed import all_gather_object, get_world_size, is_available, is_initialized

from torchmetrics_rl2.callbacks.finding import find_metric
from torchmetrics_rl2.callbacks.kept_images import KeptImages
from torchmetrics_rl2.callbacks.pictures import Pixels, draw_images, draw_result
from torchmetrics_rl2.distance.result import RL2Result
from torchmetrics_rl2.encoder.own import latents_of
from torchmetrics_rl2.encoder.sharing import network_of
from torchmetrics_rl2.explaining.images import image_shares
from torchmetrics_rl2.metrics.resnet_l2 import ResNetL2
from torchmetrics_rl2.rank_zero import rank_zero_warn
from torchmetrics_rl2.runtime import require_lightning, require_matplotlib

require_lightning("ResNetL2Monitor")
from lightning.pytorch import Callback, LightningModule, Trainer  # noqa: E402
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger  # noqa: E402
from lightning.pytorch.trainer.states import TrainerFn  # noqa: E402

__all__ = ["ResNetL2Monitor"]


@dataclass(frozen=True)
class _Worst:
    """Share and pixels of images, the largest share first, and of how many they are."""

    images: list[tuple[float, Tensor]]
    kept: int
    seen: int


class ResNetL2Monitor(Callback):
    r"""Logs what a :class:`~torchmetrics_rl2.ResNetL2` of the model knows at the end of a validation epoch.

    All loggers of the trainer get the numbers of :meth:`RL2Result.scalars <torchmetrics_rl2.RL2Result.scalars>`, as by
    ``log_dict``, so that ``ModelCheckpoint`` and ``EarlyStopping`` can monitor them. TensorBoard and Weights & Biases
    also get

    - ``plot``: content against look, see :meth:`RL2Result.plot <torchmetrics_rl2.RL2Result.plot>`
    - ``cause``: what look is explained by, in words; needs a metric with ``uncertainty=True`` or
      ``groups=True``
    - ``worst_images``: the generated images that hold most of RL2, each with its share; that of all images is 1 on
      average

    The model updates, logs and resets the metric as without a callback. For ``worst_images``, ``validation_step``
    returns ``{"fake": images}``, the same that it gave to ``update(images, real=False)``.

    Shares are along the difference of means, which is known only at the end. So each process keeps a random sample of
    its generated images, at most 224 px high and wide, with their latents, 39 MB for 256; the worst are chosen among
    these. Shares of images that were not drawn are not known. An image that is drawn passes through the network once
    more.

    Args:
        metric: Where the metric is in the model, such as ``"rl2"`` or ``"metrics.rl2"``; by default the only one.
        prefix: In front of each name in the logger.
        every_n_epochs: Log in each n-th epoch of a fit, if it has a validation, and always in ``trainer.validate``. A
            ``ModelCheckpoint`` of these numbers needs the same, and ``EarlyStopping`` needs ``strict=False``.
        images: How many of the worst images to show; 0 shows none, and keeps none.
        keep: How many generated images each process keeps in an epoch.
        key: Where the generated images are in what ``validation_step`` returns.
        seed: Of the draws, which are the same in each epoch.

    Raises:
        RL2Error: If the model has no such metric, or several and none was named, or if matplotlib is missing and there
            are pictures to draw.
        ValueError: If ``validation_step`` returns something else than color images.

    Example:
        >>> from lightning.pytorch import Trainer
        >>> from torchmetrics_rl2.callbacks import ResNetL2Monitor
        >>> trainer = Trainer(callbacks=[ResNetL2Monitor()], accelerator="cpu", logger=False)

    """

    def __init__(
        self,
        metric: str | None = None,
        *,
        prefix: str = "rl2/",
        every_n_epochs: int = 1,
        images: int = 8,
        keep: int = 256,
        key: str = "fake",
        seed: int = 0,
    ) -> None:
        if every_n_epochs < 1 or images < 0 or keep < 1:
            raise ValueError(
                "ResNetL2Monitor expects every_n_epochs and keep of at least 1, and images of at least 0, but got "
                f"every_n_epochs={every_n_epochs}, keep={keep}, images={images}."
            )
        self.metric, self.prefix, self.every_n_epochs = metric, prefix, every_n_epochs
        self.images, self.keep, self.key, self.seed = images, keep, key, seed
        self._kept: KeptImages | None = None
        self._has_warned = False

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find the metric, also in the sanity check, and forget the images of the last epoch."""
        find_metric(pl_module, self.metric, "ResNetL2Monitor")
        if _loggers_of_pictures(trainer):
            require_matplotlib()
        shows_images = self._is_due(trainer) and self.images and _loggers_of_pictures(trainer)
        self._kept = KeptImages(self.keep, self.seed) if shows_images else None

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any, **__: Any
    ) -> None:
        """Keep some of the generated images."""
        if self._kept is None:
            return
        fake = outputs.get(self.key) if isinstance(outputs, Mapping) else None
        if fake is None:
            return
        if not isinstance(fake, Tensor) or fake.ndim != 4 or fake.shape[1] != 3:
            got = f"shape {tuple(fake.shape)}" if isinstance(fake, Tensor) else type(fake).__name__
            raise ValueError(
                f"ResNetL2Monitor expects color images (N, 3, H, W) as {self.key!r} of what validation_step returns, "
                f"but got {got}."
            )
        encoder = find_metric(pl_module, self.metric, "ResNetL2Monitor").encoder
        self._kept.see(fake, lambda images: latents_of(encoder, network_of(encoder), images))

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log; before the metric is reset, and on every process, as its sums are added up."""
        if not self._is_due(trainer):
            return
        metric = find_metric(pl_module, self.metric, "ResNetL2Monitor")
        result = metric.result(explain=True)
        pl_module.log_dict(result.scalars(self.prefix), sync_dist=True)
        loggers = _loggers_of_pictures(trainer)
        if not loggers:
            return
        worst = None if self._kept is None else _worst_of(self._kept, metric, self.images)
        self._kept = None
        if not trainer.is_global_zero:
            return
        if worst and not worst.seen and not self._has_warned:
            self._has_warned = True
            rank_zero_warn(
                f"ResNetL2Monitor shows no images, as validation_step returns none. Return {{{self.key!r}: images}}, "
                "the same that you give to update(images, real=False), or make the callback with images=0."
            )
        pictures = {"plot": draw_result(result)}
        if worst and worst.images:
            drawn = "" if worst.kept == worst.seen else f"{worst.kept} drawn at random of "
            title = f"the {len(worst.images)} worst of {drawn}{worst.seen} generated images; share of RL2, average: 1x"
            pictures["worst_images"] = draw_images(worst.images, title)
        # As Lightning counts the steps of its own scalars.
        step = trainer.fit_loop.epoch_loop._batches_that_stepped
        for logger in loggers:
            _write(logger, self.prefix, _cause(result), pictures, step)

    def _is_due(self, trainer: Trainer) -> bool:
        is_nth = trainer.state.fn != TrainerFn.FITTING or (trainer.current_epoch + 1) % self.every_n_epochs == 0
        return is_nth and not trainer.sanity_checking


def _worst_of(kept: KeptImages, metric: ResNetL2, count: int) -> _Worst:
    """The worst of all processes, which all have to call it."""
    real, fake = (metric.statistics(real=side).sums for side in (True, False))
    images, shares = kept.images, torch.empty(0)
    if images:
        shares = image_shares(kept.latents, real.sum / real.count, fake.sum / fake.count)
    order = shares.argsort(descending=True, stable=True)[:count].tolist()
    own = [(float(shares[i]), images[i]) for i in order if math.isfinite(shares[i])]
    parts = _of_all_processes(_Worst(own, len(images), kept.seen))
    worst = sorted((pair for part in parts for pair in part.images), key=lambda pair: -pair[0])
    return _Worst(worst[:count], sum(part.kept for part in parts), sum(part.seen for part in parts))


def _of_all_processes(own: _Worst) -> list[_Worst]:
    if not (is_available() and is_initialized()):
        return [own]
    parts: list[Any] = [None] * get_world_size()
    all_gather_object(parts, own)
    return parts


def _loggers_of_pictures(trainer: Trainer) -> list[Logger]:
    return [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger | WandbLogger)]


def _cause(result: RL2Result) -> str:
    """The explanation without its sentence on images, which are ranked here."""
    assert result.explanation is not None
    withheld = {name: why for name, why in result.explanation.withheld.items() if name != "images"}
    return str(replace(result.explanation, withheld=withheld))


def _write(logger: Logger, prefix: str, cause: str, pictures: Mapping[str, Pixels], step: int) -> None:
    if isinstance(logger, WandbLogger):
        logger.log_text(f"{prefix}cause", columns=["cause"], data=[[cause]], step=step)
        for name, pixels in pictures.items():
            logger.log_image(f"{prefix}{name}", [pixels], step=step)
        return
    assert isinstance(logger, TensorBoardLogger)
    logger.experiment.add_text(f"{prefix}cause", cause, step)
    for name, pixels in pictures.items():
        logger.experiment.add_image(f"{prefix}{name}", pixels, step, dataformats="HWC")
