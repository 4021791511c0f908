"""Generated lung patches against real lung tiles, beside lung against lung and tissue of other laboratories.

    python benchmarks/generated_lung.py REFERENCE LUNG NAME=SOURCE [NAME=SOURCE ...]

Every outlier goes the way LC25000's did: its largest centered square is resized to 224 px and compressed at JPEG
quality 75. All sets are cut to the size of the smallest, so that plain values compare.
"""

import argparse
import io
from pathlib import Path

import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

from torchmetrics_rl2 import LatentEncoder
from torchmetrics_rl2.functional import resnet_l2
from torchmetrics_rl2.images import find_images, read_image

PX, QUALITY = 224, 75


def as_lc25000(path: Path) -> Tensor:
    """A uint8 image ``(3, 224, 224)``."""
    pixels = read_image(path)
    square = ImageOps.fit(Image.fromarray(pixels.permute(1, 2, 0).numpy()), (PX, PX), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    square.save(buffer, "JPEG", quality=QUALITY)
    return pil_to_tensor(Image.open(buffer))


def main() -> None:
    """Print RL2, plain and debiased, of every set against lung tiles of the reference split."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reference", help="real lung tiles, a list as printed by recipes/lc25000.py")
    parser.add_argument("lung", help="other real lung tiles")
    parser.add_argument("others", nargs="+", metavar="NAME=SOURCE")
    parser.add_argument("--weights", default="lung-colon")
    arguments = parser.parse_args()
    encoder = LatentEncoder.load(arguments.weights)

    def encode(images: list[Tensor]) -> tuple[Tensor, Tensor]:
        batches = torch.stack(images).split(32)
        z, log_det = (torch.cat(parts) for parts in zip(*map(encoder.encode, batches), strict=True))
        return z, encoder.flow.log_likelihood(z, log_det)

    real, _ = encode([read_image(path) for path in find_images(arguments.reference)])
    sets = {"lung, other tiles": encode([read_image(path) for path in find_images(arguments.lung)])}
    for other in arguments.others:
        name, _, source = other.partition("=")
        sets[name] = encode([as_lc25000(path) for path in find_images(source)])
    n = min(len(z) for z, _ in sets.values())
    print(f"{encoder.name}, {n} images a set (the first after a seeded shuffle) against {len(real)} lung tiles")
    print(f"{'set':28}{'RL2':>9}{'debiased':>10}{'median log-likelihood':>24}")
    for name, (z, likelihood) in sets.items():
        chosen = torch.randperm(len(z), generator=torch.Generator().manual_seed(0))[:n]
        value, debiased = (resnet_l2(real, z[chosen], flag).item() for flag in (False, True))
        print(f"{name:28}{value:9.2f}{debiased:10.2f}{likelihood[chosen].median().item():24.0f}")


if __name__ == "__main__":
    main()
