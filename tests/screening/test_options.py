from dataclasses import replace

import pytest

from torchmetrics_rl2 import RL2Error
from torchmetrics_rl2.screening import Tiling


def test_size_and_resolution_are_of_what_is_asked_the_calibration_or_the_weights(encoder, calibration):
    assert (Tiling().px_of(calibration, encoder), Tiling().mpp_of(calibration, encoder)) == (64, 0.5)
    free = replace(calibration, px=None, mpp=None)
    assert (Tiling(px=96).px_of(free, encoder), Tiling(target_mpp=1).mpp_of(free, encoder)) == (96, 1)
    assert Tiling().px_of(free, encoder) == 64  # of the weights
    assert Tiling().mpp_of(free, encoder) == 0.5
    assert Tiling(target_mpp=0.51).mpp_of(calibration, encoder) == 0.51  # as good as the same


def test_patches_of_two_sizes_or_resolutions_are_not_compared(encoder, calibration):
    with pytest.raises(RL2Error, match="The good patches have 64 px and tiles would have 96;"):
        Tiling(px=96).px_of(calibration, encoder)
    with pytest.raises(RL2Error, match="The good patches have 0.5 um/px and tiles would have 1;"):
        Tiling(target_mpp=1).mpp_of(calibration, encoder)


@pytest.mark.parametrize("name", ["mpp", "target_mpp"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_resolutions_are_above_zero(name, value):
    with pytest.raises(RL2Error, match=f"The {name} is a resolution above 0 um/px"):
        Tiling(**{name: value})
