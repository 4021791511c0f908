import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from torchmetrics_rl2 import RL2Error
from torchmetrics_rl2.images import ImageReader
from torchmetrics_rl2.images.loading import read_ahead, to_array


class Numbers(Dataset):
    def __init__(self, fault=None):
        self.fault = fault

    def __len__(self):
        return 6

    def __getitem__(self, index):
        if index == 3 and self.fault:
            self.fault()
        return np.full(2, index)


def killed():
    os.kill(os.getpid(), signal.SIGKILL)


def exhausted():
    raise MemoryError("no more")


def test_items_come_in_order_and_in_lists():
    assert [int(item[0]) for item in read_ahead(Numbers(), 2)] == list(range(6))
    assert [len(items) for items in read_ahead(Numbers(), 2, 4)] == [4, 2]
    assert list(read_ahead(Numbers(), 0, 4))[1][0].tolist() == [4, 4]


@pytest.mark.parametrize("fault", [killed, exhausted, lambda: sys.exit(3)])
def test_a_fault_of_a_reader_ends_in_a_sentence_in_seconds(fault):
    start = time.monotonic()
    with pytest.raises(RL2Error, match="A process that reads images ahead has failed: .*--workers 0"):
        list(read_ahead(Numbers(fault), 2))
    assert time.monotonic() - start < 20


def test_what_the_caller_does_wrong_is_no_fault_of_a_reader():
    with pytest.raises(ZeroDivisionError):
        [1 // (item[0] - item[0]).item() for item in read_ahead(Numbers(), 2)]


def undecodable():
    raise FileNotFoundError("there is no x.png")


def test_what_the_dataset_raises_is_passed_on():
    with pytest.raises(FileNotFoundError, match=r"there is no x\.png"):
        list(read_ahead(Numbers(undecodable), 2))


def test_images_do_not_pass_through_shared_memory(patches, monkeypatch):
    def refuse(*_):
        raise RuntimeError("unable to write to file </torch_1>: No space left on device (28)")

    monkeypatch.setattr("torch.multiprocessing.reductions.reduce_storage", refuse)
    batches = list(ImageReader(workers=2).read(sorted((patches / "a").iterdir())))
    assert sum(len(batch.images) for batch in batches) == 8


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounts a file system")
def test_a_full_dev_shm_ends_in_a_sentence(patches, tmp_path):
    """With 4 kB there is no room for a semaphore."""
    program = (
        "from torchmetrics_rl2.images import ImageReader, find_images; "
        f"reading = ImageReader(workers=2).read(find_images({str(patches / 'a')!r})); "
        "print(sum(len(batch.images) for batch in reading))"
    )
    script = 'mount -t tmpfs -o size=4k tmpfs /dev/shm && head -c 4096 /dev/zero > /dev/shm/full; "$0" -c "$1"'
    try:
        done = subprocess.run(
            ["unshare", "-m", "bash", "-c", script, sys.executable, program],
            capture_output=True,
            text=True,
            timeout=100,
        )
    except FileNotFoundError:
        pytest.skip("there is no unshare")
    if "unshare failed" in done.stderr or "mount:" in done.stderr:
        pytest.skip("mounting is not allowed here")
    assert done.stdout.strip() == "8" or "RL2Error: A process that reads images ahead has failed" in done.stderr


def test_tensors_become_arrays_wherever_they_are():
    assert to_array(torch.ones(2, requires_grad=True)).tolist() == [1, 1]
    assert to_array(torch.arange(6).view(2, 3).T).flags["C_CONTIGUOUS"]
