"""How far damage moves content, and another composition look: what a part of RL2 is judged beyond."""

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from torchmetrics_rl2.distance.kinds import LEAKS, Kinds
from torchmetrics_rl2.fitting.features import Features
from torchmetrics_rl2.fitting.kinds import FoundKinds
from torchmetrics_rl2.images.reader import ImageReader
from torchmetrics_rl2.images.sampling import evenly
from torchmetrics_rl2.networks.extractor import FeatureExtractor
from torchmetrics_rl2.networks.flow import RealNVP
from torchmetrics_rl2.pixels.degradations import degrade
from torchmetrics_rl2.runtime import Progress

__all__ = ["leak_of_content", "leak_of_look", "leak_sentences", "measure_leaks"]

DAMAGE = (
    ("gaussian blur", 0.25),
    ("gaussian noise", 0.125),
    ("jpeg", 0.526),
    ("rectangles", 0.0625),
    ("hematoxylin", 0.5),
    ("hematoxylin", -0.5),
)
"""Blur of 1 px, noise of 5 %, JPEG at quality 50, rectangles over 5 %, and half an octave of hematoxylin."""

FILES = 48
LARGE = 0.5


@torch.no_grad()
def measure_leaks(
    flow: RealNVP,
    extractor: FeatureExtractor,
    features: Features,
    kinds: FoundKinds,
    units: Sequence[str],
    reader: ImageReader,
    progress: Progress | None,
) -> tuple[float, float]:
    """Both leaks of a flow with several kinds, at least those of :data:`~torchmetrics_rl2.distance.kinds.LEAKS`.

    Args:
        flow: The fitted flow.
        extractor: Computes the features.
        features: Of the split.
        kinds: Of the patches that fit.
        units: Slide, patient or source image of each of these.
        reader: How images are read.
        progress: Whom to tell.

    """
    basis = Kinds(flow.base.means, flow.base.log_shares, kinds.names).basis
    files = [Path(file) for file in evenly(sorted(set(features.fit_files)), FILES)]
    of_look = leak_of_look(flow, extractor, files, reader, basis, progress)
    latents = torch.cat([flow(part)[0] for part in torch.split(features.fit, 1024)]).double()
    of_content = leak_of_content(latents, flow.base.means.double(), kinds.labels, units, basis)
    return max(LEAKS[0], of_look), max(LEAKS[1], of_content)


def leak_of_look(
    flow: RealNVP,
    extractor: FeatureExtractor,
    files: Sequence[Path],
    reader: ImageReader,
    basis: Tensor,
    progress: Progress | None,
) -> float:
    """The most that one of six kinds of damage moves the mean content, as a share of what it moves the mean look.

    Of a file that is cut into tiles, the first counts.
    """

    def latents(images: Tensor) -> Tensor:
        z: Tensor = flow(extractor(images.to(extractor.device)).cpu())[0]
        return z.double()

    moved, seen = torch.zeros(len(DAMAGE), len(basis), dtype=torch.float64), set[Path]()
    for batch in (reading := reader.read(files)):
        images = batch.images[_first_tiles(batch.paths, seen)]
        if not len(images):
            continue
        clean = latents(images)
        for row, (ladder, severity) in enumerate(DAMAGE):
            moved[row] += (latents(degrade(images, ladder, severity)) - clean).sum(0)
        if progress:
            progress("leaks between content and look", reading.done, len(files), len(images) * len(DAMAGE))
    content = moved @ basis
    look = moved - content @ basis.T
    return float((content.norm(dim=1) / look.norm(dim=1).clamp(min=1e-9)).max())


def leak_of_content(latents: Tensor, means: Tensor, kinds: Tensor, units: Sequence[str], basis: Tensor) -> float:
    r"""By how much look moves with composition, because means of kinds are known from so many units alone.

    .. math:: \sqrt{\frac{1}{K} \sum_k \frac{\mathrm{tr}\,S_k}{n_k \lVert \mu_k - \bar\mu \rVert^2}}

    with the covariance :math:`S_k` of the look of a kind and its number of units :math:`n_k`.

    Args:
        latents: Of patches, ``(N, d)``.
        means: Of kinds, ``(K, d)``.
        kinds: Kind of each patch, ``(N,)``.
        units: Unit of each patch.
        basis: Of the content, ``(d, k)``.

    """
    look = latents - latents @ basis @ basis.T
    apart = (means - means.mean(0)).square().sum(1)
    shares = []
    for k in range(len(means)):
        rows = (kinds == k).nonzero().flatten()
        count = len({units[row] for row in rows.tolist()})
        shares.append(float(look[rows].var(0).sum() / count / apart[k].clamp(min=apart.mean() / 100)))
    return math.sqrt(sum(shares) / len(shares))


def leak_sentences(of_look: float, of_content: float) -> list[str]:
    """What to say of leaks so large that a part is hardly ever judged."""
    ends = " More patches, or fewer kinds, make the means of the kinds better known."
    found = []
    if of_look >= LARGE:
        found.append(f"Damage moves content by up to {of_look:.0%} of what it moves look, so content is rarely judged.")
    if of_content >= LARGE:
        found.append(f"Other shares of kinds move look by up to {of_content:.0%} of content, so look is rarely judged.")
    return [" ".join(found) + ends] if found else []


def _first_tiles(paths: Sequence[Path], seen: set[Path]) -> list[int]:
    """Rows of the files that were not seen before, which are then."""
    rows = []
    for row, path in enumerate(paths):
        if path not in seen:
            seen.add(path)
            rows.append(row)
    return rows
