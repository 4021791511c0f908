"""RL2 of the same patches in batches of 1, 7 and 64, in order and shuffled: the relative range of the values.

python benchmarks/exactness.py FAKE REAL [--weights NAME_OR_PATH]
"""

import argparse

import torch

from torchmetrics_rl2 import ResNetL2
from torchmetrics_rl2.images import ImageReader, find_images


def main() -> None:
    """Print all values and their relative range."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fake")
    parser.add_argument("real")
    parser.add_argument("--weights", default="lung-colon")
    arguments = parser.parse_args()
    sides = {
        real: torch.cat([batch.images for batch in ImageReader().read(find_images(source))])
        for real, source in ((False, arguments.fake), (True, arguments.real))
    }
    for debiased in (False, True):
        values = []
        for size in (1, 7, 64):
            for order in ("in order", "shuffled"):
                metric = ResNetL2(arguments.weights, debiased=debiased)
                for real, images in sides.items():
                    generator = torch.Generator().manual_seed(size)
                    index = torch.arange(len(images))
                    if order == "shuffled":
                        index = torch.randperm(len(images), generator=generator)
                    for chosen in index.split(size):
                        metric.update(images[chosen], real=real)
                values.append(metric.compute().double().item())
                print(f"debiased={debiased!s:5} batches of {size:2} {order:8} {values[-1]:.8f}", flush=True)
        print(f"debiased={debiased!s:5} relative range {(max(values) - min(values)) / max(values):.1e}")


if __name__ == "__main__":
    main()
