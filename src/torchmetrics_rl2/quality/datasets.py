"""Screened datasets for training: doubtful patches left out, or drawn less often."""

from collections.abc import Callable, Sized
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor
from torch.utils.data import Dataset, Subset, WeightedRandomSampler

from torchmetrics_rl2.images.loading import read_ahead, to_array
from torchmetrics_rl2.pixels.stain import Stain
from torchmetrics_rl2.quality.screener import PatchScreener, Verdicts

__all__ = ["keep_good", "sample_by_quality", "screen_dataset"]


def first_of(item: Any) -> Tensor:
    """The image of an item: its first part, if it has several."""
    image: Tensor = item[0] if isinstance(item, tuple | list) else item
    return image


def screen_dataset(
    dataset: Dataset[Any],
    screener: PatchScreener,
    *,
    stain: Stain | None = None,
    image: Callable[[Any], Tensor] = first_of,
    batch_size: int = 64,
    workers: int = 0,
) -> Verdicts:
    """Verdicts on all items of a dataset, in its order.

    Args:
        dataset: Of a known length; its items are images of one size, or tuples that begin with one.
        screener: With what.
        stain: Of the slide that all of them are of, if they are of one.
        image: Takes the image ``(3, H, W)``, uint8 or floating point in [0, 1], out of an item.
        batch_size: Images a batch.
        workers: Processes that read.

    Example:
        >>> import torch
        >>> from torch.utils.data import TensorDataset
        >>> from torchmetrics_rl2 import PatchScreener
        >>> from torchmetrics_rl2.quality import keep_good, screen_dataset
        >>> dataset = TensorDataset(torch.full((3, 3, 224, 224), 240, dtype=torch.uint8), torch.arange(3))
        >>> verdicts = screen_dataset(dataset, PatchScreener("lung-colon"))
        >>> len(keep_good(dataset, verdicts))
        0

    """
    if len(dataset) == 0:  # type: ignore[arg-type]
        raise ValueError("There is nothing to screen: the dataset is empty.")
    batches = read_ahead(_Images(dataset, image), workers, batch_size)
    return Verdicts.cat([screener(torch.from_numpy(np.stack(batch)), stain) for batch in batches])


def keep_good(dataset: Dataset[Any], verdicts: Verdicts) -> Subset[Any]:
    """The items that a screen keeps.

    Args:
        dataset: What was screened.
        verdicts: Of :func:`screen_dataset`.

    Raises:
        ValueError: If they are of another number of items.

    """
    if len(dataset) != len(verdicts):  # type: ignore[arg-type]
        raise ValueError(f"There are {len(verdicts)} verdicts on {len(dataset)} items.")  # type: ignore[arg-type]
    return Subset(dataset, torch.nonzero(verdicts.keep).flatten().tolist())


def sample_by_quality(
    verdicts: Verdicts, num_samples: int | None = None, *, least: float = 0.0, generator: Generator | None = None
) -> WeightedRandomSampler:
    """A sampler that draws patches in proportion to their percentile, with replacement, and rejected ones at ``least``.

    Args:
        verdicts: Of :func:`screen_dataset`.
        num_samples: How many to draw; by default as many as there are kept ones.
        least: Weight of rejected patches, between 0 and 1; kept ones have 0.01 to 1.
        generator: Of the draw.

    Raises:
        ValueError: If nothing can be drawn.

    """
    weights = torch.where(verdicts.keep, (verdicts.percentile / 100).clamp(0.01, 1), torch.tensor(least))
    if not bool((weights > 0).any()):
        raise ValueError(f"None of {len(verdicts)} patches was kept, so there is nothing to draw.")
    count = max(1, int(verdicts.keep.sum())) if num_samples is None else num_samples
    return WeightedRandomSampler(weights.tolist(), count, generator=generator)


class _Images(Dataset[np.ndarray[Any, Any]]):
    def __init__(self, dataset: Dataset[Any], image: Callable[[Any], Tensor]) -> None:
        self.dataset, self.image = dataset, image

    def __len__(self) -> int:
        assert isinstance(self.dataset, Sized)
        return len(self.dataset)

    def __getitem__(self, index: int) -> np.ndarray[Any, Any]:
        image = torch.as_tensor(self.image(self.dataset[index]))
        return to_array(image if image.dtype == torch.uint8 else image.float())
