"""Patches to train a backbone on, drawn and flipped at random."""

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.images.loading import to_array
from torchmetrics_rl2.images.reader import ImageReader

__all__ = ["DrawnPatches", "by_size"]

TILES = 8  # an epoch takes of an image that is cut


class DrawnPatches(Dataset[Tensor]):
    """A patch of each file, flipped at random; several, as far as there are, of a file that is cut into tiles."""

    def __init__(self, files: Sequence[Path], reader: ImageReader, seed: int, epoch: int) -> None:
        self.files, self.seed = files, f"{seed} {epoch}"
        self.draws = TILES if reader.tile else 1
        self.reader = replace(reader, workers=0)

    def __len__(self) -> int:
        return len(self.files) * self.draws

    def __getitem__(self, index: int) -> Tensor:
        file, draw = divmod(index, self.draws)
        # An unreadable file is stood in for by the next, so that all devices have as many batches.
        for number in (*range(file, len(self.files)), *range(file)):
            found = [batch.images for batch in self.reader.read(self.files[number : number + 1])]
            if found:
                tiles = torch.cat(found)
                order = random.Random(f"{self.seed} {number}").sample(range(len(tiles)), len(tiles))
                patch = tiles[order[draw % len(tiles)]]
                flips = random.Random(f"{self.seed} {number} {draw}")
                return patch.flip([axis for axis in (1, 2) if flips.random() < 0.5])
        raise RL2Error(f"None of the {len(self.files)} files that fit the flow could be read.")


def by_size(patches: list[Tensor]) -> list[np.ndarray[Any, Any]]:
    """Batches of patches of one size each, as arrays."""
    sizes: dict[tuple[int, ...], list[Tensor]] = {}
    for patch in patches:
        sizes.setdefault(tuple(patch.shape), []).append(patch)
    return [to_array(torch.stack(same)) for same in sizes.values()]
