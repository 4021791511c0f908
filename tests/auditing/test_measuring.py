import pickle
import time

import pytest
import torch.distributed as dist

from tests.fixtures.processes import two_ranks
from torchmetrics_rl2 import RL2Error, audit
from torchmetrics_rl2.auditing import checks, measuring
from torchmetrics_rl2.auditing.subject import Subject

LADDERS = ["gaussian blur", "eosin"]
STEPS = 4 + 2 * 3


class Watched:
    """What is damaged in a process, and how often images are read."""

    def __init__(self, folder, rank):
        self.damaged, self.reads, self.failing = [], 0, False
        self.folder, self.rank = folder, rank
        self.original = {"degrade": measuring.degrade, "read": Subject.read}
        measuring.degrade, Subject.read = self.degrade, self.read

    def degrade(self, images, ladder, severity, seed):
        (self.folder / f"at-work-{self.rank}").touch()
        while not (self.folder / "at-work-1").exists():
            time.sleep(0.02)  # so that the first does not take all
        if self.failing and self.rank == 1:
            raise RL2Error(f"There is no {ladder} today.")
        self.damaged.append((ladder, severity))
        return self.original["degrade"](images, ladder, severity, seed)

    def read(self, *arguments):
        self.reads += 1
        return self.original["read"](*arguments)


def sharing_main(rank, folder, encoder, images):
    dist.init_process_group("gloo", init_method=f"file://{folder}/init", rank=rank, world_size=2)
    checks.MIN_FOR_SHARES = 10
    watched, told = Watched(folder, rank), []
    found = audit(encoder, images, ladders=LADDERS, distributed=True, progress=lambda *report: told.append(report))
    (folder / f"found-{rank}").write_bytes(pickle.dumps((found, watched.damaged, watched.reads, told)))
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_find_what_one_does_and_each_damages_its_share(
    encoder_of_kinds, two_kinds, tmp_path, monkeypatch
):
    monkeypatch.setattr(checks, "MIN_FOR_SHARES", 10)
    expected = audit(encoder_of_kinds, two_kinds, ladders=LADDERS)
    assert expected.content
    assert expected.contamination
    assert [row.at for row in expected.cross_talk].count("visible") == 3
    two_ranks(sharing_main, tmp_path, encoder_of_kinds, two_kinds)
    first, second = (pickle.loads((tmp_path / f"found-{rank}").read_bytes()) for rank in range(2))
    for found, damaged, *_ in (first, second):
        assert found.to_dict() == expected.to_dict()
        assert str(found) == str(expected)
        assert damaged
    damaged = first[1] + second[1]
    assert len(damaged) == len(set(damaged)) == STEPS
    assert {ladder for ladder, _ in damaged} == set(LADDERS)
    assert (first[2], second[2]) == (1, 0)
    done = [report[1] for report in first[3]]
    # Clean, content ladders, outliers, and what all say together.
    assert first[3][-1] == ("audit", 1 + STEPS + 4 + 2, 1 + STEPS + 4 + 2, 0)
    assert done == sorted(done)


def failing_main(rank, folder, encoder, images):
    dist.init_process_group("gloo", init_method=f"file://{folder}/init", rank=rank, world_size=2)
    watched, found = Watched(folder, rank), []
    watched.failing = True
    for options in (
        {"ladders": ["blur"] if rank else ["pen"]},
        {"ladders": ["pen"], "seed": rank},
        {"ladders": ["pen"], "groups": images / "nowhere.csv"},
        {"ladders": ["pen"]},
    ):
        with pytest.raises(RL2Error) as failed:
            audit(encoder, images, **options, distributed=True)
        found.append(f"{failed.typename}: {failed.value}")
    (folder / f"found-{rank}").write_bytes(pickle.dumps(found))
    dist.destroy_process_group()


@pytest.mark.slow
def test_what_is_wrong_in_one_process_ends_all_and_the_first_says_it(encoder, patches, tmp_path):
    two_ranks(failing_main, tmp_path, encoder, patches)
    first, second = (pickle.loads((tmp_path / f"found-{rank}").read_bytes()) for rank in range(2))
    for one, other, sentence in zip(
        first,
        second,
        ("There is no ladder 'blur'", "differ in seed (0 and 1)", "There is no table", "There is no pen today."),
        strict=True,
    ):
        assert sentence in one
        assert one.startswith("RL2Error: ")
        assert other.startswith("ElsewhereError: ")
