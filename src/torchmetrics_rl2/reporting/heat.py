"""Pictures of where in an image a distance comes from."""

from collections.abc import Sequence

import torch
from PIL import ImageColor
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.v2.functional import rgb_to_grayscale

from torchmetrics_rl2.encoder.encoder import LatentEncoder
from torchmetrics_rl2.explaining.images import SeenImages
from torchmetrics_rl2.explaining.places import CELL, WINDOW, places
from torchmetrics_rl2.images.sampling import evenly
from torchmetrics_rl2.reporting.charts import COLORS
from torchmetrics_rl2.reporting.pictures import images_of, picture_uri
from torchmetrics_rl2.scoring.scored import Scored

__all__ = ["OTHER_SIZES", "heat_of", "why_no_heat"]

OTHER_SIZES = "Where in the images is not shown: images of one size, of 48 px or more, are needed."

REALS = 24
STRENGTH = 0.85


def why_no_heat(scored: Scored) -> str:
    """Why no places can be shown, if so."""
    if not isinstance(scored.encoder, LatentEncoder):
        return "Where in the images is not shown: it needs the weights of a ResNet-18, not an encoder of your own."
    if not scored.seen.get("real", SeenImages()).names:
        return "Where in the images is not shown: it needs real images, and there are only sums of them."
    return ""


def heat_of(scored: Scored, names: Sequence[str]) -> dict[str, str]:
    """Images with what lies furthest from the real ones in color, as data URIs; of those that can be read.

    Args:
        scored: A result with images on both sides.
        names: Of the generated images, as ``seen`` has them.

    """
    encoder = scored.encoder
    assert isinstance(encoder, LatentEncoder)

    def encode(images: Tensor) -> Tensor:
        z: Tensor = encoder.flow(encoder.features(images.to(encoder.device)))[0]
        return z

    of_real = evenly(scored.seen["real"].names, REALS)
    reals = [image for _, image in images_of(of_real, scored.seen["real"], scored.reader)]
    images = dict(images_of(names, scored.seen["fake"], scored.reader))
    px = {image.shape for image in (*reals, *images.values())}
    if not reals or not images or len(px) > 1 or min(next(iter(px))[1:]) < WINDOW:
        return {}
    real, fake = (scored.sides[side].sums for side in ("real", "fake"))
    difference = fake.sum / fake.count - real.sum / real.count
    maps = places(torch.stack([*images.values()]), torch.stack(reals), difference, encode)
    strongest = float(maps.max()) or 1.0
    return {
        name: picture_uri(_painted(image, one / strongest))
        for (name, image), one in zip(images.items(), maps, strict=True)
    }


def _painted(image: Tensor, strength: Tensor) -> Tensor:
    """A gray image under color, the more the stronger."""
    height, width = (CELL * cells for cells in strength.shape)
    smooth = F.interpolate(strength[None, None], (height, width), mode="bilinear")
    smooth = F.pad(smooth, (0, image.shape[2] - width, 0, image.shape[1] - height), mode="replicate")[0]
    opacity = STRENGTH * smooth.clamp(0, 1).float()
    gray = rgb_to_grayscale(image, 3).float()
    color = torch.tensor(ImageColor.getrgb(COLORS["fake"]), dtype=torch.float32).view(3, 1, 1)
    painted: Tensor = gray * (1 - opacity) + color * opacity
    return painted.round().to(torch.uint8)
