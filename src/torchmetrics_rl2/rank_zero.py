"""What is said once a job, and not once a rank."""

import os
from functools import partial

from lightning_utilities.core import rank_zero
from lightning_utilities.core.rank_zero import rank_zero_only

__all__ = ["is_rank_zero", "rank_zero_only", "rank_zero_warn"]

# A trainer sets the rank; before and without one it is what launchers say.
_SAID = [os.environ.get(name, "") for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID")]
if not hasattr(rank_zero_only, "rank"):
    # Variables of these names may be empty, or mean something else.
    setattr(rank_zero_only, "rank", next((int(rank) for rank in _SAID if rank.isdecimal()), 0))  # noqa: B010

rank_zero_warn = partial(rank_zero.rank_zero_warn, stacklevel=3)
"""A warning that names no line, as those of torchmetrics."""


def is_rank_zero() -> bool:
    """Whether this process speaks for the job."""
    return getattr(rank_zero_only, "rank", 0) == 0
