"""Items read ahead by other processes, whose faults end in a sentence."""

import multiprocessing
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from torchmetrics_rl2.errors import RL2Error

__all__ = ["one_thread", "read_ahead", "read_stream_ahead", "reader_faults", "to_array"]

FAULT = re.compile(r"DataLoader worker.*(exited unexpectedly|is killed by signal)")
AHEAD = 8
S = TypeVar("S")
T = TypeVar("T")
PASSED_ON = "Caught "
"""How PyTorch begins the message of an error that the dataset raised in a worker."""


def read_ahead(dataset: Dataset[Any], workers: int, batch_size: int | None = None) -> Iterator[Any]:
    """Items of a dataset, or lists of so many, in its order.

    Arrays of NumPy come through a pipe. Tensors would come through shared memory, of which a container has little, and
    each would keep a file open.

    Args:
        dataset: Gives arrays, numbers and text; :func:`to_array` makes an array of a tensor.
        workers: Processes that read.
        batch_size: Items a list; ``None`` for single ones.

    Raises:
        RL2Error: If such a process ends before its time, or cannot be started.

    """
    workers = min(workers, len(dataset))  # type: ignore[arg-type]
    loader: DataLoader[Any] = DataLoader(
        dataset, batch_size=batch_size, num_workers=workers, collate_fn=_as_it_is, worker_init_fn=one_thread
    )
    try:
        if workers:
            multiprocessing.Lock()  # which fails where workers would, and leaves nothing half made
        with reader_faults():
            yield from loader
    except (OSError, MemoryError) as error:
        of_dataset = str(error).startswith(PASSED_ON) and not isinstance(error, MemoryError)
        if not workers or of_dataset:
            raise
        raise _failed(error) from error


def read_stream_ahead(items: Iterable[S], function: Callable[[S], T], workers: int) -> Iterator[T]:
    """What a function makes of items that only this process can read, in their order, in threads of their own."""
    ahead: deque[Future[T]] = deque()
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for item in items:
            ahead.append(pool.submit(function, item))
            if len(ahead) >= AHEAD * max(1, workers):
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


@contextmanager
def reader_faults() -> Iterator[None]:
    """Whatever befalls a process of a ``DataLoader`` becomes one sentence."""
    try:
        yield
    except RuntimeError as error:
        if not FAULT.search(str(error)):
            raise
        raise _failed(error) from error


def _failed(error: Exception) -> RL2Error:
    reason = str(error).strip().partition("\n")[0].rstrip(".")
    return RL2Error(
        f"A process that reads images ahead has failed: {reason}. Too little memory, or shared memory in /dev/shm, is "
        "the usual reason. Read with fewer processes, or in this one with --workers 0."
    )


def one_thread(_: int) -> None:
    """Of several processes each has a core for itself."""
    torch.set_num_threads(1)


def to_array(tensor: Tensor) -> np.ndarray[Any, Any]:
    """An array that travels through a pipe, and not through shared memory."""
    return tensor.detach().cpu().contiguous().numpy()


def _as_it_is(items: Any) -> Any:
    return items
