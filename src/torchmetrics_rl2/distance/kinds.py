r"""Kinds of tissue, and the two parts that they split a distance into.

The means :math:`\mu_k` of the kinds span a space of at most :math:`K - 1` dimensions. The projection of a difference of
means on it is content, which tissue is shown; the rest is look, how it is shown:
:math:`\mathrm{RL2}^2 = \mathrm{content}^2 + \mathrm{look}^2`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from torchmetrics_rl2.functional import LatentSums, latent_sums

__all__ = ["LEAKS", "PARTS", "Kinds", "Part", "rows_of_images", "sums_of"]

Part = Literal["content", "look"]
PARTS: tuple[Part, ...] = ("content", "look")
LEAKS = (0.15, 0.1)
"""The least leaks that are assumed: measured for LC25000, see the documentation."""

FLAT = 1e-6


@dataclass(frozen=True, eq=False)
class Kinds:
    r"""The kinds of tissue of a set of weights, at least two.

    Args:
        means: Their means in latent space, ``(K, d)``.
        log_shares: Logarithm of the share of each among the images that fitted the weights, ``(K,)``.
        names: Their names.
        leaks: How far a difference in one part alone moves the other: content in shares of look, as by damage, beyond
            what is carried, and look in shares of content, as by another composition.
        carried: The content that comes along with look where tissue stays the same, as under damage, ``(K, d)``: with a
            look :math:`l` comes :math:`\sum_k (x_k \cdot l)\,(\mu_k - \bar\mu)`, with its rows :math:`x_k`. ``None``
            where that is not known.

    """

    means: Tensor
    log_shares: Tensor
    names: Sequence[str]
    leaks: tuple[float, float] = LEAKS
    carried: Tensor | None = None

    def __deepcopy__(self, _: dict[int, Any]) -> "Kinds":
        return self  # nothing in it changes, and clones of a metric can share it

    def __len__(self) -> int:
        return len(self.means)

    def to_tensors(self) -> dict[str, Tensor]:
        """As a file of statistics has them, beside the names."""
        carried = torch.zeros_like(self.means) if self.carried is None else self.carried
        found = {"means": self.means, "log_shares": self.log_shares, "leaks": torch.tensor(self.leaks)}
        return {f"kind_{name}": value for name, value in (found | {"carried": carried}).items()}

    @cached_property
    def basis(self) -> Tensor:
        """Orthonormal basis of the space that the means span, ``(d, k)``, float64."""
        means = self.means.to("cpu", torch.float64)
        vectors, values, _ = torch.linalg.svd((means - means.mean(0)).T, full_matrices=False)
        basis: Tensor = vectors[:, values > FLAT * values.max()]
        return basis

    @cached_property
    def axes(self) -> Tensor:
        """What content is tested on, ``(d, k)``, float64: the basis, less what look carries along."""
        if self.carried is None:
            return self.basis
        means = self.means.to("cpu", torch.float64)
        along = self.carried.to("cpu", torch.float64).T @ (means - means.mean(0)) @ self.basis
        axes: Tensor = self.basis - along + self.basis @ (self.basis.T @ along)
        return axes

    def of(self, latents: Tensor) -> Tensor:
        """The most probable kind of each latent ``(N, d)``: ``(N,)``, int64."""
        means, log_shares, _ = self.beside(latents)
        nearest: Tensor = (latents @ means.T - means.square().sum(1) / 2 + log_shares).argmax(1)
        return nearest

    def beside(self, latents: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Means, logarithms of shares and basis in the dtype and on the device of latents, moved there once."""
        place = latents.device, latents.dtype
        if place not in self._placed:
            self._placed[place] = self.means.to(latents), self.log_shares.to(latents), self.basis.to(latents)
        return self._placed[place]

    @cached_property
    def _placed(self) -> dict[tuple[torch.device, torch.dtype], tuple[Tensor, Tensor, Tensor]]:
        return {}

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_placed"}

    def part(self, sums: LatentSums, part: Part) -> LatentSums:
        """Sums of the content or of the look of latents, from sums, or rows of them, of the latents.

        Args:
            sums: Of latents, with the square sum of their content.
            part: ``"content"``, in coordinates of the basis, or ``"look"``.

        """
        basis, d = self.beside(sums.sum)[2], len(self.basis)
        assert sums.content_square_sum is not None

        def of_part(values: Tensor) -> Tensor:
            """From ``(z, ||z||^2, ||c||^2)`` in the last dimension to the part and its squared norm."""
            z, squares, content_squares = values[..., :d], values[..., d : d + 1], values[..., d + 1 :]
            if part == "content":
                return torch.cat([z @ basis, content_squares], -1)
            return torch.cat([z - z @ basis @ basis.T, squares - content_squares], -1)

        squares = torch.stack([sums.square_sum, sums.content_square_sum], -1)
        found = of_part(torch.cat([sums.sum, squares], -1))
        moment = sums.second_moment
        return LatentSums(
            found[..., :-1], found[..., -1], sums.count, None if moment is None else of_part(of_part(moment).T)
        )


def sums_of(latents: Tensor, kinds: Kinds | None, second_moment: bool = False) -> LatentSums:
    """Sums of latents ``(N, d)``, with what the parts need where there are kinds."""
    if kinds is None:
        return latent_sums(latents, second_moment)
    latents = latents.to(torch.float32 if latents.device.type == "mps" else torch.float64)
    sums = latent_sums(latents, second_moment, latents @ kinds.beside(latents)[2])
    return replace(sums, kind_counts=one_hot(kinds.of(latents), len(kinds)).sum(0))


def rows_of_images(latents: Tensor, kinds: Kinds | None) -> LatentSums:
    """Sums of each latent ``(N, d)`` by itself, a row an image."""
    latents = latents.to(torch.float32 if latents.device.type == "mps" else torch.float64)
    ones = torch.ones(len(latents), dtype=torch.int64, device=latents.device)
    rows = LatentSums(latents, latents.square().sum(1), ones)
    if kinds is None:
        return rows
    content = (latents @ kinds.beside(latents)[2]).square().sum(1)
    return replace(rows, content_square_sum=content, kind_counts=one_hot(kinds.of(latents), len(kinds)))
