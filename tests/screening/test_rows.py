from tests.screening.conftest import rows_of
from torchmetrics_rl2.screening.rows import SlideRow, count_reasons


def test_patches_are_counted_by_their_first_reason():
    assert count_reasons(rows_of(["kfpf"])) == {"out of focus": 2, "pen": 1}


def test_a_slide_that_failed_has_no_columns_of_a_summary():
    row = SlideRow("a", "a.svs", "failed", "broken")
    assert row.columns() == {"slide": "a", "path": "a.svs", "status": "failed", "error": "broken"}
