"""The checkpoint with the best RL2 beyond chance, and a word on whether training still helps."""

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from torchmetrics_rl2.callbacks.best_so_far import BestSoFar, Judged
from torchmetrics_rl2.callbacks.finding import find_metric
from torchmetrics_rl2.distance.statistics import Statistics
from torchmetrics_rl2.distance.text import identity_text, three_digits
from torchmetrics_rl2.distance.uncertainty import MIN_UNITS, Units
from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.metrics.resnet_l2 import ResNetL2
from torchmetrics_rl2.runtime import require_lightning

require_lightning("ResNetL2Checkpoint")
from lightning.pytorch import LightningModule, Trainer  # noqa: E402
from lightning.pytorch.callbacks import ModelCheckpoint  # noqa: E402
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn  # noqa: E402

__all__ = ["ResNetL2Checkpoint"]


class ResNetL2Checkpoint(ModelCheckpoint):
    r"""Keeps a checkpoint only where RL2 is below that of the one kept before, beyond chance.

    The smallest of many noisy numbers is the luckiest one, and that is what ``ModelCheckpoint`` keeps. This one asks at
    the end of each validation epoch whether the debiased squared distance :math:`T` is smaller than that of the
    checkpoint kept so far, from the same real images and with Welch's t, one-sided at :math:`\alpha_k` in comparison
    :math:`k`. With :math:`\alpha` the ``level`` and :math:`K` the number of ``planned`` comparisons,

    .. math:: \alpha_k = \alpha \frac{k}{k + K} - \alpha \frac{k - 1}{k - 1 + K} , \qquad \sum_k \alpha_k < \alpha ,

    a spending function (Lan and DeMets, Biometrika 1983). So at most with probability :math:`\alpha` any comparison
    of a training, however many there are, says "better" of a generator that is not. The first validation is kept to
    begin with.

    Files, names, resuming and ``ckpt_path="best"`` are those of ``ModelCheckpoint``. Every checkpoint of the trainer
    holds what was kept and spent, 2.1 MB. After each validation a sentence says what was found, and loggers get

    - ``debiased``: debiased RL2, which is also ``best_model_score`` of what was kept
    - ``gain``: by which share of the squared distance of the kept one this one is closer; below 0 it is further away
    - ``detectable``: the smallest such share that would have been found with 80 % power: where it is large,
      "no better" means too few images
    - ``without_gain``: validations since the last that was better

    Args:
        metric: Where the metric is in the model, such as ``"rl2"`` or ``"metrics.rl2"``; by default the only one. It is
            made with ``groups=True``, or with ``uncertainty=True`` for independent images, and without a ``part``.
        dirpath: Where checkpoints go; by default where ``ModelCheckpoint`` puts them.
        filename: As of ``ModelCheckpoint``.
        level: Probability that ever a checkpoint takes the place of one that is as good or better.
        planned: About how many validations there will be, to share the level among; half of it is left for those after.
        patience: Stop training after so many validations in a row of which none was better.
        prefix: In front of each name in the logger.
        options: Of ``ModelCheckpoint``: ``save_weights_only``, ``save_last``, ``auto_insert_metric_name``, ``verbose``
            and ``enable_version_counter``.

    Raises:
        RL2Error: If the model has no such metric, or several and none was named, or it has a ``part`` or neither groups
            nor uncertainty, or fewer than four images or groups a side in a validation, or a checkpoint is resumed with
            a metric of other weights.
        ValueError: If ``level``, ``planned`` or ``patience`` is out of range.

    Example:
        >>> from lightning.pytorch import Trainer
        >>> from torchmetrics_rl2.callbacks import ResNetL2Checkpoint
        >>> keep = ResNetL2Checkpoint(patience=20)
        >>> trainer = Trainer(callbacks=[keep], accelerator="cpu", logger=False)

    """

    def __init__(
        self,
        metric: str | None = None,
        *,
        dirpath: str | Path | None = None,
        filename: str | None = None,
        level: float = 0.05,
        planned: int = 50,
        patience: int | None = None,
        prefix: str = "rl2_best/",
        **options: Any,
    ) -> None:
        if not 0 < level < 0.5 or planned < 1 or (patience is not None and patience < 1):
            raise ValueError(
                "ResNetL2Checkpoint expects a level between 0 and 0.5, and planned and patience of at least 1, but got "
                f"level={level}, planned={planned}, patience={patience}."
            )
        super().__init__(
            dirpath,
            filename,
            monitor=f"{prefix}debiased",
            mode="min",
            save_top_k=1,
            every_n_epochs=1,
            save_on_train_epoch_end=False,  # in the middle of an epoch too, if there is a validation
            **options,
        )
        self.metric, self.prefix, self.patience = metric, prefix, patience
        self._best = BestSoFar(level, planned)
        self._is_better = False
        self._weights: tuple[str | None, int] | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find what is wrong before an epoch is spent."""
        self._find(pl_module)
        if not trainer.enable_validation:
            rank_zero_warn("ResNetL2Checkpoint keeps no checkpoint, as this training has no validation.")

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare; before the metric is reset, and on every process, as its sums are added up."""
        if self._should_skip_saving_checkpoint(trainer):  # not a validation of a training
            return
        metric = self._find(pl_module)
        sides = [metric.statistics(real=real) for real in (True, False)]
        self._check_weights(sides[1])
        real, generated = map(_units, sides)
        name = f"epoch {trainer.current_epoch}, step {trainer.global_step}"
        # One process decides for all: their sums need not be the same to the last bit.
        judged = trainer.strategy.broadcast(self._best.judge(name, real, generated))
        self._best.take(judged, generated)
        self._is_better = judged.is_better
        pl_module.log_dict(_scalars(judged, self.prefix), sync_dist=True)
        (rank_zero_info if math.isfinite(judged.squared) else rank_zero_warn)(_sentence(judged))
        if self.patience is not None and judged.without_gain >= self.patience:
            trainer.should_stop = True
            rank_zero_info(f"ResNetL2Checkpoint stops the training: patience={self.patience}.")

    def check_monitor_top_k(self, trainer: Trainer, current: Tensor | None = None) -> bool:
        """Whether ``ModelCheckpoint`` is to save."""
        return self._is_better

    def state_dict(self) -> dict[str, Any]:
        """That of ``ModelCheckpoint``, what was kept, and what was spent."""
        return super().state_dict() | {"best_so_far": self._best.state_dict(), "weights": self._weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a state."""
        super().load_state_dict(state_dict)
        self._best.load_state_dict(state_dict["best_so_far"])
        self._weights = state_dict["weights"]

    def _find(self, pl_module: LightningModule) -> ResNetL2:
        metric = find_metric(pl_module, self.metric, "ResNetL2Checkpoint")
        if metric.part is not None:
            raise RL2Error(
                f"ResNetL2Checkpoint compares RL2 as a whole, but got a metric with part={metric.part!r}. Name one "
                "without a part."
            )
        if not (metric.uncertainty or metric.groups):
            raise RL2Error(
                "ResNetL2Checkpoint has to know how far chance moves RL2, but got a metric that keeps sums alone. Make "
                "it with groups=True and name slides or patients in update, or with uncertainty=True for independent "
                "images."
            )
        return metric

    def _check_weights(self, side: Statistics) -> None:
        here = side.weights_id, len(side.sums.sum)
        if self._weights not in (None, here):
            before, after = (f"{identity_text(one[0])}, {one[1]} numbers" for one in (self._weights, here))
            raise RL2Error(
                f"ResNetL2Checkpoint kept latents of other weights ({before}) than the metric has now ({after}), whose "
                "distances do not compare. Resume with the same weights, or start anew."
            )
        self._weights = here


def _units(side: Statistics) -> Units:
    units = side.units
    if units is None:
        what = "images" if side.groups is None else "groups"
        raise RL2Error(
            f"ResNetL2Checkpoint needs at least {MIN_UNITS} {what} a side in each validation, but got "
            f"{side.unit_count} of {side.source}."
        )
    return units


def _scalars(judged: Judged, prefix: str) -> dict[str, Tensor]:
    values = {"debiased": judged.debiased, "without_gain": float(judged.without_gain)}
    values |= {key: getattr(judged, key) for key in ("gain", "detectable") if math.isfinite(getattr(judged, key))}
    return {f"{prefix}{key}": torch.tensor(value) for key, value in values.items()}


def _sentence(judged: Judged) -> str:
    if not math.isfinite(judged.squared):
        return f"RL2 of {judged.name}, is NaN or too large. It is compared with nothing, and not kept."
    start = f"Debiased RL2 of {judged.name}, is {three_digits(judged.debiased)}"
    if judged.than is None:
        return f"{start}. This checkpoint is kept to begin with."
    change = _change(judged.gain)
    if judged.is_better:
        return f"{start}, below that of {judged.than}, beyond chance{change}. This checkpoint is kept."
    if judged.detectable < 1:
        power = f"{_percent(judged.detectable)} smaller would have been found with 80 % power"
    elif change:
        power = "not even 0 would have been found with 80 % power, which takes more images"
    else:
        power = "the distance of that one cannot be told from 0, so no better one could have been found"
    earlier = f"The earlier checkpoint stays; validations without a better one: {judged.without_gain}."
    return f"{start}, not below that of {judged.than}, beyond chance{change}; {power}. {earlier}"


def _change(gain: float) -> str:
    if not math.isfinite(gain):
        return ""
    return f": its square is {_percent(abs(gain))} {'smaller' if gain > 0 else 'larger'}"


def _percent(share: float) -> str:
    return f"{three_digits(100 * share)} %"
