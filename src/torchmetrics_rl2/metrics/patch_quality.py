"""How good patches are, and how well a screen tells damaged ones, as a torchmetrics metric."""

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.classification import binary_auroc, binary_average_precision
from torchmetrics.utilities import dim_zero_cat

from torchmetrics_rl2.encoder.encoder import LatentEncoder
from torchmetrics_rl2.encoder.sharing import network_of
from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.metrics.network_metric import NetworkMetric
from torchmetrics_rl2.pixels.stain import Stain
from torchmetrics_rl2.quality.calibration import Calibration
from torchmetrics_rl2.quality.screener import Criteria

__all__ = ["PatchQuality"]


class PatchQuality(NetworkMetric):
    r"""Mean percentile of patches among good ones, and with labels AUROC and AUPRC of damage.

    As input to ``forward`` and ``update`` the metric accepts

    - ``imgs`` (:class:`~torch.Tensor`): ``(N, 3, H, W)``, uint8, or floating point in [0, 1]
    - ``target`` (:class:`~torch.Tensor`): ``(N,)``, 1 for a damaged patch and 0 for a good one; with every batch, or
      with none

    As output of ``forward`` and ``compute`` the metric returns a dictionary of scalars, as ``self.log_dict`` takes it

    - ``percentile``: mean percentile among good patches, about 50 for further such patches
    - ``kept``: share of patches that the screen keeps
    - ``auroc`` and ``auprc``: of telling damaged patches by a low score, where there are labels

    Args:
        weights: Name or path of weights, or an encoder that has them.
        calibration: Good patches to compare with, or the file of such; ``None`` for those of the domain of the weights.
        max_false_rejection: Share of good patches that may be lost.
        stain: Of the slide that the patches are of, if they are of one.
        kwargs: Of :class:`torchmetrics.Metric`.

    Raises:
        RL2Error: If there is no calibration, or it does not fit.
        ValueError: If some batches have labels and others none.

    Example:
        >>> import torch
        >>> from torchmetrics_rl2 import PatchQuality
        >>> quality = PatchQuality("lung-colon")
        >>> quality.update(torch.full((2, 3, 224, 224), 240, dtype=torch.uint8))
        >>> quality.compute()
        {'percentile': tensor(0.), 'kept': tensor(0.)}

    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    percentiles: list[Tensor]
    scores: list[Tensor]
    kept: list[Tensor]
    targets: list[Tensor]
    criteria_id: Tensor

    def __init__(
        self,
        weights: str | Path | LatentEncoder = "lung-colon",
        *,
        calibration: str | Path | Calibration | None = None,
        max_false_rejection: float = 0.01,
        stain: Stain | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(weights, **kwargs)
        encoder = network_of(self.encoder)
        if not isinstance(encoder, LatentEncoder):
            raise ValueError(f"PatchQuality expects weights or a LatentEncoder, but got {type(encoder).__name__}.")
        with torch.device("cpu"):  # whatever device is the default: Lightning's is meta, for large models
            self._criteria = Criteria.of(encoder, calibration, max_false_rejection)
        self._stain = stain
        # Metrics of a collection that differ in it alone would be taken for one where their first batches agree.
        told_apart = f"{self._criteria.calibration.id} {self._criteria.threshold} {stain}".encode()
        number = int(hashlib.sha256(told_apart).hexdigest()[:12], 16)
        self.add_state("criteria_id", torch.tensor(number, device=self.device), dist_reduce_fx="max")
        # Behind it, as collections of torchmetrics 1.4 compare the first state alone.
        self._defaults["encoder_id"] = self._defaults.pop("encoder_id")
        # A process without a batch takes part with an empty float32 tensor, so all are float32.
        for name in ("percentiles", "scores", "kept", "targets"):
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(self, imgs: Tensor, target: Tensor | None = None) -> None:
        """Screen a batch.

        Args:
            imgs: ``(N, 3, H, W)``.
            target: ``(N,)``, 1 for damaged, 0 for clean; of any dtype.

        Raises:
            ValueError: If there is not one label for each image, a label is neither 0 nor 1, or only some batches have
                labels.

        """
        if target is not None and target.shape != imgs.shape[:1]:
            raise ValueError(f"Expected a label for each of {len(imgs)} images, but got {tuple(target.shape)}.")
        if target is not None and ((target != 0) & (target != 1)).any():
            raise ValueError("Expected labels of 0 (clean) and 1 (damaged), but got others; give target > 0.5, say.")
        if self.percentiles and (target is None) == bool(self.targets):
            raise ValueError("Expected labels with every batch, or with none.")
        self._place(self.device)
        encoder = network_of(self.encoder)
        assert isinstance(encoder, LatentEncoder)
        with torch.device("cpu"):
            verdicts = self._criteria.judge(encoder, imgs, self._stain)
        # Out of place, so that an exception leaves the metric as it was.
        self.percentiles = [*self.percentiles, verdicts.percentile.float().to(self.device)]
        self.scores = [*self.scores, verdicts.score.float().to(self.device)]
        self.kept = [*self.kept, verdicts.keep.float().to(self.device)]
        if target is not None:
            self.targets = [*self.targets, target.float().to(self.device)]

    def compute(self) -> dict[str, Tensor]:
        """Means, and with labels how well the score tells damage."""
        found = {"percentile": dim_zero_cat(self.percentiles).mean(), "kept": dim_zero_cat(self.kept).mean()}
        # Synchronized, an empty list is an empty tensor.
        target = dim_zero_cat(self.targets).long() if len(self.targets) else torch.empty(0)
        if len(target):
            if len(target) != len(dim_zero_cat(self.scores)):
                raise ValueError("Expected labels with every batch, or with none.")
            # Both go by order alone, and squash what is not in [0, 1] by a sigmoid, which would tie what is far out.
            order = torch.unique(dim_zero_cat(self.scores), return_inverse=True)[1].double()
            doubt = 1 - order / order.max().clamp(min=1)
            found |= {"auroc": binary_auroc(doubt, target).float(), "auprc": binary_average_precision(doubt, target)}
        return found

    def merge_state(self, incoming_state: "dict[str, Any] | Metric") -> None:
        """Add the patches of another metric, or of its state, such as a shard that was computed elsewhere.

        Args:
            incoming_state: A metric of the same weights, calibration and options, or its ``metric_state``.

        Raises:
            RL2Error: If weights, calibration or options are others.

        """
        state: Any = incoming_state.metric_state if isinstance(incoming_state, Metric) else incoming_state
        if isinstance(state, dict) and self._is_of_other_criteria(state.get("criteria_id", self.criteria_id)):
            raise RL2Error("The state to merge was judged by another calibration, threshold or stain. Use the same.")
        super().merge_state(incoming_state)

    def _is_of_other_criteria(self, criteria_id: Tensor) -> bool:
        return not torch.equal(criteria_id.to(self.criteria_id.device), self.criteria_id)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, local_metadata: dict[str, Any], *args: Any
    ) -> None:
        error_msgs: list[str] = args[-1]
        if self._is_of_other_criteria(state_dict.get(f"{prefix}criteria_id", self.criteria_id)):
            error_msgs.append(
                f"{prefix}percentiles are of another calibration, threshold or stain than this metric's. Use the same."
            )
            return
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)

    def _described(self) -> str:
        # One tensor, where it is synchronized.
        patches = sum(part.numel() for part in self.percentiles)
        return f", {self._criteria.calibration!r}, {patches} patches"
