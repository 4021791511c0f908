import re
import subprocess
import sys

import pytest
import torch

import torchmetrics_rl2
from tests.conftest import Moments, random_images
from tests.fixtures.processes import Started
from torchmetrics_rl2 import PatchQuality, PatchScreener, ResNetL2


def import_anew():
    """The package as another program finds it that has used none of it."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchmetrics_rl2"]:
        del sys.modules[name]
    names = {}
    exec("import torchmetrics_rl2 as t; found = t.functional.resnet_l2.__name__, t.pixels.degrade.__name__", names)
    exec("from torchmetrics_rl2 import *", names)
    return names["found"], sorted(names)


def test_all_public_names_are_there():
    found, names = Started(import_anew).result()
    assert found == ("resnet_l2", "degrade")
    assert {name for name in torchmetrics_rl2.__all__ if name != "__version__"} <= set(names)
    assert set(torchmetrics_rl2.__all__) <= set(dir(torchmetrics_rl2))


def test_the_command_teaches_without_loading_torch():
    program = (
        "import sys, atexit; from torchmetrics_rl2.cli import main\n"
        "slow = {'torch', 'lightning', 'torchmetrics', 'scipy'}\n"
        "atexit.register(lambda: print('loaded', *slow & set(sys.modules)))\n"
        "sys.argv = ['rl2', 'score', '--help']; main()"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert "real-against-real baseline" in re.sub(r"\W+", " ", shown.replace("-", "_")).replace("_", "-")
    assert shown.splitlines()[-1] == "loaded"


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nothing"):
        torchmetrics_rl2.nothing  # noqa: B018


def test_what_a_notebook_shows_is_one_line_that_says_what_it_is(encoder, calibration, other_weights):
    metric, images = ResNetL2(encoder, uncertainty=True), random_images(12)
    metric.update(images, torch.arange(12) < 4)
    reference = ResNetL2(encoder, reference="weights")
    good = "Calibration(120 good patches in 40 groups, 64 px, 0.5 um/px, source 'good', weights 'random@1')"
    quality = PatchQuality(encoder, calibration=calibration, max_false_rejection=0.05)
    quality.update(images)
    made = f"LatentEncoder('random@1', 64 px, weights_id '{encoder.weights_id[:12]}', float32 on cpu)"
    assert repr(encoder) == made
    assert repr(encoder.with_dtype(torch.float64)) == made.replace("float32", "float64")
    assert repr(metric) == "ResNetL2('random@1', 4 real and 8 generated images)"
    assert repr(ResNetL2(Moments())) == "ResNetL2('Moments', 0 real and 0 generated images)"
    of_weights = "Statistics(48 images of reference data of the weights, no groups, weights random@1)"
    assert repr(reference) == f"ResNetL2('random@1', reference={of_weights}, 0 generated images)"
    assert (
        repr(metric.statistics(real=True)) == "Statistics(4 images of update(real=True), no groups, weights random@1)"
    )
    assert repr(calibration) == good
    assert repr(quality) == f"PatchQuality('random@1', {good}, 12 patches)"
    screener = PatchScreener(encoder, calibration=calibration, max_false_rejection=None, device="cpu")
    assert repr(screener) == f"PatchScreener({made}, {good}, ranks only)"
    result = repr(metric.result())
    assert re.fullmatch(
        r"RL2Result\([\d.]+, debiased -?[\d.]+( \[-?[\d.]+, [\d.]+\])?(, [\d.]+x baseline)?, "
        r"8 generated and 4 real images, weights 'random@1'\)",
        result,
    ), result
