"""Patches that are doubtful, and why: tissue or not, named reasons, and the score of a calibrated flow."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from torchmetrics_rl2.encoder.encoder import LatentEncoder
from torchmetrics_rl2.encoder.sharing import encoder_of
from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.pixels.stain import Stain, restain
from torchmetrics_rl2.quality.calibrating import calibration_beside
from torchmetrics_rl2.quality.calibration import Calibration, Threshold
from torchmetrics_rl2.quality.measures import INK, MIN_TISSUE, NO_WHITE, Shares, measure, shares, to_uint8
from torchmetrics_rl2.quality.reasons import Names

__all__ = ["Criteria", "PatchScreener", "Verdicts"]


@dataclass(frozen=True)
class Verdicts:
    """What a screen says of patches, one entry a patch.

    Args:
        keep: Whether it is kept, bool.
        reasons: Why not: at most two keys of :data:`~torchmetrics_rl2.quality.REASONS`, strongest first.
        percentile: Share of good patches that score lower, in %; 0 for background, ink and black.
        score: See :class:`~torchmetrics_rl2.Calibration`; minus infinity for background, ink and black.
        log_likelihood: Of Eq. 2 of the RL2 paper, under the flow as it was fitted, in nats.
        tissue: Share of the patch that is tissue.
        ink: Share of the patch that is ink.
        black: Share of the patch that is nearly black.

    """

    keep: Tensor
    reasons: list[tuple[str, ...]]
    percentile: Tensor
    score: Tensor
    log_likelihood: Tensor
    tissue: Tensor
    ink: Tensor
    black: Tensor

    def __len__(self) -> int:
        """Number of patches."""
        return len(self.keep)

    @classmethod
    def cat(cls, parts: Sequence["Verdicts"]) -> "Verdicts":
        """Verdicts of several batches, one after the other."""
        reasons = [reason for part in parts for reason in part.reasons]
        columns = {
            f.name: torch.cat([getattr(part, f.name) for part in parts]) for f in fields(cls) if f.name != "reasons"
        }
        return cls(reasons=reasons, **columns)


@dataclass(frozen=True)
class Criteria:
    """What patches are judged by; the same with any copy of the encoder.

    Args:
        calibration: Good patches to compare with.
        threshold: The score at or below which patches are rejected; ``None`` rejects none by its score.
        min_tissue: Share of a patch that has to be tissue.

    """

    calibration: Calibration
    threshold: Threshold | None
    min_tissue: float

    @classmethod
    def of(
        cls,
        encoder: LatentEncoder,
        calibration: str | Path | Calibration | None,
        max_false_rejection: float | None,
        min_tissue: float = MIN_TISSUE,
    ) -> "Criteria":
        """Criteria as :class:`PatchScreener` takes them, checked.

        Raises:
            RL2Error: If there is no calibration, it is too small for the threshold, or of other weights.

        """
        if not 0 <= min_tissue <= 1:
            raise RL2Error(f"The smallest share of tissue is between 0 and 1, but got {min_tissue}.")
        if calibration is None:
            calibration = calibration_beside(encoder)
        good = calibration if isinstance(calibration, Calibration) else Calibration.load(calibration)
        good = good.of(encoder.weights_id)
        return cls(good, None if max_false_rejection is None else good.threshold(max_false_rejection), min_tissue)

    def judge(self, encoder: LatentEncoder, images: Tensor, stain: Stain | None) -> Verdicts:
        """Verdicts on a batch, see :class:`PatchScreener`."""
        raw = to_uint8(images.to(encoder.device))
        broken = ~images.isfinite().flatten(1).all(1).cpu()
        px = self.calibration.px
        if px is not None and tuple(raw.shape[2:]) != (px, px):
            raise ValueError(
                f"The good patches have {px} x {px} px, and these {raw.shape[3]} x {raw.shape[2]}; only patches of one "
                "size compare. Cut tiles, with --tile, or calibrate with patches of this size."
            )
        found = shares(raw, stain.white if stain else NO_WHITE)
        judged = raw if stain is None else restain(raw, stain, self.calibration.stain)
        z, log_det, statistics, kinds, likelihood = measure(encoder, judged)
        score = self.calibration.score(z, log_det, statistics, kinds)
        reasons = self._reasons(found)
        for i in torch.nonzero(broken).flatten().tolist():  # NaN pixels, which were made gray
            reasons[i] = reasons[i] or ("unusual",)
        score[[bool(found) for found in reasons]] = -torch.inf
        if self.threshold is not None:
            for i in torch.nonzero(score <= self.threshold.score).flatten().tolist():
                reasons[i] = reasons[i] or self._names(statistics[i])
        keep = torch.tensor([not reason for reason in reasons])
        return Verdicts(keep, reasons, self.calibration.percentile(score), score, likelihood, *found)

    def _reasons(self, found: Shares) -> list[tuple[str, ...]]:
        """Reasons that need no score."""
        reasons: list[tuple[str, ...]] = []
        for tissue, ink, black in zip(*(share.tolist() for share in found), strict=True):
            if tissue < self.min_tissue:
                reasons.append(("black", "background") if black > INK else ("background",))
            else:
                reasons.append(() if ink + black <= INK else ("black",) if black > ink else ("pen",))
        return reasons

    @cached_property
    def _names(self) -> Names:
        return Names(self.calibration.statistics)


class PatchScreener:
    """Says whether patches are good, and if not, why.

    A patch is rejected if less than ``min_tissue`` of it is tissue, if it has ink or black, or if it scores at or below
    the threshold, which rejects at most the share ``max_false_rejection`` of good patches. A patch that is rejected by
    its score is named after the simple statistics, or differences of them, that are beyond those of 97.5 % of good
    patches; if there are none, it is ``unusual``.

    As input the screener accepts

    - ``images`` (:class:`~torch.Tensor`): ``(N, 3, H, W)``, uint8, or floating point in [0, 1]

    As output it returns :class:`Verdicts`.

    Args:
        weights: Name or path of weights, or an encoder that has them.
        calibration: Good patches to compare with, or the file of such; ``None`` for those of the domain of the weights.
        max_false_rejection: Share of good patches that may be rejected; ``None`` only ranks, and rejects none by its
            score.
        min_tissue: Share of a patch that has to be tissue.
        device: Where to compute; by default a GPU if there is one.

    Raises:
        RL2Error: If there is no calibration, or it is too small for the threshold, or of other weights.
        ValueError: If patches have another size than the good ones.

    Example:
        >>> import torch
        >>> from torchmetrics_rl2 import PatchScreener
        >>> screener = PatchScreener("lung-colon")
        >>> verdicts = screener(torch.full((2, 3, 224, 224), 240, dtype=torch.uint8))
        >>> verdicts.keep.tolist(), verdicts.reasons
        ([False, False], [('background',), ('background',)])

    """

    def __init__(
        self,
        weights: str | Path | LatentEncoder = "lung-colon",
        *,
        calibration: str | Path | Calibration | None = None,
        max_false_rejection: float | None = 0.01,
        min_tissue: float = MIN_TISSUE,
        device: str | torch.device | None = None,
    ) -> None:
        self.encoder = encoder_of(weights, device)
        self.criteria = Criteria.of(self.encoder, calibration, max_false_rejection, min_tissue)

    @property
    def calibration(self) -> Calibration:
        """The good patches."""
        return self.criteria.calibration

    @property
    def threshold(self) -> Threshold | None:
        """The score at or below which patches are rejected, if any are."""
        return self.criteria.threshold

    def __call__(self, images: Tensor, stain: Stain | None = None) -> Verdicts:
        """Verdicts on a batch.

        Args:
            images: ``(N, 3, H, W)``, uint8, or floating point in [0, 1].
            stain: That of their slide, by :func:`~torchmetrics_rl2.pixels.stain_of`; patches are then judged as if of
                the stain of the good ones. Without it they are judged as they are.

        """
        return self.criteria.judge(self.encoder, images, stain)

    def ranking(self) -> "PatchScreener":
        """The same screener without a threshold: it rejects background, ink and black alone."""
        twin = copy.copy(self)
        twin.criteria = replace(self.criteria, threshold=None)
        return twin

    def __repr__(self) -> str:
        threshold = "ranks only" if self.threshold is None else f"rejects at scores <= {self.threshold.score:.3g}"
        return f"PatchScreener({self.encoder!r}, {self.calibration!r}, {threshold})"
