"""What a screen goes through, and what it needs of it: slides, folders of patches, or anything that does the same."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol

from torch import Tensor

from torchmetrics_rl2.pixels.stain import Stain
from torchmetrics_rl2.screening.options import Outputs
from torchmetrics_rl2.screening.rows import P, PatchRow

__all__ = ["SAMPLE", "Batch", "Grid", "Opened", "Source", "sha256_of_text"]

SAMPLE = 200
"""How many patches tell stain and domain of a source."""


@dataclass(frozen=True)
class Batch(Generic[P]):
    """Patches of one size.

    Args:
        images: uint8 ``(N, 3, H, W)``.
        places: Which patch each is.
        done: How much of the source is read.

    """

    images: Tensor
    places: Sequence[P]
    done: int


@dataclass(frozen=True)
class Grid:
    """Size and resolution of the patches of a source, as in the row of a slide.

    Args:
        mpp: Resolution of the source in um/px, ``None`` if unknown.
        target_mpp: Resolution of its patches.
        px: Side of a tile in pixels; ``None`` for patches from files.
        size: Side of a tile in pixels of level 0; ``None`` for patches from files.

    """

    mpp: float | None
    target_mpp: float | None
    px: int | None = None
    size: float | None = None


class Opened(Protocol[P]):
    """A source that is ready to be read."""

    @property
    def path(self) -> Path:
        """What was given."""

    @property
    def total(self) -> int:
        """How much there is to read: tiles or files."""

    @property
    def grid(self) -> Grid:
        """Size and resolution of its patches."""

    @property
    def unreadable(self) -> int:
        """Files that were left out of the batches so far."""

    def sample(self) -> tuple[Stain, Sequence[Tensor]]:
        """Stain of up to 200 patches, spread evenly, and these patches."""

    def batches(self) -> Iterator[Batch[P]]:
        """All patches."""

    def patch(self, place: P) -> Tensor:
        """One patch again, uint8 ``(3, H, W)``."""

    def write(self, rows: Sequence[PatchRow[P]], folder: Path, name: str, outputs: Outputs, calibrated: bool) -> None:
        """Write what only such sources have, in addition to tables and contact sheet."""


class Source(Protocol):
    """A slide or a folder of patches."""

    @property
    def path(self) -> Path:
        """What was given."""

    @property
    def name(self) -> str:
        """What it is called, unless another source has the same name."""

    @property
    def mpp(self) -> float | None:
        """Its resolution in um/px, if it was given."""

    @property
    def has_target_mpp(self) -> bool:
        """Whether its patches are read at the target resolution, and not as they are."""

    @property
    def identity(self) -> dict[str, int | str]:
        """What decides whether a finished screen is of the same pixels."""

    def open(self, most: int | None = None) -> Opened[Any]:
        """Open it, for at most so many tiles or files, evenly spread.

        Raises:
            RL2Error: If it cannot be screened.

        """


def sha256_of_text(text: str) -> str:
    """Checksum of a listing."""
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
