"""Runs that go on after they were ended, and that several devices share: of scores, statistics, screens and audits."""

import logging
import multiprocessing
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from torchmetrics_rl2.cli.output import drop, errors, fail, progress_bars
from torchmetrics_rl2.errors import RL2Error

if TYPE_CHECKING:
    from torchmetrics_rl2.runtime import Progress

# They talk in each process before anything of ours is called there.
for _name in ("fabric.utilities.distributed", "fabric.utilities.rank_zero", "pytorch.utilities.rank_zero"):
    logging.getLogger(f"lightning.{_name}").setLevel(logging.ERROR)
logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.ERROR)

TERMINATED, INTERRUPTED = 143, 130
PATIENCE = 5
Verb = Callable[[str | None, bool], None]
"""Computes and prints, given a device, and whether it shares the work with other processes."""


class _Terminated(BaseException):
    """SIGTERM came."""


def on_devices(
    verb: Verb, device: str | None, devices: int, nodes: int, resume: Path | None, can_resume: bool = True
) -> None:
    """Compute here, or with a process for each of several devices, and end with a sentence and a code in any case.

    Args:
        verb: What to compute, which can be pickled.
        device: Which to compute on.
        devices: How many of each machine.
        nodes: How many machines.
        resume: The folder in which the run is kept, if it is.
        can_resume: Whether the verb can keep a run in a folder, which its processes then share.

    Raises:
        RL2Error: If there are no such devices.

    """
    if devices < 1 or nodes < 1:
        raise RL2Error(f"A run needs at least one device and one node, but got {devices} and {nodes}.")
    way = _way(resume, can_resume)
    if devices * nodes == 1:
        with _ended_by_sentence(way) if resume else nullcontext():
            verb(device, False)
        return
    if nodes > 1 and resume is None and can_resume:
        raise RL2Error("Several machines share their work through a folder that all see. Give it with --resume.")
    from torchmetrics_rl2.runtime import require_lightning

    require_lightning("Computing on several devices")
    with _ended_by_sentence(way):
        _launch(verb, device, devices, nodes, way)


def prints(distributed: bool) -> bool:
    """Whether this process prints: the only one, or the first."""
    import torch.distributed as dist

    return not distributed or dist.get_rank() == 0


@contextmanager
def progress_of(distributed: bool) -> Iterator["Progress | None"]:
    """Bars, and warnings as one line, of the process that prints."""
    if prints(distributed):
        with progress_bars() as report:
            yield report
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield None


def _launch(verb: Verb, device: str | None, devices: int, nodes: int, way: str) -> None:
    """A process for each device, started here unless torchrun or SLURM has done so."""
    from lightning.fabric import Fabric
    from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
    from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
    from lightning.fabric.strategies.ddp import DDPStrategy
    from lightning.fabric.utilities.exceptions import MisconfigurationException
    from torch.distributed import DistError
    from torch.multiprocessing.spawn import ProcessExitedException

    if device is not None and ":" in device:
        raise RL2Error(f"--device {device} is one, but --devices {devices} asks for several. Give --device cuda.")
    is_started = TorchElasticEnvironment.detect() or SLURMEnvironment.detect()
    # What processes tell each other is small, and goes over the network, whatever they compute on.
    strategy = DDPStrategy(process_group_backend="gloo", start_method="popen" if is_started else "spawn")
    accelerator = {None: "auto", "cuda": "gpu"}.get(device, device or "")
    try:
        fabric = Fabric(accelerator=accelerator, devices=devices, num_nodes=nodes, strategy=strategy)
        environment = strategy.cluster_environment
        if environment is not None:
            environment.validate_settings(num_devices=devices, num_nodes=nodes)
    except (MisconfigurationException, ValueError, RuntimeError) as error:
        raise RL2Error(f"{devices} device(s) on each of {nodes} machine(s) cannot be used: {error}") from error
    try:
        fabric.launch(partial(_process, verb=verb, way=way, is_started=is_started))
    except DistError as error:
        raise RL2Error(f"The processes of this run do not find each other: {error}") from error
    except ProcessExitedException as error:
        if error.exit_code > 0 and error.signal_name is None:  # it has said why
            sys.exit(error.exit_code)
        fail(_killed(error.error_index, devices * nodes, error.signal_name or str(error.exit_code), way), 1)


def _process(fabric: Any, verb: Verb, way: str, is_started: bool) -> None:
    """One process of several; the first prints."""
    import torch.distributed as dist

    from torchmetrics_rl2.ranks import ElsewhereError, LostError

    is_first = fabric.global_rank == 0
    try:
        with _ended_by_sentence(way, quiet=not (is_started and is_first)):
            verb(str(fabric.device), True)
            sys.stdout.flush()
    except ElsewhereError:
        return
    except LostError as error:
        if not is_started:  # the process that started this one says so, and ends it
            time.sleep(60)
        if is_first:
            fail(f"{error} {way}", 1)
        sys.exit(1)
    except RL2Error as error:
        fail(str(error))
    except BrokenPipeError:
        drop(sys.stdout)
        sys.exit(1)
    dist.destroy_process_group()


def _killed(rank: int, size: int, by: str, way: str) -> str:
    return (
        f"Process {rank + 1} of {size} was ended by {by}, and the run with it. Where memory runs out, systems end "
        f"processes with SIGKILL. {way}"
    )


def _way(resume: Path | None, can_resume: bool) -> str:
    """How to go on."""
    if resume:
        return f"The same command goes on from what is kept in {resume}."
    return "Nothing is kept of it; with --resume FOLDER a run goes on." if can_resume else "Nothing is kept of it."


@contextmanager
def _ended_by_sentence(way: str, quiet: bool = False) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the run, and the processes that it has started, with a sentence and a code."""

    def terminate(_: int, __: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise _Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        try:
            yield
        except RL2Error:
            # Signals reach the processes that read ahead too, and their end may be noticed first.
            if signal.getsignal(signal.SIGTERM) is signal.SIG_IGN:
                raise _Terminated from None
            raise
    except (KeyboardInterrupt, _Terminated) as ended:
        code, why = (
            (INTERRUPTED, "Interrupted") if isinstance(ended, KeyboardInterrupt) else (TERMINATED, "Ended by SIGTERM")
        )
        if hasattr(signal, "SIGCHLD"):  # by which PyTorch tells of each process that ends
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        started = multiprocessing.active_children()
        for process in started:
            process.terminate()
        for process in started:
            process.join(PATIENCE)
        if not quiet:
            errors.print(f"{why}. {way}")
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, AttributeError):
                stream.flush()
        os._exit(code)  # the end of Python would wait for processes, and complain of those that were ended
    finally:
        signal.signal(signal.SIGTERM, before)
