"""Whether a slide, as it is stained and scanned, is of the domain of the good patches."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from torchmetrics_rl2.distance.comparing import compare, domain_shift
from torchmetrics_rl2.distance.details import MAX_DOMAIN_SHIFT
from torchmetrics_rl2.distance.statistics import Statistics
from torchmetrics_rl2.distance.text import if_finite
from torchmetrics_rl2.pixels.stain import Stain
from torchmetrics_rl2.pixels.tissue import foreign
from torchmetrics_rl2.quality.measures import NO_WHITE, shares
from torchmetrics_rl2.quality.screener import PatchScreener

__all__ = ["Domain", "domain_of"]


@dataclass(frozen=True)
class Domain:
    """How far a slide, as it is stained and scanned, is from the good patches.

    Args:
        verdict: ``same`` if the interval of the distance includes 0; ``outside`` if the slide is further than half a
            standard deviation of the good patches; ``shifted`` in between; ``unknown`` if there are too few patches or
            groups to tell.
        rl2: Debiased RL2 between up to 200 patches of the slide and the good patches, or its look where the weights
            have kinds of tissue: a slide that shows one kind is no other domain.
        low: Lower end of its 95 % interval, which takes patches of the slide as independent of each other.
        high: Upper end.
        shift: The distance in standard deviations of the good patches (root total variance).

    """

    verdict: str
    rl2: float | None
    low: float | None
    high: float | None
    shift: float | None


def domain_of(screener: PatchScreener, batches: Iterable[torch.Tensor], stain: Stain | None = None) -> Domain:
    """Domain of patches as they are stained; of those alone that are tissue, without ink or black.

    Args:
        screener: Has the good patches.
        batches: uint8 ``(N, 3, H, W)`` each.
        stain: Theirs, if it is known.

    """
    good = screener.calibration
    groups = [str(group) for group in good.groups.tolist()]
    kinds = screener.encoder.kinds
    reference = Statistics.of_latents(good.latents, groups if good.group_count < len(good) else None, kinds)
    latents, white = [], stain.white if stain else NO_WHITE
    for images in batches:
        parts = shares(images, white)
        unstained = foreign(images.float() / 255, white).double().mean((1, 2)) > 0.5
        if len(ours := images[(parts.tissue >= screener.criteria.min_tissue) & ~parts.foreign & ~unstained]):
            latents.append(screener.encoder(ours.to(screener.encoder.device)).cpu())
    if not latents:
        return Domain("unknown", None, None, None, None)
    slide = Statistics.of_latents(torch.cat(latents), None, kinds)
    result = compare(reference, slide)
    found = result.look or result
    shift = domain_shift(reference, slide)
    low, high = map(if_finite, found.interval or (math.nan, math.nan))
    verdict = "outside" if (shift or 0) > MAX_DOMAIN_SHIFT else "shifted" if low and low > 0 else "same"
    return Domain("unknown" if low is None else verdict, if_finite(found.debiased), low, high, shift)
