"""Features of images, computed once and kept on disk."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from torchmetrics_rl2.images.reader import ImageReader
from torchmetrics_rl2.networks.extractor import FeatureExtractor
from torchmetrics_rl2.runtime import Progress, default_device

__all__ = []

SHARD = 128


def feature_device(accelerator: str) -> torch.device:
    """Where features are computed under a Trainer's accelerator."""
    return default_device({"auto": None, "gpu": "cuda"}.get(accelerator, accelerator))


def features_of(
    extractor: FeatureExtractor,
    paths: Sequence[Path],
    reader: ImageReader,
    shards: Path,
    progress: Progress | None,
) -> list[dict[str, Any]]:
    """Features ``(N, 512)``, their files, px (``None`` if not square) and unreadable files, in shards on disk."""
    found = []
    for start in range(0, len(paths), SHARD):
        shard = shards.with_name(f"{shards.name}-{start // SHARD:05}.pt")
        if not shard.exists():
            features, files, px, skipped = [torch.empty(0, 512)], [], set(), len(reader.unreadable)
            if progress:
                progress(f"features to {shards.name}", start, len(paths), 0)
            for batch in reader.read(paths[start : start + SHARD]):
                height, width = batch.images.shape[-2:]
                px.add(width if height == width else None)
                files += [str(path.resolve()) for path in batch.paths]
                features.append(extractor(batch.images.to(extractor.device)).cpu())
                if progress:
                    progress(f"features to {shards.name}", start + reader.files_read, len(paths), len(batch.images))
            part = shard.with_suffix(f".{os.getpid()}")
            torch.save(
                {
                    "features": torch.cat(features),
                    "files": files,
                    "px": list(px),
                    "unreadable": reader.unreadable[skipped:],
                },
                part,
            )
            part.replace(shard)
        found.append(torch.load(shard, weights_only=True))
    return found
