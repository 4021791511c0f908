"""Both sets of images in two dimensions."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import eigh
from torch import Tensor

from torchmetrics_rl2.distance.result import RL2Result
from torchmetrics_rl2.distance.text import NO_DIFFERENCE, percent
from torchmetrics_rl2.images.sampling import evenly
from torchmetrics_rl2.scoring.scored import Scored

__all__ = ["Plane", "plane_of"]

Array = NDArray[np.float64]

MAX_LATENTS = 2000
MAX_CHANCE = 0.5  # of the squared RL2: a direction of chance alone parts any two sets in hundreds of dimensions


@dataclass(frozen=True)
class Plane:
    """Places of images in a plane of latent space.

    Args:
        places: Of each image shown, ``(n, 2)``, by side.
        names: Of these images.
        axes: What both directions are.
        sentence: How the plane was chosen.

    """

    places: dict[str, Array]
    names: dict[str, list[str]]
    axes: tuple[str, str]
    sentence: str


def plane_of(scored: Scored, wanted: dict[str, list[str]]) -> Plane:
    """Places of at most 2,000 images a side, evenly spread, and of those that are wanted.

    Args:
        scored: With the latents of at least one side.
        wanted: Names of images to show in any case, by side.

    """
    latents, names = {}, {}
    for side, seen in scored.seen.items():
        if not seen.names:  # sums alone
            continue
        row_of = {name: row for row, name in enumerate(seen.names)}
        chosen = {*evenly(range(len(seen.names)), MAX_LATENTS), *(row_of[name] for name in wanted.get(side, ()))}
        rows = sorted(chosen)
        latents[side], names[side] = seen.all[rows].double(), [seen.names[row] for row in rows]
    means = {side: one.sums.sum.double().cpu() / one.sums.count.cpu() for side, one in scored.sides.items()}
    if _direction_is_known(scored.result):
        return _along_difference(scored.result, latents, names, means)
    middle = (means["real"] + means["fake"]) / 2
    vectors, shares = _components(sum(_moment(z - middle) for z in latents.values()), 2)
    of = "both sides, which count alike" if len(latents) > 1 else "the generated images"
    axes = tuple(f"Principal component {i + 1} ({percent(share)} of the variance)" for i, share in enumerate(shares))
    return Plane(
        {side: ((z - middle) @ vectors).numpy() for side, z in latents.items()},
        names,
        (axes[0], axes[1]),
        f"The plane: the first two principal components of the latents of {of}. No direction from the real to the "
        "generated images is known beyond chance.",
    )


def _direction_is_known(result: RL2Result) -> bool:
    """Whether the means differ, and more than half of the squared distance is not chance."""
    verdict = result.verdict
    return "differ" in verdict and verdict != NO_DIFFERENCE and _by_chance(result) < MAX_CHANCE


def _by_chance(result: RL2Result) -> float:
    """Share of the squared RL2 that chance makes."""
    return 1 - max(result.debiased, 0.0) ** 2 / result.value**2 if result.value else 1.0


def _along_difference(
    result: RL2Result, latents: dict[str, Tensor], names: dict[str, list[str]], means: dict[str, Tensor]
) -> Plane:
    along = (means["fake"] - means["real"]) / result.value

    def rest(z: Tensor) -> Tensor:
        return z - (z @ along)[:, None] * along

    by_chance = percent(_by_chance(result))
    told = f" Chance is {by_chance} of the squared RL2, and pulls the sides apart here, too."
    told = "" if by_chance == percent(0) else told
    within = "both sides" if len(latents) > 1 else "the generated images"
    vectors, shares = _components(sum(_moment(rest(z - means[side])) for side, z in latents.items()), 1)
    directions = torch.stack([along, vectors[:, 0]], 1)
    return Plane(
        {side: ((z - means["real"]) @ directions / result.value).numpy() for side, z in latents.items()},
        names,
        ("Share of RL2 (0: real, 1: generated)", "First component across, in units of RL2"),
        "The plane: to the right the direction from the mean of the real images to that of the generated ones; upward "
        f"the first principal component across it, {percent(shares[0])} of the variance within {within}. Images far "
        f"to the right hold most of RL2.{told}",
    )


def _moment(z: Tensor) -> Tensor:
    return z.T @ z / len(z)


def _components(moment: Tensor | int, count: int) -> tuple[Tensor, list[float]]:
    """The strongest components ``(d, count)``, and their shares of the trace."""
    matrix = torch.as_tensor(moment).numpy()
    d = len(matrix)
    values, vectors = eigh(matrix, subset_by_index=[d - count, d - 1])
    values, vectors = values[::-1], vectors[:, ::-1]
    vectors = vectors * np.sign(vectors[np.abs(vectors).argmax(0), range(count)])  # one sign on all machines
    return torch.from_numpy(vectors.copy()), [float(value / max(np.trace(matrix), 1e-300)) for value in values]
