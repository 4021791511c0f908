"""What is said once a job, and not once a rank."""

import os
from functools import partial

from lightning_utilities.core import rank_zero
from lightning_utilities.core.rank_zero import rank_zero_only

__all__ = ["is_rank_zero", "rank_zero_only", "rank_zero_warn"]

# A trainer sets the rank; before and without one it is what launchers say.
_LAUNCHED_AS = [os.environ[name] for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID") if name in os.environ]
if not hasattr(rank_zero_only, "rank"):
    setattr(rank_zero_only, "rank", int(_LAUNCHED_AS[0]) if _LAUNCHED_AS else 0)  # noqa: B010

rank_zero_warn = partial(rank_zero.rank_zero_warn, stacklevel=3)
"""A warning that names no line, as those of torchmetrics."""


def is_rank_zero() -> bool:
    """Whether this process speaks for the job."""
    return getattr(rank_zero_only, "rank", 0) == 0
