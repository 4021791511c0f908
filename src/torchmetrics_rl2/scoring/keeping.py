"""A run that is kept in a folder, and shared out among processes through it."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from torchmetrics_rl2.encoder.sharing import identity_of
from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.images.hub_datasets import ImageStream
from torchmetrics_rl2.images.packed import stamp_of
from torchmetrics_rl2.ranks import Ranks
from torchmetrics_rl2.runtime import Progress, versions
from torchmetrics_rl2.scoring.encoding import Encoding
from torchmetrics_rl2.scoring.kept import Kept
from torchmetrics_rl2.scoring.sources import ImageSource

__all__ = ["kept_in"]

Sides = Mapping[str, Sequence[ImageSource]]
SIDES = {"real": "real images", "held-out": "held-out images", "fake": "generated images", "images": "images"}


@contextmanager
def kept_in(
    folder: str | Path | None, how: Encoding, sides: Sides, ranks: Ranks, progress: Progress | None
) -> Iterator[Progress | None]:
    """Keep chunks in a folder while a run goes on, and have those that are missing computed by all processes.

    Args:
        folder: Of the run; ``None`` keeps nothing, or, if there are several processes, a folder of their own until
            they are done.
        how: How files are encoded, which is told where chunks are kept.
        sides: The images of each.
        ranks: Processes that share them out.
        progress: Told of each batch of this process.

    Yields:
        Whom the first process, which goes on alone, has to tell.

    Raises:
        RL2Error: If the folder is of another run, processes differ, or one fails.

    """
    if (folder is None and ranks.size == 1) or how.encoder is None:
        yield progress
        return
    if any(isinstance(one.paths, ImageStream) for sources in sides.values() for one in sources):
        raise RL2Error(
            "A streaming data set is read once and in order, so that nobody can share it out or go on in its middle. "
            "Load it with streaming=False, or leave out resume and devices."
        )
    ranks.agree(_described(how, sides))
    opened = Path(ranks.first(lambda: str(_opened(folder, how, sides))))
    try:
        how.kept = Kept(opened, lasting=folder is not None)
        ranks.all(how.kept.check_seen)
        if ranks.size > 1:
            _share_out(how, sides, ranks, progress)
        yield progress if ranks.size == 1 else None
    finally:
        if folder is None and ranks.rank == 0:
            shutil.rmtree(opened, ignore_errors=True)


def _opened(folder: str | Path | None, how: Encoding, sides: Sides) -> Path:
    try:
        place = Path(tempfile.mkdtemp(prefix="rl2-") if folder is None else folder)
    except OSError as error:
        raise RL2Error(f"No temporary folder can be made: {error.strerror}. Give one with --resume.") from error
    Kept.open(place, _described(how, sides, sizes=True))
    return place


def _share_out(how: Encoding, sides: Sides, ranks: Ranks, progress: Progress | None) -> None:
    """Encode what falls to this process of all chunks that are missing."""
    kept = how.kept
    assert kept is not None
    there = ranks.first(kept.names)
    planned = [(side, chunks) for side, sources in sides.items() for chunks in how.chunks(side, sources)]
    missing = [chunk.name for _, chunks in planned for chunk in chunks if chunk.name not in there]
    mine = set(missing[ranks.rank :: ranks.size])

    def encode() -> None:
        try:
            for side, chunks in planned:
                for _ in how.of(side, [chunk for chunk in chunks if chunk.name in mine], progress):
                    if kept.stopped:
                        return
        except RL2Error:
            kept.stop()
            raise

    ranks.all(encode)
    for side, chunks in planned:
        if progress and chunks:
            progress(side, chunks[0].total, chunks[0].total, 0)


def _described(how: Encoding, sides: Sides, sizes: bool = False) -> dict[str, str]:
    """What processes, and with the sizes of files a run and the one that it goes on with, have to have in common."""
    assert how.encoder is not None
    return {
        **{SIDES[side]: _digest_of(sources, sizes) for side, sources in sides.items()},
        "weights": identity_of(how.encoder),
        "tile": str(how.reader.tile),
        "scale": str(how.reader.scale),
        **{name: version for name, version in versions().items() if name != "python"},
    }


def _digest_of(sources: Sequence[ImageSource], sizes: bool) -> str:
    found, count = hashlib.sha256(), 0
    for one in sources:
        for path in one.paths:
            found.update(os.fsencode(path) + f"\0{stamp_of(path) if sizes else ''}\0".encode())
        count += len(one.paths)
        found.update(b"\0")
    return f"{count} files, {'names and sizes' if sizes else 'names'} {found.hexdigest()[:12]}"
