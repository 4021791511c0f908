"""Several processes that measure the same images together: each has its share, and all end alike."""

import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

import torch.distributed as dist

from torchmetrics_rl2.errors import RL2Error

__all__ = ["ElsewhereError", "LostError", "Ranks"]

T = TypeVar("T")
PATIENCE = timedelta(days=30)
"""Others may have much more to read; a process that has ended is noticed at once."""
LETTING_GO = 0.02
"""Seconds in which the threads of Gloo let go of what was exchanged: PyTorch before 2.8 waits forever where a group is
destroyed before (pytorch/pytorch#154976)."""


class ElsewhereError(RL2Error):
    """What ended another process of the run, which says so itself."""


class LostError(RL2Error):
    """Another process of the run is gone."""


class Ranks:
    """The processes of a run: this one alone, or all of the initialized ``torch.distributed``.

    Args:
        distributed: Whether it is all.

    Attributes:
        rank: Number of this process, from 0.
        size: How many there are.
        local: How many there are on this machine.

    Raises:
        RL2Error: If there are none initialized.

    """

    def __init__(self, distributed: bool = False) -> None:
        self.rank, self.size, self.local = 0, 1, 1
        self._group: Any = None
        if not distributed:
            return
        if not (dist.is_available() and dist.is_initialized()):
            raise RL2Error(
                "distributed=True is for processes of an initialized torch.distributed, which there is none of. On the "
                "command line, --devices starts them."
            )
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self._group = dist.new_group(backend="gloo", timeout=PATIENCE)
        self.local = self._gathered(socket.gethostname()).count(socket.gethostname())

    def all(self, function: Callable[[], T]) -> T:
        """What a function returns here, if it fails in no process.

        Raises:
            RL2Error: If it fails in one: in the first process with what it says, in the others as ``ElsewhereError``.

        """
        found, failed = None, None
        try:
            found = function()
        except RL2Error as error:
            if self.size == 1:
                raise
            failed = error
        if self.size > 1:
            self._raise_first(self._gathered(None if failed is None else str(failed)))
        return found  # type: ignore[return-value]

    def first(self, function: Callable[[], T]) -> T:
        """What a function returns in the first process, which alone calls it.

        Raises:
            RL2Error: As of :meth:`all`.

        """
        found = self.all(lambda: function() if self.rank == 0 else None)
        if self.size > 1:
            sent = [found]
            _exchanged(lambda: dist.broadcast_object_list(sent, 0, group=self._group))
            found = sent[0]
        return found  # type: ignore[return-value]

    def agree(self, description: Mapping[str, str]) -> None:
        """Make sure that all processes measure the same with the same.

        Args:
            description: What has to be the same in all.

        Raises:
            RL2Error: If it is not.

        """
        if self.size == 1:
            return
        every = self._gathered(dict(description))
        found: list[str | None] = []
        for rank, own in enumerate(every):
            changed = [f"{key} ({every[0].get(key)} and {own[key]})" for key in own if own[key] != every[0].get(key)]
            found.append(
                f"Process 0 and process {rank} differ in {', '.join(changed)}. All processes of a run need the same "
                "files, weights, options and packages."
                if changed
                else None
            )
        self._raise_first(found)

    def shared(self, count: int, function: Callable[[int], T]) -> list[T]:
        """What a function returns for each number from 0 to ``count - 1``.

        Each number is of one process, which is the first to ask for its next.

        Args:
            count: How many there are.
            function: Called with a number.

        Raises:
            RL2Error: As of :meth:`all`.

        """
        if self.size == 1:
            return [function(number) for number in range(count)]
        store = self._store()  # of the first process, which has it until all have asked
        numbers = iter(lambda: min(_together(lambda: store.add("next", 1)) - 1, count), count)

        def own() -> dict[int, T]:
            try:
                return {number: function(number) for number in numbers}
            except RL2Error:
                for _ in numbers:  # so that the others end soon
                    pass
                raise

        of_ranks = self._gathered(self.all(own))
        every = {number: found for of_rank in of_ranks for number, found in of_rank.items()}
        return [every[number] for number in range(count)]

    def _store(self) -> Any:
        """A store of the first process, which all are connected to."""
        at = partial(dist.TCPStore, os.environ.get("MASTER_ADDR", "localhost"))  # type: ignore[attr-defined]
        own = at(0, is_master=True, wait_for_workers=False) if self.rank == 0 else None
        port = self.first(lambda: own.port if own else 0)
        store = own or _together(lambda: at(port, is_master=False))
        self._gathered(None)
        return store

    def _gathered(self, own: T) -> list[T]:
        """What each process has, in the order of their numbers."""
        every: list[Any] = [None] * self.size
        _exchanged(lambda: dist.all_gather_object(every, own, group=self._group))
        return every

    def _raise_first(self, failed: Sequence[str | None]) -> None:
        for sentence in failed:
            if sentence is not None:
                raise (RL2Error if self.rank == 0 else ElsewhereError)(sentence)


def _exchanged(collective: Callable[[], None]) -> None:
    _together(collective)
    time.sleep(LETTING_GO)


def _together(collective: Callable[[], T]) -> T:
    """A step of all processes, which fails at once where one of them has ended."""
    try:
        return collective()
    except (RuntimeError, EOFError) as error:
        raise LostError(
            "Another process of this run has ended before its time. It may say why; where memory runs out, systems "
            "end processes with SIGKILL, without a word."
        ) from error
