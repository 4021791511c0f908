"""Kinds of tissue among the patches that fit a flow: by labels, or as clusters of their features."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.cluster.vq import ClusterError, kmeans2
from torch import Tensor

from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.fitting.features import names_of
from torchmetrics_rl2.networks.flow import RealNVP
from torchmetrics_rl2.runtime import Progress

__all__ = [
    "MAX_KINDS",
    "MAX_LABELS",
    "FoundKinds",
    "confused_kinds",
    "describe_kinds",
    "find_kinds",
    "kinds_of_fit",
    "label_kinds",
    "prediction_strength",
]

Array = NDArray[np.float64]
Labels = NDArray[np.int64]

MAX_KINDS, MAX_LABELS = 16, 32
MIN_PATCHES = 8
PATCHES_A_KIND = 16  # on average, for K to be tried
COMPONENTS = 16
SAMPLE = 1000
SPLITS = 10
RESTARTS = 5
STABLE = 0.75
GAUSSIANS = 19  # so that one Gaussian is above all of them in 5 % of cases
TYPICAL = 5


@dataclass(frozen=True)
class FoundKinds:
    """Kinds of tissue of patches.

    Args:
        labels: The kind of each patch, ``(N,)`` int64, none of them empty.
        names: Of the kinds.
        strengths: Where they were looked for, for each number of kinds that was tried the prediction strength of the
            patches, and the highest of sets from one Gaussian; ``None`` where that was not needed.

    """

    labels: Tensor
    names: tuple[str, ...]
    strengths: Mapping[int, tuple[float, float | None]]

    def __len__(self) -> int:
        return len(self.names)


def kinds_of_fit(
    features: Tensor,
    files: Sequence[str],
    units: Sequence[str],
    kinds: Mapping[Path, str] | int | None,
    seed: int,
    progress: Progress | None,
) -> FoundKinds:
    """Kinds of the patches that fit a flow: by labels, or found.

    Args:
        features: Theirs, ``(N, d)``.
        files: Theirs, resolved.
        units: Slide, patient or source image of each.
        kinds: The kind of each patch by its path, or how many to look for; ``None`` finds them.
        seed: Of all draws.
        progress: Whom to tell.

    Raises:
        RL2Error: As :func:`label_kinds` and :func:`find_kinds`.

    """
    if isinstance(kinds, Mapping):
        return label_kinds(names_of(files, kinds))
    return find_kinds(features, units, seed, kinds, progress)


def label_kinds(labels_of_patches: Sequence[str]) -> FoundKinds:
    """Kinds by labels.

    Args:
        labels_of_patches: The kind of each patch.

    Raises:
        RL2Error: If there is one kind, there are too many, or one has too few patches.

    """
    names = tuple(sorted(set(labels_of_patches)))
    labels = torch.tensor([names.index(label) for label in labels_of_patches])
    if not 2 <= len(names) <= MAX_LABELS:
        counted = "one kind" if len(names) == 1 else f"{len(names)} kinds"
        raise RL2Error(
            f"The patches that fit the flow are of {counted}, {', '.join(names[:3])}; expected 2 to "
            f"{MAX_LABELS}. Leave --kinds out to have kinds found, or give --kinds 1 for none."
        )
    counts = labels.bincount(minlength=len(names)).tolist()
    fewest, name = min(zip(counts, names, strict=True))
    if fewest < MIN_PATCHES:
        raise RL2Error(
            f"The kind {name} has {fewest} patches that fit the flow; expected at least {MIN_PATCHES}. Join it with "
            "another kind, or leave it out."
        )
    return FoundKinds(labels, names, {})


def find_kinds(
    features: Tensor,
    groups: Sequence[str],
    seed: int = 0,
    count: int | None = None,
    progress: Progress | None = None,
) -> FoundKinds:
    """Kinds as clusters of features: k-means on their 16 leading principal components.

    The number of kinds is the largest up to 16 whose prediction strength is at least 0.75, and above that of each of 19
    sets of as many draws from one Gaussian of the same covariance, which splits in two quite stably, too; else 1.

    Args:
        features: ``(N, d)``.
        groups: Slide, patient or source image of each.
        seed: Of all draws.
        count: Number of kinds; ``None`` to find it.
        progress: Whom to tell.

    Raises:
        RL2Error: If there are too few patches for so many kinds.

    """
    x = _components(features)
    strengths = {} if count else _strengths(x, np.array(groups), seed, progress)
    if count is None:
        stable = [k for k, (own, gaussian) in strengths.items() if gaussian is not None and own > gaussian]
        count = max(stable, default=1)
    clusters = _k_means(x, count, seed) if count == 1 or count <= len(x) // MIN_PATCHES else None
    sizes = [0] if clusters is None else np.bincount(clusters[0], minlength=count)
    if clusters is None or min(sizes) < (MIN_PATCHES if count > 1 else 1):
        if strengths:
            return FoundKinds(torch.zeros(len(x), dtype=torch.int64), ("kind 1",), strengths)
        raise RL2Error(
            f"The {len(x)} patches that fit the flow do not make {count} clusters of {MIN_PATCHES} or more. Ask for "
            "fewer kinds, or leave --kinds out to have them found."
        )
    order = np.argsort(-np.asarray(sizes), kind="stable")
    labels = np.argsort(order)[clusters[0]]
    return FoundKinds(torch.from_numpy(labels), tuple(f"kind {k + 1}" for k in range(count)), strengths)


def prediction_strength(x: Array, groups: NDArray[Any], count: int, seed: int = 0) -> float:
    """Prediction strength of a number of clusters (Tibshirani and Walther 2005), of random halves of groups.

    The clusters of one half are compared with those that the centers of the other half make of it: the share of the
    pairs of a cluster that stay together, of the cluster where that is lowest; the mean over ten pairs of halves.

    Args:
        x: ``(N, d)``.
        groups: Of each, ``(N,)``; those of one group are in one half.
        count: Number of clusters.
        seed: Of the halves.

    """
    draws, names, found = np.random.default_rng(seed), np.unique(groups), []
    for split in range(SPLITS):
        first = np.isin(groups, draws.permutation(names)[: len(names) // 2])
        own, other = _k_means(x[~first], count, split), _k_means(x[first], count, split)
        if own is None or other is None:
            found.append(0.0)
            continue
        predicted = np.square(x[~first][:, None] - other[1]).sum(2).argmin(1)
        shares = []
        for k in range(count):
            sizes = np.bincount(predicted[own[0] == k], minlength=count)
            n = int(sizes.sum())
            shares.append(float((sizes * (sizes - 1)).sum()) / (n * (n - 1)) if n > 1 else 1.0)
        found.append(min(shares))
    return float(np.mean(found))


@torch.no_grad()
def describe_kinds(flow: RealNVP, features: Tensor, kinds: FoundKinds) -> tuple[list[dict[str, Any]], list[list[int]]]:
    """Name, share and spread of each kind, and the rows of the patches nearest to its mean.

    Args:
        flow: The fitted flow.
        features: Of the patches that fit it, ``(N, d)``.
        kinds: Theirs.

    """
    latents = torch.cat([flow(part)[0] for part in torch.split(features, 1024)])
    described, typical = [], []
    for k, name in enumerate(kinds.names):
        rows = (kinds.labels == k).nonzero().flatten()
        apart = (latents[rows] - flow.base.means[k]).norm(dim=1)
        share, spread = len(rows) / len(latents), math.sqrt(float(apart.square().mean()))
        described.append({"name": name, "share": round(share, 4), "spread": round(spread, 2)})
        typical.append(rows[apart.argsort()[:TYPICAL]].tolist())
    return described, typical


@torch.no_grad()
def confused_kinds(flow: RealNVP, features: Tensor, labels: Sequence[str], names: Sequence[str]) -> list[str]:
    """A sentence for each kind that the flow does not tell from the others.

    Args:
        flow: The fitted flow.
        features: Of held-out patches, ``(N, d)``.
        labels: The kind of each, by its label.
        names: Of the kinds of the flow.

    """
    likeliest = flow.kinds(flow(features)[0]).argmax(1).tolist()
    sentences = []
    for name in names:
        taken = Counter(names[k] for k, label in zip(likeliest, labels, strict=True) if label == name)
        others = (taken - Counter({name: taken[name]})).most_common(1)
        if others and 2 * taken[name] < taken.total():
            sentences.append(
                f"The flow knows {taken[name]} of {taken.total()} held-out patches of the kind {name}, and takes most "
                f"others for {others[0][0]}: content hardly sees this kind. Give it more patches, or join the two."
            )
    return sentences


def _components(features: Tensor) -> Array:
    centered = features.double() - features.double().mean(0)
    _, _, vectors = torch.linalg.svd(centered, full_matrices=False)
    return cast(Array, (centered @ vectors[:COMPONENTS].T).numpy())


def _strengths(
    x: Array, groups: NDArray[Any], seed: int, progress: Progress | None
) -> dict[int, tuple[float, float | None]]:
    draws = np.random.default_rng(seed)
    if len(x) > SAMPLE:
        rows = draws.choice(len(x), SAMPLE, replace=False)
        x, groups = x[rows], groups[rows]
    most = min(MAX_KINDS, len(x) // PATCHES_A_KIND, len(np.unique(groups)) // 4)
    if most < 2:
        return {1: (1.0, 1.0)}
    covariance, each = np.cov(x.T), np.arange(len(x))
    gaussians = [
        draws.multivariate_normal(np.zeros(x.shape[1]), covariance, len(x), method="eigh") for _ in range(GAUSSIANS)
    ]
    found: dict[int, tuple[float, float | None]] = {}
    for k in range(2, most + 1):
        found[k] = prediction_strength(x, groups, k, seed), None
        if progress:
            progress("kinds of tissue, numbers tried", k, most, 0)
    for k, (own, _) in sorted(found.items(), reverse=True):
        if own >= STABLE:
            highest = 0.0
            for number, gaussian in enumerate(gaussians, 1):
                highest = max(highest, prediction_strength(gaussian, each, k, seed))
                if progress:
                    progress(f"whether {k} kinds are more than one Gaussian", number, GAUSSIANS, 0)
                if highest >= own:
                    break
            found[k] = own, highest
            if own > highest:
                break
    return found


def _k_means(x: Array, count: int, seed: int) -> tuple[Labels, Array] | None:
    """Labels and centers of the tightest of several tries; ``None`` if all left a cluster empty."""
    best, least = None, math.inf
    for restart in range(RESTARTS):
        try:
            centers, labels = kmeans2(
                x, count, minit="++", seed=np.random.default_rng([seed, restart]), iter=50, missing="raise"
            )
        except ClusterError:
            continue
        apart = float(np.square(x - centers[labels]).sum())
        if apart < least:
            best, least = (labels.astype(np.int64), centers), apart
    return best
