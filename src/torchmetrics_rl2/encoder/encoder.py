"""From pixels to latents: preprocessing, ResNet-18 and flow in one frozen module."""

import copy
import os
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from torchmetrics_rl2.distance.kinds import Kinds
from torchmetrics_rl2.distance.statistics import REFERENCE, Statistics
from torchmetrics_rl2.encoder.carried import with_carried
from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.networks.extractor import FeatureExtractor, Frozen
from torchmetrics_rl2.networks.flow import RealNVP
from torchmetrics_rl2.rank_zero import rank_zero_warn
from torchmetrics_rl2.runtime import exact_arithmetic
from torchmetrics_rl2.weights.file import Weights
from torchmetrics_rl2.weights.loading import load_weights
from torchmetrics_rl2.weights.reference import REFERENCE_SCORES, Reference
from torchmetrics_rl2.weights.signatures import Signatures

__all__ = ["DTYPES", "LatentEncoder"]

DTYPES = (torch.float32, torch.float64, torch.float16)


class LatentEncoder(Frozen):
    """Raw images to latents of a normal space, and to log-likelihoods.

    Frozen for good: ``train()``, ``half()``, autocast, ``requires_grad_()``, a default dtype and a default device do
    not reach it. It computes without gradients and TF32, in float32 unless :meth:`with_dtype` asks for another dtype.

    As input to ``forward`` and ``log_prob`` the encoder accepts

    - ``images`` (:class:`~torch.Tensor`): ``(N, 3, H, W)`` with H, W >= 32, uint8, or floating point in [0, 1], which
      is clamped and rounded to 8 bits; NaN is kept

    As output of ``forward`` the encoder returns

    - ``latents`` (:class:`~torch.Tensor`): ``(N, 512)``, float32

    Args:
        weights: Backbone, flow and preprocessing, see :func:`~torchmetrics_rl2.weights.load_weights`.

    Raises:
        ValueError: If images have another shape or dtype.

    Example:
        >>> import torch
        >>> from torchmetrics_rl2 import LatentEncoder
        >>> encoder = LatentEncoder.load("lung-colon")
        >>> encoder
        LatentEncoder('lung-colon@4', 224 px, weights_id '0daeb94bf5c0', float32 on cpu)
        >>> encoder(torch.zeros(2, 3, 224, 224, dtype=torch.uint8)).shape
        torch.Size([2, 512])
        >>> encoder.log_prob(torch.zeros(2, 3, 224, 224)).shape
        torch.Size([2])

    """

    num_features = 512

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        self.name = weights.name
        self.path = weights.path
        self.card = weights.card
        self.weights_id = weights.weights_id
        self.reference = weights.reference
        self.signatures: Signatures | None = weights.signatures
        self.features = FeatureExtractor(weights.preprocessing, dict(weights.backbone))
        self.flow = RealNVP(**weights.flow_config)
        self.flow.load_state_dict(dict(weights.flow))
        self.kinds = kinds_of(self.flow, self.card, self.signatures)
        self._sizes_warned_of: set[tuple[int, int]] = set()
        self._as_loaded = self._checksum() if self.path else None
        self.requires_grad_(False)
        self.train(False)

    @classmethod
    def load(cls, name_or_path: str | Path) -> "LatentEncoder":
        """Encoder of named weights or of a weights file.

        Args:
            name_or_path: ``name@version``, a bare name, which stands for its newest version, or a path.

        Raises:
            RL2Error: If there are no such weights, or the file is not what it should be.

        """
        if not isinstance(name_or_path, str | os.PathLike):
            raise ValueError(f"Expected the name or path of weights, but got {type(name_or_path).__name__}.")
        return cls(load_weights(name_or_path))

    @property
    def dtype(self) -> torch.dtype:
        """What it computes in, see :meth:`with_dtype`."""
        return torch.float16 if self.features.half_precision else self.features.dtype

    @property
    def mean(self) -> Tensor:  # type: ignore[override]
        """Mean pixel that preprocessing subtracts, ``(1, 3, 1, 1)``; it has the device and dtype of all weights."""
        return self.features.mean

    def forward(self, images: Tensor) -> Tensor:
        """Latents ``(N, 512)`` of raw images ``(N, 3, H, W)``."""
        return self.encode(images)[0]

    def log_prob(self, images: Tensor) -> Tensor:
        """Log-likelihoods ``(N,)`` of raw images ``(N, 3, H, W)``, in nats (Eq. 2 of the RL2 paper)."""
        return self.flow.log_likelihood(*self.encode(images))

    @property
    def reference_statistics(self) -> Statistics:
        """Statistics of the real images inside the weights.

        Raises:
            RL2Error: If there are none.

        """
        if self.reference is None:
            raise RL2Error(
                f"{self.name} holds no reference; give real images instead, with --real on the command line."
            )
        groups = self.reference.groups
        names = () if groups is None else tuple(f"reference {i}" for i in range(len(groups.count)))
        settings = {"groups": self.card["groups"]} if "groups" in self.card else {}
        return Statistics(
            self.reference.sums, groups, names, self.name, self.weights_id, REFERENCE, settings, kinds=self.kinds
        )

    @property
    def reference_data(self) -> str:
        """What the real images inside the weights are, by the first words of their card, or else by their name."""
        return str(self.card.get("data") or self.name).partition(":")[0]

    def statistics(self, latents: Tensor, groups: Sequence[str] | None = None, **described: Any) -> Statistics:
        """Statistics of latents ``(N, 512)`` of this encoder, see :meth:`Statistics.of_latents`."""
        return Statistics.of_latents(
            latents, groups, self.kinds, weights=self.name, weights_id=self.weights_id, **described
        )

    def with_dtype(self, dtype: torch.dtype) -> "LatentEncoder":
        """A copy that computes in another dtype.

        Args:
            dtype: float32; float64; or float16, of the convolutions alone, which a GPU computes several times faster
                so. Latents are float32 then, up to 1 % of their norm off, and values of RL2 up to 0.5 %.

        Raises:
            ValueError: If it is another one.

        """
        if dtype not in DTYPES:
            names = ", ".join(str(one) for one in DTYPES)
            raise ValueError(f"LatentEncoder.with_dtype takes one of {names}, but got {dtype!r}.")
        twin = copy.deepcopy(self)
        twin.features.half_precision = dtype == torch.float16
        dtype = torch.float32 if twin.features.half_precision else dtype
        for module in twin.children():
            # Past the guard of the children, which keeps everybody else's casts out.
            nn.Module._apply(module, lambda value: value.to(dtype) if value.is_floating_point() else value)  # type: ignore[no-untyped-call]
        return twin

    def is_as_loaded(self) -> bool:
        """Whether it computes what its file says: nothing was written over its weights, or hooked onto it."""
        hooked = any(module._forward_hooks or module._forward_pre_hooks for module in self.modules())
        return type(self) is LatentEncoder and not hooked and self._as_loaded == self._checksum()

    def _checksum(self) -> int:
        found = 0
        for value in self.state_dict().values():
            single = value.float() if value.is_floating_point() else value
            found = zlib.crc32(single.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data, found)
        return found

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Latents ``(N, 512)`` and log-determinants ``(N,)`` of raw images ``(N, 3, H, W)``, in one pass."""
        features = self.features(images)
        self.warn_of_other_px(images)
        with exact_arithmetic(self.device):
            z, log_det = self.flow(features)
            return z, log_det

    def warn_of_other_px(self, images: Tensor) -> None:
        """Warn, once, of images ``(N, 3, H, W)`` of another size than the weights were made for."""
        px = self.features.preprocessing.px
        height, width = images.shape[-2:]
        if px is not None and (height, width) != (px, px) and not self._sizes_warned_of:
            self._sizes_warned_of.add((height, width))
            rank_zero_warn(
                f"{self.name} was made for patches of {px} x {px} px and got {height} x {width}. Values compare only "
                "with those of patches of the same size, taken at the same mpp."
            )

    def __repr__(self) -> str:
        made_for = self.features.preprocessing
        px = "any px" if made_for.px is None else f"{made_for.px} px"
        mpp = "" if made_for.mpp is None else f" {made_for.mpp:g} um/px,"
        dtype = str(self.dtype).removeprefix("torch.")
        return f"LatentEncoder({self.name!r}, {px},{mpp} weights_id '{self.weights_id[:12]}', {dtype} on {self.device})"


def kinds_of(flow: RealNVP, card: Mapping[str, Any], signatures: Signatures | None) -> Kinds | None:
    """The kinds of a flow, if it has several, by the names in the card of its weights, or by numbers."""
    count, listed = len(flow.base.means), card.get("kinds")
    if count == 1:
        return None
    described = [kind for kind in listed if isinstance(kind, dict)] if isinstance(listed, list) else []
    names = [str(kind.get("name", i + 1)) for i, kind in enumerate(described)]
    if not len(names) == len(set(names)) == count:
        names = [f"kind {i + 1}" for i in range(count)]
    base = flow.base
    means, log_shares, leaks = (value.detach().cpu().float() for value in (base.means, base.log_shares, base.leaks))
    kinds = Kinds(means, log_shares, names, (float(leaks[0]), float(leaks[1])))
    return kinds if signatures is None else with_carried(kinds, signatures)


def reference_of(flow: RealNVP, features: Tensor, groups: Sequence[str] | None = None) -> Reference:
    """Reference from features ``(N, 512)`` of real images and their groups, computed as :class:`LatentEncoder` does."""
    with exact_arithmetic(features.device):
        z, log_det = flow(features)
        scores = torch.stack([flow.log_likelihood(z, log_det), z.norm(dim=1), log_det], 1)
    statistics = Statistics.of_latents(z, groups, kinds_of(flow, {}, None))
    return Reference(statistics.sums, scores[:REFERENCE_SCORES].float(), statistics.groups)
