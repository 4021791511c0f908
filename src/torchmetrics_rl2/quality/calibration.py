"""What good patches score: the reference of every percentile and threshold of a screen."""

import math
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from scipy.stats import beta
from torch import Tensor

from torchmetrics_rl2._version import __version__
from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.pixels.patch_statistics import STATISTICS
from torchmetrics_rl2.pixels.stain import Stain, three
from torchmetrics_rl2.quality.good_density import GoodScores
from torchmetrics_rl2.storage import check_sealed, damaged, digest, read_file, sealed, write_file

__all__ = ["Calibration", "Threshold"]

HEADER = "torchmetrics-rl2-calibration"
FORMAT_VERSION = 2
HINT = "'rl2 screen --calibrate GOOD_PATCHES' makes one, or 'rl2 fit' beside weights."
MIN_PATCHES = 16
MIN_GROUPS = 20
COLUMNS = ("latents", "log_det", "statistics", "kinds", "flagged", "groups")


@dataclass(frozen=True)
class Threshold:
    """A score at or below which patches are rejected, and how many good ones it rejects.

    Args:
        score: Patches at or below it are rejected.
        max_false_rejection: The share of good patches that it may reject, as asked for.
        false_rejection: The share of the good patches of the calibration that it rejects; those with ink count too.
        interval: 95 % interval of the share of further good patches that it rejects.

    """

    score: float
    max_false_rejection: float
    false_rejection: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Calibration:
    r"""Good patches, as the weights and simple statistics see them, and the scores that follow.

    The score of a patch is the sum of two log-likelihoods, each less its median and divided by its median absolute
    deviation among good patches of the same kind of tissue:

    .. math:: \log \sum_k \pi_k\, \mathcal{N}(z; m_k, S) + \log \left| \det \frac{\partial z}{\partial x_f} \right|
        \quad \text{and} \quad \log \sum_k \pi_k\, \mathcal{N}(s; m'_k, S')

    The first is Eq. 2 of the RL2 paper with the base of the flow replaced by a mixture of the latents of good patches:
    a Gaussian for each kind that the weights see among them, all of one shrunk covariance. The second is such a mixture
    of 25 simple statistics. A kind of few patches leans on all good ones: its means are drawn to theirs as far as kinds
    of so few patches would differ by chance, and its median and deviation count theirs as ten more patches. Good
    patches are scored by mixtures of other groups than their own, in five folds, and any other patch by the median of
    the five, so that both are scored by mixtures of as many patches. All are brought to one stain, that of the good
    patches.

    Args:
        latents: ``(n, 512)``, of good patches.
        log_det: ``(n,)``.
        statistics: ``(n, 25)``, see ``torchmetrics_rl2.pixels.patch_statistics.STATISTICS``.
        kinds: The kind of tissue of each, ``(n,)`` int64; zeros of weights without kinds.
        flagged: Which of them have ink, ``(n,)`` bool.
        groups: Row of the slide, patient or source image of each, ``(n,)`` int64.
        stain: Theirs.
        weights: Name of the weights.
        weights_id: Which latents these are.
        source: Where the patches came from.
        two_sided: Whether a first part far above its median is as strange as one far below.
        px: Side of the patches in pixels.
        mpp: Their resolution in um/px, ``None`` if unknown.
        of_weights: Whether they are of the domain of the weights, rather than of the user.

    """

    latents: Tensor = field(repr=False)
    log_det: Tensor = field(repr=False)
    statistics: Tensor = field(repr=False)
    kinds: Tensor = field(repr=False)
    flagged: Tensor = field(repr=False)
    groups: Tensor = field(repr=False)
    stain: Stain
    weights: str
    weights_id: str
    source: str
    two_sided: bool = False
    px: int | None = None
    mpp: float | None = None
    of_weights: bool = False

    def __post_init__(self) -> None:
        n = len(self.latents)
        shapes = [tuple(getattr(self, name).shape) for name in COLUMNS]
        width = self.latents.shape[1:]
        if shapes != [(n, *width), (n,), (n, len(STATISTICS)), (n,), (n,), (n,)] or len(width) != 1:
            raise RL2Error(f"A calibration has {', '.join(COLUMNS)} of the same patches, but got the shapes {shapes}.")
        if not all(bool(getattr(self, name).isfinite().all()) for name in COLUMNS[:3]):
            raise RL2Error("A good patch has latents or statistics that are not finite.")
        if n < MIN_PATCHES:
            raise RL2Error(
                f"{self.source} gave {n} good patches; a calibration needs at least {MIN_PATCHES}, and 64 to 128 of "
                f"{MIN_GROUPS} slides or more are enough for most of the gain."
            )

    def __len__(self) -> int:
        """Number of good patches."""
        return len(self.latents)

    def __repr__(self) -> str:
        px = "any px" if self.px is None else f"{self.px} px"
        mpp = "" if self.mpp is None else f", {self.mpp:g} um/px"
        return (
            f"Calibration({len(self)} good patches in {self.group_count} groups, {px}{mpp}, source {self.source!r}, "
            f"weights {self.weights!r})"
        )

    def __getstate__(self) -> dict[str, Any]:
        # Without the megabytes that are cached, which follow from the rest.
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def __deepcopy__(self, _: dict[int, Any]) -> "Calibration":
        return self  # nothing in it changes, and clones of a metric can share it

    @property
    def group_count(self) -> int:
        """Number of their groups."""
        return len(set(self.groups.tolist()))

    @cached_property
    def id(self) -> str:
        """sha256 over all that scores and thresholds depend on."""
        settings = [asdict(self.stain), self.weights_id, self.two_sided, self.px, self.mpp]
        return digest(settings, {name: getattr(self, name) for name in COLUMNS})

    @cached_property
    def good(self) -> Tensor:
        """Scores of the good patches by mixtures of other groups, those flagged at minus infinity, ascending."""
        return self._scores.of_good.masked_fill(self.flagged, -math.inf).sort().values

    def score(self, latents: Tensor, log_det: Tensor, statistics: Tensor, kinds: Tensor) -> Tensor:
        """Scores of patches.

        Args:
            latents: ``(N, 512)``.
            log_det: Log-determinants, ``(N,)``.
            statistics: ``(N, 25)``.
            kinds: Kinds of tissue, ``(N,)`` int64.

        Returns:
            ``(N,)``, float64.

        """
        return self._scores(latents, log_det, statistics, kinds)

    def percentile(self, scores: Tensor) -> Tensor:
        """Share of the good patches that score lower, in %, ``(N,)``; 0 for minus infinity."""
        below = torch.searchsorted(self.good, scores.contiguous())
        return 100.0 * below / len(self.good)

    def threshold(self, max_false_rejection: float) -> Threshold:
        """The score that rejects at most this share of good patches, by their rank, as in split conformal prediction.

        Args:
            max_false_rejection: Share of good patches, 0 to 0.5.

        Raises:
            RL2Error: If there are too few patches or groups to say so.

        """
        if not 0 < max_false_rejection <= 0.5:
            raise RL2Error(
                f"The false rejection rate is a share above 0 and at most 0.5, but got {max_false_rejection}."
            )
        n, needed = len(self), math.ceil(1 / max_false_rejection - 1e-9)
        if n < needed or self.group_count < MIN_GROUPS:
            least = f" With these, the lowest rate is {1 / n:.2g}." if self.group_count >= MIN_GROUPS else ""
            raise RL2Error(
                f"{self.source} has {n} good patches of {self.group_count} group(s), too few to reject at most "
                f"{100 * max_false_rejection:g} % of good ones: that needs {needed} of {MIN_GROUPS} groups.{least}"
            )
        rank = max(1, math.floor(max_false_rejection * (n + 1) + 1e-9))
        flagged = int(self.flagged.sum())
        if flagged >= rank:
            raise RL2Error(
                f"{flagged} of the {n} good patches of {self.source} have ink, and are rejected anyway; that is all of "
                f"the {100 * max_false_rejection:g} % that may be, or more. Leave them out, or allow a higher rate."
            )
        score = float(self.good[rank - 1])
        if int((self.good <= score).sum()) > rank:  # patches that score the same are all kept
            score = math.nextafter(float(self.good[rank]), -math.inf)
        rejected = int((self.good <= score).sum())
        n_effective, k = n / self.design_effect, rejected / self.design_effect
        low = float(beta.ppf(0.025, k, n_effective + 1 - k)) if rejected else 0.0
        interval = (low, float(beta.ppf(0.975, max(k, 1), n_effective + 1 - k)))
        return Threshold(score, max_false_rejection, rejected / n, interval)

    @cached_property
    def design_effect(self) -> float:
        """By how much patches of one group, being alike, make the numbers of patches count less, at least 1."""
        _, rows, counts = torch.unique(self.groups, return_inverse=True, return_counts=True)
        groups, n = len(counts), len(self)
        if groups in (1, n):
            return 1.0
        ranks = self._scores.of_good.argsort().argsort().double()
        means = torch.zeros(groups, dtype=torch.float64).index_add(0, rows, ranks) / counts
        between = float((counts * (means - ranks.mean()).square()).sum()) / (groups - 1)
        within = float((ranks - means[rows]).square().sum()) / (n - groups)
        typical = (n - float(counts.square().sum()) / n) / (groups - 1)
        alike = min(1.0, max(0.0, (between - within) / (between + (typical - 1) * within)))
        return 1 + (float(counts.square().sum()) / n - 1) * alike

    def save(self, path: str | Path) -> None:
        """Write a ``.safetensors`` file.

        Args:
            path: The file; one that exists is replaced.

        """
        header = {
            "written_by": __version__,
            "format_version": FORMAT_VERSION,
            "stain": asdict(self.stain),
            **{name: getattr(self, name) for name in DESCRIBED},
        }
        tensors = {name: getattr(self, name) for name in COLUMNS}
        write_file(Path(path), HEADER, sealed(header, tensors), tensors, Calibration.load)

    @classmethod
    def load(cls, path: str | Path) -> "Calibration":
        """Read what :meth:`save` wrote.

        Args:
            path: The file.

        Raises:
            RL2Error: If it is no such file.

        """
        path = Path(path)
        header, tensors = read_file(path, HEADER, FORMAT_VERSION, HINT)
        check_sealed(path, header, tensors)
        with damaged(path):
            columns: dict[str, Any] = {name: tensors[name] for name in COLUMNS}
            described = {name: header[name] for name in DESCRIBED}
            stain = Stain(*(three(header["stain"][name]) for name in ("white", "tissue")))
            return cls(**columns, stain=stain, **described)

    def of(self, weights_id: str) -> "Calibration":
        """This calibration, if it is of these weights.

        Raises:
            RL2Error: If it is of others.

        """
        if self.weights_id != weights_id:
            raise RL2Error(
                f"The calibration of {self.source} was made with the weights {self.weights} ({self.weights_id[:12]}), "
                f"and these are others ({weights_id[:12]}). Calibrate again, with --calibrate."
            )
        return self

    @cached_property
    def _scores(self) -> GoodScores:
        columns = self.latents, self.log_det, self.statistics, self.kinds
        return GoodScores(*columns, self.groups.tolist(), self.two_sided)


DESCRIBED = ("weights", "weights_id", "source", "two_sided", "px", "mpp", "of_weights")
