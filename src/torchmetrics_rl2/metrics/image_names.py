"""Names of images that ``update`` takes, as groups or classes, and names as states of a metric."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["CLASSES", "GROUPS", "ImageNames", "Naming", "to_bytes", "to_names"]

ImageNames = str | int | Sequence[str | int] | Tensor | np.ndarray[Any, Any]
"""What ``update`` takes as groups and as classes: one name for a batch, or one for each image."""

END = "\0"


@dataclass(frozen=True)
class Naming:
    """What images are named by.

    Args:
        option: Of the metric and of ``update``.
        one: A single one, and what its states are called.
        examples: What such names are of.
        purpose: What the metric does with them.
        instead: What to do with images that have none.

    """

    option: str
    one: str
    examples: str
    purpose: str
    instead: str

    def check(self, given: ImageNames | None, is_wanted: bool, is_needed: bool, count: int) -> list[str]:
        """Names of a batch, one for each of its images; empty where there are none and none are needed.

        Args:
            given: A name for the whole batch, or one for each image.
            is_wanted: Whether the metric was made for names.
            is_needed: Whether it needs them for this batch.
            count: Number of images.

        Raises:
            ValueError: If they are given and not wanted, or needed and not given, there are more or fewer than images,
                or one is no text and no whole number.

        """
        if given is not None and not is_wanted:
            raise ValueError(
                f"ResNetL2 was given {self.option}, but keeps the sums of all images alone. Make it with "
                f"{self.option}=True to {self.purpose}, or leave {self.option} out of update."
            )
        if given is None and is_needed:
            raise ValueError(
                f"ResNetL2({self.option}=True) expects {self.option} with every batch, the {self.examples} of each "
                f"image, but got none. {self.instead}, or make the metric without {self.option}=True."
            )
        return [] if given is None else self._names_of(given, count)

    def _names_of(self, given: Any, count: int) -> list[str]:
        given = given.tolist() if isinstance(given, Tensor | np.ndarray) else given
        names = list(given) if isinstance(given, Iterable) and not isinstance(given, str) else [given] * count
        if len(names) != count:
            raise ValueError(
                f"ResNetL2 expects a {self.one} for each of {count} images, but got {len(names)} {self.option}."
            )
        for name in names:
            is_text = isinstance(name, str) and END not in name
            if not is_text and (not isinstance(name, Integral) or isinstance(name, bool)):
                raise ValueError(
                    f"ResNetL2 expects names of {self.examples} as {self.option}, text or whole numbers, but got "
                    f"{name!r} among {len(names)}."
                )
        return [str(name) for name in names]


GROUPS = Naming(
    "groups",
    "group",
    "slide or patient",
    "take groups as units",
    "Name a generated image that is like no other by itself",
)
CLASSES = Naming(
    "classes",
    "class",
    "tissue, stain or label",
    "compare both sides within each class",
    "Name images of no class by a class of their own, such as 'other'",
)


def to_bytes(names: Sequence[str]) -> Tensor:
    """Names as UTF-8, each with a zero byte after it: text of any length that can be gathered and joined."""
    text = "".join(f"{name}{END}" for name in names)
    # Names of files may hold bytes that are no text.
    return torch.from_numpy(np.array(bytearray(text.encode(errors="surrogateescape")), dtype=np.uint8))


def to_names(data: Tensor) -> tuple[str, ...]:
    """What :func:`to_bytes` made, as names."""
    text = data.cpu().numpy().tobytes().decode(errors="surrogateescape")
    return tuple(text.split(END)[:-1])
