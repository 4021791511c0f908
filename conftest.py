import re
import shutil
import subprocess
from pathlib import Path

import pytest
from sybil import Sybil
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser, SkipParser

ROOT = Path(__file__).parent


FLOAT = r"-?\d+\.\d+"


def run_console(example):
    """Run lines that start with ``$`` by a shell; what they print has to be the rest of the block.

    ``...`` stands for anything, and floats may differ by a thousandth, as they do between processors.
    """
    lines = example.parsed.splitlines()
    commands = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    expected = "\n".join(line for line in lines if not line.startswith("$ ")).strip()
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join(commands)],
        capture_output=True,
        text=True,
        cwd=example.namespace["folder"],
    )
    assert done.returncode == 0, done.stderr
    pieces = re.split(rf"(\.\.\.|{FLOAT})", expected)
    wildcards = {"...": ".*"} | dict.fromkeys(re.findall(FLOAT, expected), f"({FLOAT})")
    pattern = "".join(wildcards.get(piece, re.escape(piece)) for piece in pieces)
    found = re.fullmatch(pattern, done.stdout.strip(), re.DOTALL)
    assert found, f"expected:\n{expected}\ngot:\n{done.stdout}"
    numbers = [float(piece) for piece in pieces if re.fullmatch(FLOAT, piece)]
    assert [float(number) for number in found.groups()] == pytest.approx(numbers, rel=1e-3)


def in_a_copy(namespace):
    """Blocks of a document share a scratch folder that has the examples in it."""
    folder = Path(namespace["tmp"].mktemp("docs"))
    shutil.copytree(ROOT / "examples", folder / "examples")
    namespace["folder"] = folder
    namespace["monkey"] = pytest.MonkeyPatch()
    namespace["monkey"].chdir(folder)


@pytest.fixture(scope="session")
def tmp(tmp_path_factory):
    return tmp_path_factory


pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(doctest_optionflags=0), CodeBlockParser("console", run_console), SkipParser()],
    patterns=["README.md", "docs/*.md"],
    fixtures=["tmp"],
    setup=in_a_copy,
    teardown=lambda namespace: namespace["monkey"].undo(),
).pytest()
