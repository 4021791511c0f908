import os
import time

import pytest
import torch.distributed as dist
from torch.multiprocessing import start_processes

from tests.fixtures.processes import two_ranks
from torchmetrics_rl2 import RL2Error
from torchmetrics_rl2.ranks import Ranks


def joined(rank, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/init", rank=rank, world_size=2)
    return Ranks(distributed=True)


def sharing_main(rank, folder):
    ranks = joined(rank, folder)

    def take(number):
        (folder / f"number-{number}-{rank}").touch()
        while rank == 1 and len(list(folder.glob("number-*"))) < 7:
            time.sleep(0.02)
        return number**2

    (folder / f"found-{rank}").write_text(str([ranks.shared(7, take), ranks.shared(3, int)]))
    dist.destroy_process_group()


@pytest.mark.slow
def test_each_number_is_of_one_process_and_a_busy_one_takes_no_more(tmp_path):
    two_ranks(sharing_main, tmp_path)
    taken = sorted(path.name.split("-")[1:] for path in tmp_path.glob("number-*"))
    assert [number for number, _ in taken] == list("0123456")
    assert [rank for _, rank in taken].count("1") <= 1
    expected = str([[0, 1, 4, 9, 16, 25, 36], [0, 1, 2]])
    assert [(tmp_path / f"found-{rank}").read_text() for rank in range(2)] == [expected] * 2
    assert Ranks().shared(3, lambda number: number**2) == [0, 1, 4]


def failing_main(rank, folder):
    ranks = joined(rank, folder)

    def take(number):
        (folder / f"number-{number}-{rank}").touch()
        if rank == 1:
            raise RL2Error(f"Number {number} is wrong.")
        while not list(folder.glob("number-*-1")):
            time.sleep(0.02)
        time.sleep(0.5)

    try:
        ranks.shared(1000, take)
    except RL2Error as error:
        (folder / f"found-{rank}").write_text(f"{type(error).__name__}: {error}")
    dist.destroy_process_group()


@pytest.mark.slow
def test_one_that_fails_ends_all_soon_and_the_first_says_why(tmp_path):
    two_ranks(failing_main, tmp_path)
    first, second = ((tmp_path / f"found-{rank}").read_text() for rank in range(2))
    failed = next(path.name.split("-")[1] for path in tmp_path.glob("number-*-1"))
    assert first == f"RL2Error: Number {failed} is wrong."
    assert second == f"ElsewhereError: Number {failed} is wrong."
    assert len(list(tmp_path.glob("number-*"))) <= 4


def lost_main(rank, folder, where):
    ranks = joined(rank, folder)
    lost, start = 0 if where == "the first, which counts" else 1, time.monotonic()
    if rank == lost and where == "between steps":
        os._exit(9)
    try:
        if where == "between steps":
            ranks.first(lambda: None)
        ranks.shared(10, lambda _: os._exit(9) if rank == lost else time.sleep(0.1))
    except RL2Error as error:
        (folder / "noticed").write_text(f"{type(error).__name__} {time.monotonic() - start < 5}")


@pytest.mark.slow
@pytest.mark.parametrize("where", ["between steps", "at its share", "the first, which counts"])
def test_a_process_that_is_gone_is_noticed_at_once(tmp_path, where):
    started = start_processes(lost_main, (tmp_path, where), nprocs=2, join=False, start_method="forkserver")
    for process in started.processes:  # whom their launcher would end together
        process.join(60)
    assert sorted(process.exitcode for process in started.processes) == [0, 9]
    assert (tmp_path / "noticed").read_text() == "LostError True"
