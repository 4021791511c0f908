import subprocess
import sys

import pytest

import torchmetrics_rl2


def run(program):
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout


def test_all_public_names_are_there():
    names = run("from torchmetrics_rl2 import *; print(*dir())").split()
    assert {name for name in torchmetrics_rl2.__all__ if name != "__version__"} <= set(names)
    assert run("import torchmetrics_rl2 as t; print(t.functional.resnet_l2.__name__)") == "resnet_l2\n"
    assert set(torchmetrics_rl2.__all__) <= set(dir(torchmetrics_rl2))


def test_importing_does_no_work():
    loaded = run("import sys, torchmetrics_rl2.cli.app; print('torch' in sys.modules, 'lightning' in sys.modules)")
    assert loaded == "False False\n"


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        torchmetrics_rl2.nothing  # noqa: B018
