"""RL2 between two sources of images: what ``rl2 score`` does, from Python."""

import os
import platform
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch

from torchmetrics_rl2.encoder import LatentEncoder
from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.functional import LatentSums, distance, latent_sums
from torchmetrics_rl2.images import ImageReader, Progress, find_images

__all__ = ["RL2Result", "score"]


@dataclass(frozen=True)
class RL2Result:
    """A distance, and all that is needed to get it again.

    Args:
        value: RL2 (Eqs. 3 and 4 of the paper).
        debiased: Signed root of the unbiased squared distance.
        n_real: Real images, or tiles of them.
        n_fake: Generated images, or tiles of them.
        real: Where the real side came from; ``"weights"`` for the reference inside the weights.
        fake: Where the generated side came from.
        weights: Name with version, or path.
        weights_id: Which latents these are.
        unreadable: Files that were left out, with the reason.
        settings: ``tile``, ``scale``, ``batch_size``, ``workers`` and ``device``.
        versions: Of Python, torch, torchvision and torchmetrics-rl2.

    """

    value: float
    debiased: float
    n_real: int
    n_fake: int
    real: str
    fake: str
    weights: str
    weights_id: str
    unreadable: list[str]
    settings: dict[str, int | float | str | None]
    versions: dict[str, str]


def score(
    fake: str | Path,
    real: str | Path = "weights",
    *,
    weights: str | Path | LatentEncoder = "lung-colon",
    tile: int | None = None,
    scale: float | None = None,
    batch_size: int = 64,
    workers: int | None = None,
    device: str | torch.device | None = None,
    skip_unreadable: bool = False,
    progress: Progress | None = None,
) -> RL2Result:
    r"""RL2 between generated and real images.

    .. math:: \mathrm{RL2} = \lVert \bar z_r - \bar z_g \rVert_2

    Args:
        fake: Generated images: a folder, a glob, a text file of paths, or one file.
        real: Real images in the same forms, or ``"weights"`` for the reference inside the weights.
        weights: Name or path of weights, or an encoder that has them.
        tile: Cut images into tiles of this side, in pixels.
        scale: Resize by this factor before, antialiased.
        batch_size: Images a batch; the value does not depend on it.
        workers: Processes that read ahead; by default none on a CPU, else up to 8.
        device: Where to compute; by default a GPU if there is one.
        skip_unreadable: Leave out files that cannot be read, and say so in the result.
        progress: Called with ``"real"`` or ``"fake"``, files read, files in all, and images since the last call.

    Returns:
        The distance and how it was measured.

    Raises:
        RL2Error: If a source has fewer than two images, one cannot be read, or the weights are not what they should be.

    Example:
        >>> from torchmetrics_rl2 import score
        >>> result = score("examples/cmu/degraded", "examples/cmu/reference")
        >>> result.n_fake, result.weights
        (40, 'lung-colon@1')

    """
    device = default_device(device)
    reader = ImageReader(tile, scale, batch_size, default_workers(workers, device), skip_unreadable)
    # A folder of that name is given as a Path.
    inside = isinstance(real, str) and real == "weights"
    sources = {"fake": fake} | ({} if inside else {"real": real})
    files = {side: find_images(source) for side, source in sources.items()}
    encoder = weights if isinstance(weights, LatentEncoder) else LatentEncoder.load(weights)
    encoder.to(device)
    if inside and encoder.reference is None:
        raise RL2Error(f"{encoder.name} holds no reference; give real images with --real.")

    sides: dict[str, LatentSums] = {}
    for side, paths in files.items():
        if progress:
            progress(side, 0, len(paths), 0)
        total = latent_sums(torch.empty(0, encoder.num_features, device=device))
        for batch in reader.read(paths):
            total += latent_sums(encoder(batch.images.to(device)))
            if progress:
                progress(side, reader.files_read, len(paths), len(batch.images))
        if total.count < 2:
            raise RL2Error(
                f"RL2 compares sets of images, but {sources[side]} gave {int(total.count)} {side} image(s) "
                f"({len(reader.unreadable)} could not be read); expected at least 2 on each side."
            )
        sides[side] = total.to(torch.device("cpu"))
    if encoder.reference is not None:
        sides.setdefault("real", encoder.reference.sums)
    return RL2Result(
        value=distance(sides["real"], sides["fake"], False).item(),
        debiased=distance(sides["real"], sides["fake"], True).item(),
        n_real=int(sides["real"].count),
        n_fake=int(sides["fake"].count),
        real=os.fspath(real),
        fake=os.fspath(fake),
        weights=encoder.name,
        weights_id=encoder.weights_id,
        unreadable=reader.unreadable,
        settings={
            "tile": tile,
            "scale": scale,
            "batch_size": batch_size,
            "workers": reader.workers,
            "device": str(device),
        },
        versions=versions(),
    )


def default_device(device: str | torch.device | None) -> torch.device:
    """The device asked for, else a GPU if there is one, else the CPU."""
    try:
        chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.zeros((), device=chosen).item()
    except (RuntimeError, AssertionError) as error:
        raise RL2Error(
            f"The device {str(device)!r} cannot be used here; expected cpu, or cuda, cuda:N or mps where there is one."
        ) from error
    return chosen


def default_workers(workers: int | None, device: torch.device) -> int:
    """The number asked for, else none beside a network on the CPU, which needs the cores itself, else up to 8."""
    if workers is not None:
        return workers
    return 0 if device.type == "cpu" else min(8, os.cpu_count() or 1)


def versions() -> dict[str, str]:
    """Of what a value depends on."""
    packages = {name: metadata.version(name) for name in ("torchmetrics-rl2", "torch", "torchvision")}
    return {"python": platform.python_version()} | packages
