from pathlib import Path

import pytest

from torchmetrics_rl2 import score

EXAMPLES = Path(__file__).parent.parent / "examples" / "cmu"


@pytest.mark.slow
def test_degraded_patches_are_further_than_clean_ones():
    clean, degraded = (score(EXAMPLES / name, EXAMPLES / "reference") for name in ("clean", "degraded"))
    assert degraded.value > 1.5 * clean.value
    assert degraded.debiased > clean.debiased
