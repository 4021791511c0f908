"""Images/s of ``ResNetL2.update`` beside the bare torchvision ResNet-18 on the same tensors, in one run.

python benchmarks/speed.py [--px 224] [--batch-size 32] [--device cpu]
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torchvision.models import resnet18

from torchmetrics_rl2 import ResNetL2


def rate(run: Callable[[], object], images: int, repeats: int, device: torch.device) -> tuple[float, float, float]:
    """Median, least and greatest images/s, after one run that does not count."""
    rates = []
    for repeat in range(repeats + 1):
        start = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize()
        if repeat:
            rates.append(images / (time.perf_counter() - start))
    return statistics.median(rates), min(rates), max(rates)


def main() -> None:
    """Print one line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--px", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--device", default="cpu", type=torch.device)
    arguments = parser.parse_args()
    device, count = arguments.device, arguments.batch_size
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (count, 3, arguments.px, arguments.px), dtype=torch.uint8, generator=generator).to(
        device
    )
    floats = images.float() / 255
    bare, last = (resnet18(weights=None).eval().to(device) for _ in range(2))
    last = last.to(memory_format=torch.channels_last)
    metric = ResNetL2("lung-colon").to(device)
    with torch.no_grad():
        runs = {
            "ResNet-18 alone, float32": lambda: bare(floats),
            "ResNet-18 alone, channels last": lambda: last(floats.contiguous(memory_format=torch.channels_last)),
            "ResNetL2.update, uint8": lambda: metric.update(images, real=True),
        }
        print(f"torch {torch.__version__}, {device}, {torch.get_num_threads()} threads, {count} x {arguments.px} px")
        for name, run in runs.items():
            median, least, most = rate(run, count, arguments.repeats, device)
            print(f"{name:32}{median:8.1f} images/s ({least:.1f}-{most:.1f})")


if __name__ == "__main__":
    main()
