"""Processes that share out the slides of a screen: their number, their device, and how they are started."""

import os
import signal
import subprocess
import sys

import torch

from torchmetrics_rl2.errors import RL2Error

__all__ = ["device_of", "launch", "reports", "share_of"]

SHARE = "RL2_SCREEN_SHARE"
LAUNCHERS = (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_NTASKS"))
"""Number of the process and of all processes, as torchrun and srun give them."""


def share_of(devices: int, nodes: int) -> tuple[int, int] | None:
    """Number of this process, from 0, and of all processes; ``None`` if it has to start them, with :func:`launch`.

    Args:
        devices: Processes of each machine.
        nodes: Machines.

    Raises:
        RL2Error: If there are none.

    """
    if devices < 1 or nodes < 1:
        raise RL2Error(f"A screen needs at least one device and one node, but got {devices} and {nodes}.")
    if devices * nodes == 1:
        return 0, 1
    if SHARE in os.environ:
        rank, _, processes = os.environ[SHARE].partition("/")
        if not (rank.isdecimal() and processes.isdecimal() and int(rank) < int(processes)):
            raise RL2Error(f"{SHARE} is {os.environ[SHARE]!r}; 'rl2 screen --devices' sets it by itself. Unset it.")
        return int(rank), int(processes)
    for rank_name, size_name in LAUNCHERS:
        if rank_name in os.environ and os.environ.get(size_name) == str(devices * nodes):
            return _number(rank_name, devices * nodes), devices * nodes
    return None


def launch(devices: int, nodes: int) -> None:
    """Run this command once for each device of this machine, and wait.

    Args:
        devices: Processes to start.
        nodes: Machines; each has to know its number from ``NODE_RANK`` or ``SLURM_NODEID``.

    Raises:
        RL2Error: If it does not.

    """
    name = next((name for name in ("NODE_RANK", "SLURM_NODEID") if name in os.environ), None)
    if nodes > 1 and name is None:
        raise RL2Error("Each of several machines has to know its number: set NODE_RANK to 0, 1, ... on them.")
    node = _number(name, nodes) if name and nodes > 1 else 0
    command = [sys.executable, "-c", "from torchmetrics_rl2.cli import main; main()", *sys.argv[1:]]
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    started = [
        subprocess.Popen(command, env={**os.environ, SHARE: f"{rank}/{devices * nodes}"}, stdout=subprocess.DEVNULL)
        for rank in range(node * devices, (node + 1) * devices)
    ]
    try:
        for process in started:
            process.wait()
    finally:
        for process in started:
            process.terminate()
            process.wait()


def reports(share: tuple[int, int]) -> bool:
    """Whether this process prints the result: the first, or the one that started the others."""
    return share[0] == 0 and SHARE not in os.environ


def device_of(share: tuple[int, int]) -> str | None:
    """A GPU for each of several processes, if there are GPUs."""
    if share[1] == 1 or not torch.cuda.is_available():
        return None
    return f"cuda:{share[0] % torch.cuda.device_count()}"


def _number(name: str, count: int) -> int:
    value = os.environ[name]
    if not value.isdecimal() or int(value) >= count:
        raise RL2Error(f"{name} is {value!r}; expected a number from 0 to {count - 1}.")
    return int(value)
