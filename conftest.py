import os
import re
import shlex
import shutil
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

# A worker a core: threads of PyTorch would only wait for each other. It reads this when it is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from sybil import Sybil
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser
from tests.fixtures.features import FOLDER, computed_once, keep_features_for_all_workers
from tests.fixtures.processes import Started, rl2

keep_features_for_all_workers()

ROOT = Path(__file__).parent

pytest_plugins = [f"tests.fixtures.{room}" for room in ("images", "slides", "weights", "server")]

# Modules of charts load Bokeh, which the tests of oldest versions go without.
collect_ignore_glob = [] if find_spec("bokeh") else ["src/torchmetrics_rl2/reporting/*"]

FLOAT = r"-?\d+\.\d+"


def run_console(example):
    """Run the ``rl2`` commands behind ``$``; what they print has to be the rest of the block.

    ``...`` stands for anything, and floats may differ by a thousandth, as they do between processors.
    """
    lines = example.parsed.splitlines()
    expected = "\n".join(line for line in lines if not line.startswith("$ ")).strip()
    printed = ""
    for line in lines:
        if line.startswith("$ "):
            code, out, err = Started(rl2, *shlex.split(line)[2:]).result()
            assert code == 0, err
            printed += out
    pieces = re.split(rf"(\.\.\.|{FLOAT})", expected)
    wildcards = {"...": ".*"} | dict.fromkeys(re.findall(FLOAT, expected), f"({FLOAT})")
    pattern = "".join(wildcards.get(piece, re.escape(piece)) for piece in pieces)
    found = re.fullmatch(pattern, printed.strip(), re.DOTALL)
    assert found, f"expected:\n{expected}\ngot:\n{printed}"
    numbers = [float(piece) for piece in pieces if re.fullmatch(FLOAT, piece)]
    assert [float(number) for number in found.groups()] == pytest.approx(numbers, rel=1e-3)


def forget_registered_weights():
    """What a test or a document registers is its own."""
    if "torchmetrics_rl2.weights.catalog" in sys.modules:
        sys.modules["torchmetrics_rl2.weights.catalog"]._registered.clear()


def enter_scratch_folder(namespace):
    """Blocks of a document share a folder that has the examples in it."""
    namespace["folder"] = tempfile.TemporaryDirectory()
    namespace["before"] = Path.cwd()
    shutil.copytree(ROOT / "examples", Path(namespace["folder"].name) / "examples")
    os.chdir(namespace["folder"].name)
    namespace["features"] = computed_once()
    namespace["features"].__enter__()


def leave_scratch_folder(namespace):
    namespace["features"].__exit__(None, None, None)
    forget_registered_weights()
    os.chdir(namespace["before"])
    namespace["folder"].cleanup()


@pytest.fixture(autouse=True)
def _own_registered_weights():
    yield
    forget_registered_weights()


@pytest.fixture(autouse=True)
def _features_of_examples(request):
    with computed_once(isinstance(request.node, pytest.DoctestItem)):
        yield


def pytest_unconfigure(config):
    """The features are for this run alone."""
    if not hasattr(config, "workerinput"):
        shutil.rmtree(os.environ.pop(FOLDER, ""), ignore_errors=True)


pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(), CodeBlockParser("console", run_console)],
    patterns=["README.md", "docs/*.md"],
    setup=enter_scratch_folder,
    teardown=leave_scratch_folder,
).pytest()
