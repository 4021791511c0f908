"""Where and how things are computed: device, worker processes, versions, exact arithmetic, progress."""

import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from typing import Any

import torch

from torchmetrics_rl2.errors import RL2Error

__all__ = [
    "Progress",
    "default_device",
    "default_workers",
    "exact_arithmetic",
    "is_out_of_memory",
    "one_thread",
    "require_lightning",
    "require_matplotlib",
    "versions",
]

OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory")

Progress = Callable[[str, int, int, int], None]
"""Told what is being done, how much of it is done, how much there is, and images read since the last call."""


@contextmanager
def exact_arithmetic(device: torch.device) -> Iterator[None]:
    """No gradients, no autocast, no TF32 or bfloat16 inside float32, no algorithm chosen by timing."""
    with torch.no_grad(), torch.autocast(device.type, enabled=False), _ieee_float32():
        yield


@contextmanager
def _ieee_float32() -> Iterator[None]:
    backends: Any = torch.backends
    if not hasattr(backends, "fp32_precision"):  # torch before 2.9
        precision = torch.get_float32_matmul_precision()
        with backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            torch.set_float32_matmul_precision("highest")
            try:
                yield
            finally:
                torch.set_float32_matmul_precision(precision)
        return
    units = (backends.cuda.matmul, backends.cudnn.conv, backends.mkldnn.matmul, backends.mkldnn.conv)
    switches: list[tuple[Any, str, object]] = [(unit, "fp32_precision", "ieee") for unit in units]
    switches += [(backends.cudnn, "benchmark", False), (backends.cudnn, "deterministic", True)]
    before = [getattr(owner, name) for owner, name, _ in switches]
    try:
        for owner, name, value in switches:
            setattr(owner, name, value)
        yield
    finally:
        for (owner, name, _), value in zip(switches, before, strict=True):
            setattr(owner, name, value)


@contextmanager
def one_thread() -> Iterator[None]:
    """Sums in one order inside: several threads add up in parts, and round otherwise."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def default_device(device: str | torch.device | None) -> torch.device:
    """The device asked for, else a GPU if there is one, else the CPU."""
    try:
        probe = torch.zeros((), device=device or ("cuda" if torch.cuda.is_available() else "cpu"))
        probe.item()
    except (RuntimeError, AssertionError) as error:
        raise RL2Error(
            f"The device {str(device)!r} cannot be used here; expected cpu, or cuda, cuda:N or mps where there is one."
        ) from error
    return probe.device


def default_workers(workers: int | None, device: torch.device, processes: int = 1) -> int:
    """The number asked for, else none beside a network on the CPU, which needs the cores itself, else up to 8.

    Args:
        workers: The number asked for.
        device: Where the network is.
        processes: How many processes of this machine have workers of their own.

    """
    if workers is not None:
        return workers
    return 0 if device.type == "cpu" else max(1, min(8, (os.cpu_count() or 1) // processes))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device or the machine had too little memory, in the words of PyTorch or behind those of others."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    said = str(error).lower()
    told = isinstance(error, RuntimeError) and any(words in said for words in OUT_OF_MEMORY)
    return told or (error.__cause__ is not None and is_out_of_memory(error.__cause__))


def require_lightning(what: str) -> None:
    """Find out before long work whether there is a trainer.

    Args:
        what: What needs it.

    Raises:
        RL2Error: If it is missing.

    """
    try:
        import lightning.pytorch  # noqa: F401
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "lightning":
            raise
        raise RL2Error(f"{what} needs Lightning: pip install 'torchmetrics-rl2[fit]'") from error


def require_matplotlib() -> None:
    """Find out before long work whether pictures can be drawn.

    Raises:
        RL2Error: If matplotlib is missing.

    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise RL2Error("Pictures need matplotlib: pip install 'torchmetrics-rl2[plot]'.") from error


def versions() -> dict[str, str]:
    """Of what a value depends on."""
    packages = {name: metadata.version(name) for name in ("torchmetrics-rl2", "torch", "torchvision")}
    return {"python": platform.python_version()} | packages
