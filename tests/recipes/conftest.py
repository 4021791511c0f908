import importlib
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "recipes"
NAMES = (
    "appearance",
    "lc25000",
    "many_labs",
    "virtual_labs",
    "histology_backbone",
    "lung_colon_flow",
    "histology_flow",
)


@pytest.fixture(scope="package")
def recipes():
    """The recipes as modules, found as they are when run: by the folder they are in, and by no one else."""
    before = {name: sys.modules.pop(name) for name in NAMES if name in sys.modules}
    sys.path.insert(0, str(FOLDER))
    try:
        yield {name: importlib.import_module(name) for name in NAMES}
    finally:
        sys.path.remove(str(FOLDER))
        for name in NAMES:
            sys.modules.pop(name, None)
        sys.modules.update(before)
