"""Files become latents, chunk by chunk: computed here, or taken from the folder in which a run keeps them."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from torchmetrics_rl2.encoder.encoded import Encoded
from torchmetrics_rl2.encoder.encoder import LatentEncoder
from torchmetrics_rl2.encoder.own import OwnEncoder
from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.images.duplicates import pixel_keys
from torchmetrics_rl2.images.reader import TO_SKIP, ImageBatch, ImageReader, Reading
from torchmetrics_rl2.pixels.thumbnails import thumbnails_of
from torchmetrics_rl2.runtime import Progress, is_out_of_memory
from torchmetrics_rl2.scoring.comparability import appearance_of, stride_of
from torchmetrics_rl2.scoring.kept import Kept
from torchmetrics_rl2.scoring.sources import ImageSource

__all__ = ["CHUNK", "TILED_CHUNK", "Chunk", "Encoding", "views_of"]

CHUNK, TILED_CHUNK = 256, 16
"""Files that are kept together: what is lost at most if a run is killed, and what devices take in turn."""

STREAM_STRIDE = 8
"""Of a stream nobody knows the length, so that every so many images stand for its looks."""

SOFT_PX = 2.0
SOFT_KERNEL = 13


@dataclass(frozen=True)
class Chunk:
    """Files that are encoded together.

    Args:
        name: Of the file that they are kept in.
        paths: The files.
        first: How many files of the side come before.
        total: How many files the side has.

    """

    name: str
    paths: Sequence[Path]
    first: int
    total: int


@dataclass
class Encoding:
    """How files become latents.

    Args:
        encoder: Of the images; ``None`` if there are none.
        reader: How they are read.
        soft: Whether softened images are encoded too.
        kept: Where chunks are kept, if they are.

    """

    encoder: LatentEncoder | OwnEncoder | None
    reader: ImageReader
    soft: bool = False
    kept: Kept | None = None
    _most: int | None = field(default=None, init=False)

    def chunks(self, side: str, sources: Sequence[ImageSource]) -> list[list[Chunk]]:
        """The chunks of each source of a side; they depend on nothing but the files.

        Args:
            side: Its name.
            sources: All that it has.

        """
        total, first, found = sum(len(one.paths) for one in sources), 0, list[list[Chunk]]()
        size = CHUNK if self.reader.tile is None else TILED_CHUNK
        for number, one in enumerate(sources):
            starts = range(0, len(one.paths), size)
            found.append(
                [
                    Chunk(f"{side}-{number}-{at // size:05}", one.paths[at : at + size], first + at, total)
                    for at in starts
                ]
            )
            first += len(one.paths)
        return found

    def of(self, side: str, chunks: Sequence[Chunk], progress: Progress | None = None) -> Iterator[Encoded]:
        """The images of chunks, in their order; those that are not kept are computed, and kept.

        Args:
            side: What progress calls it.
            chunks: Of one source.
            progress: Told of each batch.

        Raises:
            RL2Error: If a file cannot be read, unless such files are skipped, or a batch takes too much memory.

        """
        there = self.kept.names() if self.kept else set()
        computed = self._computed(side, [chunk for chunk in chunks if chunk.name not in there], progress)
        for chunk in chunks:
            encoded = self.kept.load(chunk.name, chunk.paths) if self.kept and chunk.name in there else next(computed)
            if encoded is None:  # damaged
                encoded = next(self._computed(side, [chunk], progress))
            if encoded.unreadable and not self.reader.skip_unreadable:
                kept = self.kept if self.kept and self.kept.lasting and chunk.name in there else None
                hint = f" If it was mended since, start anew: {kept.folder} keeps what was read." if kept else ""
                raise RL2Error(f"{encoded.unreadable[0]} {TO_SKIP}{hint}")
            if progress and chunk.name in there:
                progress(side, chunk.first + len(chunk.paths), chunk.total, 0)
            yield encoded

    def of_stream(
        self, side: str, stream: Sequence[Path], before: int, progress: Progress | None = None
    ) -> Iterator[Encoded]:
        """The images of a stream, batch by batch; nothing of it can be kept.

        Args:
            side: What progress calls it.
            stream: Read once.
            before: How many files of the side come before.
            progress: Told of each batch.

        Raises:
            RL2Error: As :meth:`of`.

        """
        reading, told = self.reader.read(stream), 0
        for batch in reading:
            looked = {path for path in batch.paths if int(path.name) % STREAM_STRIDE == 0}
            encoded = replace(self._encoded(batch, looked), unreadable=reading.unreadable[told:])
            told = len(reading.unreadable)
            if progress:
                progress(side, before + reading.done, 0, len(batch.images))
            yield encoded
        assert self.encoder is not None
        yield Encoded.joined([], self.encoder.num_features, reading.unreadable[told:])

    def _computed(self, side: str, chunks: Sequence[Chunk], progress: Progress | None) -> Iterator[Encoded]:
        readings = self.reader.read_parts([chunk.paths for chunk in chunks])
        for chunk, reading in zip(chunks, readings, strict=True):
            with self.kept.told() if self.kept else nullcontext():
                encoded = self._chunk(side, chunk, reading, progress)
                if self.kept:
                    self.kept.save(chunk.name, encoded, chunk.paths)
            yield encoded

    def _chunk(self, side: str, chunk: Chunk, reading: Reading, progress: Progress | None) -> Encoded:
        stride, parts = stride_of(chunk.total), list[Encoded]()
        looked = {path for i, path in enumerate(chunk.paths, chunk.first) if i % stride == 0}
        for batch in reading:
            parts.append(self._encoded(batch, looked))
            if progress:
                progress(side, chunk.first + reading.done, chunk.total, len(batch.images))
        assert self.encoder is not None
        return Encoded.joined(parts, self.encoder.num_features, reading.unreadable)

    def _encoded(self, batch: ImageBatch, looked: set[Path]) -> Encoded:
        latents, soft, thumbnails = self._latents(batch.images)
        rows = [i for i, path in enumerate(batch.paths) if path in looked]
        assert self.encoder is not None
        return Encoded(
            batch.paths,
            latents,
            pixel_keys(batch.images),
            batch.formats,
            [(batch.images.shape[-2], batch.images.shape[-1])] * len(batch.images),
            appearance_of(batch.images[rows].to(self.encoder.device)) if rows else torch.empty(0, 4),
            thumbnails,
            soft,
        )

    def _latents(self, images: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
        """Latents, those of the softened images, and thumbnails, in smaller batches once memory was too small."""
        while True:
            size = min(self._most or len(images), len(images))
            try:
                found = [self._views(images[at : at + size]) for at in range(0, len(images), size)]
            except (RuntimeError, MemoryError, RL2Error) as error:
                if not is_out_of_memory(error):
                    raise
                self._halve(images[:size], error)
                continue
            plain, soft, thumbnails = zip(*found, strict=True)
            return torch.cat(plain), torch.cat(soft) if self.soft else None, torch.cat(thumbnails)

    def _views(self, images: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
        assert self.encoder is not None
        images = images.to(self.encoder.device)
        thumbnails = thumbnails_of(images).cpu()
        if self.soft:
            return *views_of(self.encoder, images), thumbnails
        return self.encoder(images).detach().cpu(), None, thumbnails

    def _halve(self, images: Tensor, error: Exception) -> None:
        assert self.encoder is not None
        device, count = self.encoder.device, len(images)
        of = f"{count} images of {images.shape[-2]} x {images.shape[-1]} px"
        if self._most is not None or count == 1:
            way = f"Give --batch-size {max(1, count // 2)} or less" if count > 1 else "Cut images, with --tile"
            raise RL2Error(
                f"A batch of {of} needs more memory than {device} has left. {way}, leave the device to this run alone, "
                "or take another with --device."
            ) from error
        self._most = count // 2
        if device.type == "cuda":
            torch.cuda.empty_cache()
        warnings.warn(
            f"A batch of {of} needs more memory than {device} has left, so batches have {self._most} from here on. "
            f"--batch-size {self._most} does so from the start; values depend on it by rounding alone.",
            stacklevel=2,
        )


def views_of(encoder: LatentEncoder | OwnEncoder, images: Tensor) -> tuple[Tensor, Tensor]:
    """Latents of images, and of the same softened by 2 px, where blur, noise and compression of a copy are gone.

    Args:
        encoder: Of the images.
        images: uint8 ``(N, 3, H, W)``.

    """
    from torchvision.transforms.v2.functional import gaussian_blur

    images = images.to(encoder.device)
    plain = encoder(images)
    soft = encoder(gaussian_blur(images, [SOFT_KERNEL, SOFT_KERNEL], [SOFT_PX, SOFT_PX]))
    return plain.detach().cpu(), soft.detach().cpu()
