"""A few of many images, each as likely as any other, in bounded memory."""

from collections.abc import Callable

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import resize

from torchmetrics_rl2.pixels.batch import to_8_bit

__all__ = ["MAX_PX", "KeptImages"]

MAX_PX = 224


class KeptImages:
    """A random sample of images with their latents (Vitter's algorithm R).

    Args:
        size: How many to keep.
        seed: Of the draws.

    """

    def __init__(self, size: int, seed: int) -> None:
        self.size, self.seen = size, 0
        self._generator = torch.Generator().manual_seed(seed)
        self._kept: dict[int, tuple[Tensor, Tensor]] = {}

    def see(self, images: Tensor, encode: Callable[[Tensor], Tensor]) -> None:
        """Keep those of a batch that are drawn, in place of earlier ones.

        Args:
            images: ``(N, 3, H, W)``, uint8, or floats in [0, 1].
            encode: Gives latents; it is called with the images that are kept.

        """
        drawn = {}
        for row in range(len(images)):
            place = int(torch.randint(self.seen + 1, (), generator=self._generator))
            place = self.seen if self.seen < self.size else place
            self.seen += 1
            if place < self.size:
                drawn[place] = row
        if drawn:
            chosen = images[list(drawn.values())]
            latents = encode(chosen).detach().cpu()
            for place, image, latent in zip(drawn, _small(chosen), latents, strict=True):
                self._kept[place] = image.clone(), latent.clone()  # a row would keep all of the batch in memory

    @property
    def images(self) -> list[Tensor]:
        """Their pixels, uint8 ``(3, H, W)``, at most 224 px high and wide."""
        return [image for image, _ in self._kept.values()]

    @property
    def latents(self) -> Tensor:
        """Their latents, ``(N, d)``."""
        return torch.stack([latent for _, latent in self._kept.values()]) if self._kept else torch.empty(0, 0)


def _small(images: Tensor) -> Tensor:
    images = images.detach()
    if images.is_floating_point():
        images = to_8_bit(images.float().nan_to_num()).to(torch.uint8)
    sides = images.shape[-2:]
    if max(sides) > MAX_PX:
        images = resize(images, [max(1, round(side * MAX_PX / max(sides))) for side in sides], antialias=True)
    return images.cpu()
