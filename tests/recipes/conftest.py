from pathlib import Path

import pytest

from tests.fixtures.scripts import imported

FOLDER = Path(__file__).parents[2] / "recipes"
NAMES = (
    "appearance",
    "lc25000",
    "many_labs",
    "virtual_labs",
    "histology_backbone",
    "histology_flow",
    "lung_and_colon",
)


@pytest.fixture(scope="package")
def recipes():
    """The recipes as modules."""
    with imported(FOLDER, NAMES) as found:
        yield found
