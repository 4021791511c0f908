"""Statistics of sources: images are read, encoded and added up; statistics are merged with them."""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from torchmetrics_rl2.distance.merging import check_same_weights
from torchmetrics_rl2.distance.statistics import Statistics
from torchmetrics_rl2.distance.sums import stack
from torchmetrics_rl2.encoder.encoded import Encoded
from torchmetrics_rl2.encoder.encoder import LatentEncoder
from torchmetrics_rl2.encoder.own import OwnEncoder
from torchmetrics_rl2.encoder.sharing import any_encoder_of
from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.images.find import left_out_sentence
from torchmetrics_rl2.images.hub_datasets import ImageStream
from torchmetrics_rl2.images.reader import ImageReader
from torchmetrics_rl2.runtime import Progress, default_device, default_workers
from torchmetrics_rl2.scoring.duplicates import Seen, repeated_sentences
from torchmetrics_rl2.scoring.encoding import Encoding
from torchmetrics_rl2.scoring.sources import ImageSource, number_of_files

__all__ = ["Watch", "encoder_for", "image_reader", "measure", "sentences_on", "settings_of"]

PENDING = 64

Watch = Callable[[Encoded], None]
"""Shown all images of a side, some at a time."""


def image_reader(
    tile: int | None,
    scale: float | None,
    batch_size: int,
    workers: int | None,
    device: str | torch.device | None,
    skip_unreadable: bool,
    processes: int = 1,
) -> ImageReader:
    """How images are read, with the number of workers that suits the device and the processes of this machine."""
    workers = default_workers(workers, default_device(device), processes)
    return ImageReader(tile, scale, batch_size, workers, skip_unreadable)


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
    how: Encoding,
    progress: Progress | None,
    side: str,
    watch: Sequence[Watch] = (),
    other: Seen | None = None,
) -> tuple[Statistics, Seen]:
    """Statistics of all that was found, as one without classes, and what was seen of its images.

    Args:
        found: Images and statistics.
        how: How images become latents.
        progress: Told of each batch.
        side: What progress calls it.
        watch: Shown all images, some at a time.
        other: Images of the other side, to be compared with.

    Raises:
        RL2Error: If none could be read.

    """
    seen = Seen(how.reader.tile is not None, other)
    sources = [one for one in found if isinstance(one, ImageSource)]
    total = number_of_files(found)
    if progress and total:
        progress(side, 0, total, 0)
    chunks = iter(how.chunks(side, sources))
    parts, unreadable, done = [], list[str](), 0
    for one in found:
        if isinstance(one, Statistics):
            parts.append(replace(one, classes={}))
            continue
        added, px = list[Statistics](), set[tuple[int, int]]()
        listed = next(chunks)
        if isinstance(one.paths, ImageStream):
            encoded = how.of_stream(side, one.paths, done, progress)
        else:
            encoded = how.of(side, listed, progress)
        done += len(one.paths)
        for images in encoded:
            unreadable += images.unreadable
            if not images.paths:
                continue
            names = [one.groups[path] for path in images.paths] if one.groups else None
            assert how.encoder is not None
            added.append(how.encoder.statistics(images.latents, seen.see(images, names)))
            for see in watch:
                see(images)
            px.update(images.px)
            if len(added) == PENDING:
                added = [Statistics.merge(added)]
        if added:
            settings = {"tile": how.reader.tile, "scale": how.reader.scale, "px": sorted(map(list, px))}
            parts.append(replace(Statistics.merge(added), source=one.source, settings=settings))
    if not parts:
        named = ", ".join(one.source for one in found)
        raise RL2Error(f"None of the {len(unreadable)} files of {named} could be read: {unreadable[-1]}")
    merged = Statistics.merge(parts)
    repeated = seen.repeated(merged.kinds)
    if merged.groups is None and repeated is not None:
        copies = [part for part in (merged.repeated, repeated) if part is not None]
        merged = replace(merged, repeated=stack(copies))
    left_out = (os.fspath(path) for one in sources for path in one.left_out)
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
