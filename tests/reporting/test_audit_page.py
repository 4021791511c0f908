import pytest

from tests.reporting.test_run import Page
from torchmetrics_rl2 import audit
from torchmetrics_rl2.reporting import report_to

pytest.importorskip("bokeh")


@pytest.fixture(scope="module")
def result(weights_file, patches):
    return audit(weights_file, patches, ladders=["salt and pepper", "blank"], limit=24)


def test_an_audit_is_a_page_with_a_row_for_each_ladder(result, tmp_path):
    report_to(tmp_path / "audit.html")(result)
    found = Page((tmp_path / "audit.html").read_text()).sections
    assert list(found) == ["", "damage", "single", "content", "checks", "computed", "cite"]
    detected = sum(ladder.verdict == "detects" for ladder in result.ladders)
    assert f"Detects {detected} of 2 kinds of damage" in found[""]
    assert f"Detects {detected} of 2 kinds of damage" in found["cite"]
    for ladder in result.ladders:
        assert ladder.name in found["damage"]
        assert ladder.verdict in found["damage"]
        assert f"{ladder.reach:.1f}x" in found["damage"]
        assert f"{ladder.at_visible.auc_handcrafted:.2f}" in found["single"]
    assert "one kind of tissue" in found["content"]
    assert all(claim in found["checks"] for claim in result.withheld)
    assert result.versions["torch"] in found["computed"]
