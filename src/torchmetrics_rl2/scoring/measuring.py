"""Statistics of sources: images are read, encoded and added up; statistics are merged with them."""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from torchmetrics_rl2.distance.statistics import Statistics, check_same_weights
from torchmetrics_rl2.distance.sums import stack
from torchmetrics_rl2.encoder.encoder import LatentEncoder
from torchmetrics_rl2.encoder.own import OwnEncoder
from torchmetrics_rl2.encoder.sharing import any_encoder_of
from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.images.find import left_out_sentence
from torchmetrics_rl2.images.reader import ImageBatch, ImageReader
from torchmetrics_rl2.runtime import Progress, default_device, default_workers
from torchmetrics_rl2.scoring.duplicates import Seen, repeated_sentences
from torchmetrics_rl2.scoring.sources import ImageSource, number_of_files

__all__ = ["Watch", "encoder_for", "image_reader", "measure", "sentences_on", "settings_of"]

PENDING = 64

Watch = Callable[[ImageBatch, Tensor], None]
"""Shown every batch of images, with its latents."""


def image_reader(
    tile: int | None,
    scale: float | None,
    batch_size: int,
    workers: int | None,
    device: str | torch.device | None,
    skip_unreadable: bool,
) -> ImageReader:
    """How images are read, with the number of workers that suits the device."""
    return ImageReader(tile, scale, batch_size, default_workers(workers, default_device(device)), skip_unreadable)


def encoder_for(
    found: Sequence[Statistics | ImageSource],
    weights: str | Path | nn.Module,
    device: str | torch.device | None,
    always: bool = False,
) -> LatentEncoder | OwnEncoder | None:
    """The encoder, if there are images or ``always``; statistics alone say which weights they have."""
    if not always and all(isinstance(one, Statistics) for one in found):
        return None
    encoder = any_encoder_of(weights, device)
    ours = encoder.statistics(torch.zeros(1, encoder.num_features), source=f"weights {encoder.name}")
    for one in found:
        if isinstance(one, Statistics):
            check_same_weights(one, ours)
    return encoder


def measure(
    found: Sequence[Statistics | ImageSource],
    encoder: LatentEncoder | OwnEncoder | None,
    reader: ImageReader,
    progress: Progress | None,
    side: str,
    watch: Sequence[Watch] = (),
    other: Seen | None = None,
) -> tuple[Statistics, Seen]:
    """Statistics of all that was found, as one, and what was seen of its images.

    Args:
        found: Images and statistics.
        encoder: Of the images; ``None`` if there are none.
        reader: How they are read.
        progress: Told of each batch.
        side: What progress calls it.
        watch: Shown every batch.
        other: Images of the other side, to be compared with.

    Raises:
        RL2Error: If none could be read.

    """
    seen = Seen(reader.tile is not None, other)
    done, total = 0, number_of_files(found)
    if progress and total:
        progress(side, 0, total, 0)
    parts, unreadable = [], list[str]()
    for one in found:
        if isinstance(one, Statistics):
            parts.append(one)
            continue
        assert encoder is not None
        pending, px = [], set()
        for batch in (reading := reader.read(one.paths)):
            names = [one.groups[path] for path in batch.paths] if one.groups else None
            latents = encoder(batch.images.to(encoder.device))
            pending.append(encoder.statistics(latents, seen.see(batch, latents, names)))
            for see in watch:
                see(batch, latents)
            px.add(tuple(batch.images.shape[-2:]))
            if len(pending) == PENDING:
                pending = [Statistics.merge(pending)]
            if progress:
                progress(side, done + reading.done, total, len(batch.images))
        done += reading.done
        unreadable += reading.unreadable
        if pending:
            settings = {"tile": reader.tile, "scale": reader.scale, "px": sorted(map(list, px))}
            parts.append(replace(Statistics.merge(pending), source=one.source, settings=settings))
    if not parts:
        sources = ", ".join(one.source for one in found)
        raise RL2Error(f"None of the {done} files of {sources} could be read: {unreadable[-1]}")
    merged = Statistics.merge(parts)
    repeated = seen.repeated(merged.kinds)
    if merged.groups is None and repeated is not None:
        copies = [part for part in (merged.repeated, repeated) if part is not None]
        merged = replace(merged, repeated=stack(copies))
    left_out = (os.fspath(path) for one in found if isinstance(one, ImageSource) for path in one.left_out)
    return replace(
        merged,
        unreadable=(*merged.unreadable, *unreadable),
        duplicates=(*merged.duplicates, *seen.duplicates),
        left_out=(*merged.left_out, *left_out),
    ), seen


def sentences_on(statistics: Statistics, side: str = "") -> list[str]:
    """What to say of images that repeat others, and of files that are no images."""
    left_out = [Path(name) for name in statistics.left_out]
    return [
        *repeated_sentences(side, statistics.duplicates, len(statistics)),
        *([left_out_sentence(statistics.source, left_out)] if left_out else []),
    ]


def settings_of(reader: ImageReader, encoder: LatentEncoder | OwnEncoder | None) -> dict[str, Any]:
    """How images were read, if any were."""
    if encoder is None:
        return {}
    settings = {name: getattr(reader, name) for name in ("tile", "scale", "batch_size", "workers")}
    return settings | {"device": str(encoder.device)}
