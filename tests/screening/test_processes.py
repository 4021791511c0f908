import sys

import pytest

from torchmetrics_rl2 import RL2Error
from torchmetrics_rl2.screening import processes
from torchmetrics_rl2.screening.processes import SHARE, device_of, launch, reports, share_of


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch):
    names = (SHARE, "RANK", "WORLD_SIZE", "SLURM_PROCID", "SLURM_NTASKS", "NODE_RANK", "SLURM_NODEID")
    for name in names:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, None),
        ({"RANK": "5", "WORLD_SIZE": "8"}, (5, 8)),
        ({"RANK": "1", "WORLD_SIZE": "2"}, None),  # of another job
        ({"SLURM_PROCID": "3", "SLURM_NTASKS": "8"}, (3, 8)),
        ({"SLURM_NTASKS": "8"}, None),
        ({SHARE: "7/8", "RANK": "0", "WORLD_SIZE": "8"}, (7, 8)),
    ],
)
def test_a_process_knows_its_share(monkeypatch, variables, expected):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert share_of(4, 2) == expected
    assert share_of(1, 1) == (0, 1)
    assert reports((0, 8)) == (SHARE not in variables)
    assert not reports((1, 8))


def test_wrong_numbers_of_processes_are_said(monkeypatch):
    with pytest.raises(RL2Error, match="at least one device and one node, but got 1 and 0"):
        share_of(1, 0)
    with pytest.raises(RL2Error, match="set NODE_RANK to 0, 1"):
        launch(1, 2)
    monkeypatch.setenv("NODE_RANK", "2")
    with pytest.raises(RL2Error, match="NODE_RANK is '2'; expected a number from 0 to 1"):
        launch(1, 2)


class _Process:
    def __init__(self, command, env, stdout):
        self.command, self.share, self.ended = command, env[SHARE], []

    def wait(self):
        self.ended.append("waited")

    def terminate(self):
        self.ended.append("terminated")


@pytest.mark.parametrize(("nodes", "shares"), [(1, ["0/2", "1/2"]), (3, ["2/6", "3/6"])])
def test_one_process_is_started_for_each_device(monkeypatch, nodes, shares):
    started = []
    monkeypatch.setattr(processes.subprocess, "Popen", lambda *a, **k: started.append(_Process(*a, **k)) or started[-1])
    monkeypatch.setattr(processes.signal, "signal", lambda *_: None)
    monkeypatch.setattr(sys, "argv", ["rl2", "screen", "a.svs", "--devices", "2"])
    monkeypatch.setenv("NODE_RANK", "1")  # set for one machine too by some clusters
    launch(2, nodes)
    assert [process.share for process in started] == shares
    assert all(process.command[-4:] == ["screen", "a.svs", "--devices", "2"] for process in started)
    assert all(process.ended[0] == "waited" for process in started)


def test_each_process_has_a_gpu_where_there_are_any(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert device_of((1, 2)) is None
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    assert [device_of((rank, 8)) for rank in (1, 5)] == ["cuda:1", "cuda:1"]
    assert device_of((0, 1)) is None
