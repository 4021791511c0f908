from contextlib import suppress

import torch

from torchmetrics_rl2.runtime import one_thread


def test_there_is_one_thread_inside_and_as_many_as_before_after_an_error():
    before, inside = torch.get_num_threads(), []
    torch.set_num_threads(3)
    try:
        with suppress(ValueError), one_thread():
            inside.append(torch.get_num_threads())
            raise ValueError
        assert [*inside, torch.get_num_threads()] == [1, 3]
    finally:
        torch.set_num_threads(before)
