from pathlib import Path

import pytest

from tests.screening.conftest import TILES
from torchmetrics_rl2 import RL2Error
from torchmetrics_rl2.images import ImageReader
from torchmetrics_rl2.screening.manifest import names_of
from torchmetrics_rl2.screening.patch_folder import PatchFolder
from torchmetrics_rl2.screening.slide_file import SlideFile


def named(*paths):
    return names_of([SlideFile(Path(path), TILES) for path in paths])


def test_slides_are_named_after_their_file_and_folders_after_themselves():
    globbed = PatchFolder(Path("/data/patches/*/a?.png"), [], ImageReader())
    assert names_of([SlideFile(Path("x/case-1.svs"), TILES), globbed]) == ["case-1", "patches"]


def test_two_slides_of_one_name_keep_apart():
    assert named("/x/a/b/case-1.svs", "/x/c/case-1.svs", "d.svs") == ["a__b__case-1.svs", "x__c__case-1.svs", "d"]
    with pytest.raises(RL2Error, match="Two slides would have the name a__b__c.svs"):
        named("/x/a/b/c.svs", "/y/a/b/c.svs")


def test_names_fit_into_a_folder():
    assert len(named("x" * 240 + ".svs")[0]) == 150
    assert named("/..a*.svs") == ["a_"]
