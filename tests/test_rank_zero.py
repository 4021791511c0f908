import importlib
import os

import pytest

from tests.fixtures.processes import Started
from torchmetrics_rl2 import rank_zero


def rank_with(variables):
    """That of a process which imports the module anew."""
    for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"):
        os.environ.pop(name, None)
    os.environ.update(variables)
    del rank_zero.rank_zero_only.rank
    importlib.reload(rank_zero)
    return rank_zero.rank_zero_only.rank


@pytest.mark.parametrize(
    ("variables", "rank"),
    [({}, 0), ({"RANK": "3", "SLURM_PROCID": "0"}, 3), ({"RANK": "", "SLURM_PROCID": "2"}, 2), ({"RANK": "gold"}, 0)],
)
def test_a_variable_that_is_no_rank_is_passed_over(variables, rank):
    assert Started(rank_with, variables).result() == rank
