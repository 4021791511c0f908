"""At most so many items, evenly spread: of a stream as it goes by, or of a list."""

from collections.abc import Sequence
from typing import Generic, TypeVar, overload

from torch import Tensor

__all__ = ["EvenSample", "evenly"]

T = TypeVar("T")


class EvenSample(Generic[T]):
    """At most so many items of a stream, evenly spread: all, then every second, every fourth, as it goes on.

    Args:
        most: How many items at most.

    """

    def __init__(self, most: int) -> None:
        self.items: list[T] = []
        self._most, self._stride, self._seen = most, 1, 0

    def wanted(self, count: int) -> range:
        """Which of the next items it may take, so that what is not wanted need not be computed."""
        return range(-self._seen % self._stride, count, self._stride)

    def add(self, item: T) -> None:
        """Offer the next item."""
        if self._seen % self._stride == 0:
            self.items.append(item)
        self._seen += 1
        if len(self.items) > self._most:
            self.items, self._stride = self.items[::2], 2 * self._stride


@overload
def evenly(items: Tensor, most: int) -> Tensor: ...
@overload
def evenly(items: Sequence[T], most: int) -> Sequence[T]: ...
def evenly(items: Tensor | Sequence[T], most: int) -> Tensor | Sequence[T]:
    """At most so many of a list, or of the rows of a tensor, evenly spread."""
    if len(items) <= most:
        return items
    chosen = [i * len(items) // most for i in range(most)]
    return items[chosen] if isinstance(items, Tensor) else [items[i] for i in chosen]
