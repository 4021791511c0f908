"""Which generated images a distance comes from."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from torchmetrics_rl2.distance.explanation import ImageShare
from torchmetrics_rl2.distance.kinds import Kinds
from torchmetrics_rl2.encoder.encoded import Encoded
from torchmetrics_rl2.images.naming import ImageNames

__all__ = ["SeenImages", "image_shares", "order_of_images"]

SHOWN = 12


@dataclass
class SeenImages:
    """Latents and names of the images of one side, 2 kB an image.

    Args:
        tiled: Whether files are cut.

    """

    tiled: bool = False
    latents: list[Tensor] = field(default_factory=list)
    names: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._naming = ImageNames(self.tiled)

    def see(self, images: Encoded) -> None:
        """Keep the next images."""
        self.latents.append(images.latents)
        self.names += self._naming.of(images.paths)

    @property
    def all(self) -> Tensor:
        """Latents of all, ``(N, d)``."""
        return torch.cat(self.latents) if self.latents else torch.empty(0, 0)


def image_shares(latents: Tensor, real: Tensor, fake: Tensor) -> Tensor:
    r"""Share of each image in the distance of two means, ``(N,)``; that of all images is 1 on average.

    .. math:: \langle z_i - \bar z_r, \bar z_g - \bar z_r \rangle / \lVert \bar z_g - \bar z_r \rVert^2

    Args:
        latents: Of generated images, ``(N, d)``.
        real: Mean of the real latents, ``(d,)``.
        fake: Mean of the generated ones, ``(d,)``.

    """
    difference = (fake - real).double()
    return (latents.double() - real.double()) @ difference / difference.square().sum()


def order_of_images(
    generated: SeenImages, reals: SeenImages, real: Tensor, fake: Tensor, kinds: Kinds | None
) -> tuple[list[ImageShare], list[ImageShare]]:
    """The images that hold most of a distance, worst first, and those of the others whose share is nearest to 1.

    Args:
        generated: Images of the generated side.
        reals: Those of the real side, if it is images.
        real: Mean of the real latents, ``(d,)``.
        fake: Mean of the generated ones.
        kinds: Of the weights, if they have several.

    """
    latents = generated.all.double()
    shares = {"share": image_shares(latents, real, fake)}
    if kinds is not None:
        basis = kinds.basis
        content = [z.double() @ basis for z in (latents, real, fake)]
        shares["content"] = image_shares(*content)
        look = [z.double() - c @ basis.T for z, c in zip((latents, real, fake), content, strict=True)]
        shares["look"] = image_shares(*look)
    others = reals.all.double()

    def described(rows: Sequence[int]) -> list[ImageShare]:
        nearest = _nearest(latents[list(rows)], others) if len(others) else []
        return [
            ImageShare(
                generated.names[row],
                **{name: float(values[row]) for name, values in shares.items()},
                nearest=reals.names[nearest[i]] if nearest else "",
            )
            for i, row in enumerate(rows)
        ]

    share = shares["share"]
    worst = [row for row in share.argsort(descending=True, stable=True)[:SHOWN].tolist() if share[row] >= 1]
    candidates = (share - 1).abs().argsort(stable=True)[: 2 * SHOWN].tolist()
    typical = [row for row in candidates if row not in worst][:SHOWN]
    return described(worst), described(typical)


def _nearest(latents: Tensor, others: Tensor) -> list[int]:
    """The row of others that is nearest to each latent."""
    squares = others.square().sum(1) - 2 * latents @ others.T
    rows: list[int] = squares.argmin(1).tolist()
    return rows
