"""Whether a slide, as it is stained and scanned, is of the kind of the good patches."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from torchmetrics_rl2.distance.comparing import compare, domain_shift
from torchmetrics_rl2.distance.result import MAX_DOMAIN_SHIFT, if_finite
from torchmetrics_rl2.distance.statistics import Statistics
from torchmetrics_rl2.quality.screener import PatchScreener

__all__ = ["Domain", "domain_of"]


@dataclass(frozen=True)
class Domain:
    """How far a slide, as it is stained and scanned, is from the good patches.

    Args:
        verdict: ``same`` if the interval of the distance includes 0; ``outside`` if the slide is further than half the
            spread of good patches; ``shifted`` between; ``unknown`` of too few patches or groups.
        rl2: Debiased RL2 between up to 200 patches of the slide and the good ones.
        low: Lower end of its 95 % interval, of patches as independent of each other.
        high: Upper end.
        spreads: The distance in spreads of the good patches, root total variance.

    """

    verdict: str
    rl2: float | None
    low: float | None
    high: float | None
    spreads: float | None


def domain_of(screener: PatchScreener, batches: Iterable[torch.Tensor]) -> Domain:
    """Domain verdict on patches as they are.

    Args:
        screener: Knows the good patches.
        batches: uint8 ``(N, 3, H, W)`` each.

    """
    good = screener.calibration
    groups = [str(group) for group in good.groups.tolist()]
    reference = Statistics.of_latents(good.latents, groups if good.group_count < len(good) else None)
    latents = torch.cat([screener.encoder(images.to(screener.encoder.device)).cpu() for images in batches])
    slide = Statistics.of_latents(latents)
    result = compare(reference, slide)
    spreads = domain_shift(reference, slide)
    low, high = map(if_finite, result.interval or (math.nan, math.nan))
    verdict = "outside" if (spreads or 0) > MAX_DOMAIN_SHIFT else "shifted" if low and low > 0 else "same"
    return Domain("unknown" if low is None else verdict, if_finite(result.debiased), low, high, spreads)
