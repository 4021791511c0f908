"""Images after they went through an encoder: all that is needed of them from then on."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from torchmetrics_rl2.pixels.thumbnails import SIDE

__all__ = ["Encoded"]


@dataclass(frozen=True)
class Encoded:
    """What is kept of images, 2.3 kB each; their pixels are not.

    Args:
        paths: The file each came from.
        latents: ``(N, d)``, on the CPU.
        keys: Of their pixels, see :func:`~torchmetrics_rl2.images.duplicates.pixel_keys`.
        formats: Of their files, as Pillow names them.
        px: Height and width of each.
        appearance: Sharpness and stain of some of them, ``(n, 4)``.
        thumbnails: Of all, ``(N, 8, 8)``, see :func:`~torchmetrics_rl2.pixels.thumbnails_of`.
        soft: Latents of the same images softened, ``(N, d)``, if these are needed.
        unreadable: Files that were left out, with the reason.

    """

    paths: Sequence[Path]
    latents: Tensor
    keys: Sequence[str | None] = ()
    formats: Sequence[str] = ()
    px: Sequence[tuple[int, int]] = ()
    appearance: Tensor = field(default_factory=lambda: torch.empty(0, 4))
    thumbnails: Tensor = field(default_factory=lambda: torch.empty(0, SIDE, SIDE))
    soft: Tensor | None = None
    unreadable: Sequence[str] = ()

    @classmethod
    def joined(cls, parts: "Sequence[Encoded]", width: int, unreadable: Sequence[str]) -> "Encoded":
        """All parts as one.

        Args:
            parts: All with ``soft``, or all without; there may be none.
            width: Of a latent.
            unreadable: Files that were left out of all, with the reason.

        """
        if not parts:
            return cls([], torch.empty(0, width), unreadable=unreadable)
        listed = {name: [one for part in parts for one in getattr(part, name)] for name in ("paths", "keys", "px")}
        soft = [part.soft for part in parts if part.soft is not None]
        return cls(
            **listed,
            latents=torch.cat([part.latents for part in parts]),
            formats=[name for part in parts for name in part.formats],
            appearance=torch.cat([part.appearance for part in parts]),
            thumbnails=torch.cat([part.thumbnails for part in parts]),
            soft=torch.cat(soft) if soft else None,
            unreadable=unreadable,
        )

    def rows(self, rows: Sequence[int]) -> "Encoded":
        """These images alone, without their appearance and thumbnails."""
        chosen: dict[str, Any] = {
            name: [getattr(self, name)[i] for i in rows] for name in ("paths", "keys", "formats", "px")
        }
        soft = None if self.soft is None else self.soft[list(rows)]
        chosen |= {name: getattr(self, name)[:0] for name in ("appearance", "thumbnails")}
        return replace(self, **chosen, latents=self.latents[list(rows)], soft=soft)
