"""Which generated images lie furthest from the real ones, and how much of the distance is theirs."""

import math
from dataclasses import replace

import torch
from torch import Tensor

from torchmetrics_rl2.distance.result import RL2Result
from torchmetrics_rl2.distance.text import if_finite
from torchmetrics_rl2.encoder.encoded import Encoded
from torchmetrics_rl2.functional import LatentSums, distance
from torchmetrics_rl2.images.naming import ImageNames

__all__ = ["Outliers"]

SHARE = 0.01
KEPT = 10_000


class Outliers:
    r"""The generated images that lie furthest from the mean of real ones, found in one pass.

    With :math:`k = \lceil n / 100 \rceil` of the :math:`n` generated images, the furthest in latent space from the real
    mean, left out, the share of RL2 that they hold is :math:`1 - \mathrm{RL2}_{without} / \mathrm{RL2}`. It is below 0
    where they pull the mean of the others towards the real one.

    At most 20,000 latents are kept, 40 MB, so :math:`k` is never above 10,000.

    Args:
        center: Mean of the real latents, ``(d,)``.
        tiled: Whether files are cut, so that a file is no name for an image.

    """

    def __init__(self, center: Tensor, tiled: bool = False) -> None:
        self._center = center.cpu().double()
        self._naming = ImageNames(tiled)
        self._latents: list[Tensor] = []
        self._names: list[str] = []

    def see(self, images: Encoded) -> None:
        """Keep those of the next generated images that may be among the furthest."""
        self._latents.append(images.latents)
        self._names += self._naming.of(images.paths)
        if len(self._names) > 2 * KEPT:
            self._furthest(KEPT)

    def add_to(self, result: RL2Result, real: LatentSums, fake: LatentSums) -> RL2Result:
        """A result with the share of RL2 that the furthest 1 % hold, and their names, the furthest first.

        Args:
            result: That of the two sides.
            real: Sums of all real latents.
            fake: Sums of all generated latents, which :meth:`see` has seen; at least two.

        """
        n = int(fake.count)
        latents = self._furthest(min(math.ceil(SHARE * n), KEPT, n - 1))
        without = LatentSums(
            fake.sum - latents.double().sum(0),
            fake.square_sum - latents.double().square().sum(),
            fake.count - len(latents),
        )
        share = float(1 - distance(real, without) / distance(real, fake))
        withheld = {name: reason for name, reason in result.withheld.items() if name != "outlier_share"}
        if not math.isfinite(share):
            withheld["outlier_share"] = f"RL2 is {result.value:.4g}"
        return replace(result, outlier_share=if_finite(share), outliers=list(self._names), withheld=withheld)

    def _furthest(self, count: int) -> Tensor:
        latents = torch.cat(self._latents)
        order = (latents.double() - self._center).square().sum(1).argsort(descending=True, stable=True)[:count]
        self._latents, self._names = [latents[order]], [self._names[i] for i in order.tolist()]
        return self._latents[0]
