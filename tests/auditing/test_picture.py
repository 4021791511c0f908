import pytest

from tests.auditing.test_result import ladder, severity
from torchmetrics_rl2 import AuditResult, RL2Error
from torchmetrics_rl2.auditing import check_plot, plot_audit
from torchmetrics_rl2.images import read_image


def test_one_page_with_a_panel_a_ladder(tmp_path):
    ladders = [
        ladder(severity(0.5, 9), severity(1, 20), severity(2, 50)),
        ladder(severity(0.5, 4), severity(1, 3, width=9), severity(2, 1)),
    ]
    result = AuditResult("w@1", "ab" * 32, "dir", 20, 20, 64, 5.0, 1.0, 0.3, 2.0, ladders, [], None, None, [])
    plot_audit(result, tmp_path / "audit.png")
    image = read_image(tmp_path / "audit.png").float()
    # Both panels of two are drawn, in green and in red.
    green = (image[1] > image[0] + 60) & (image[1] > image[2] + 60)
    red = (image[0] > image[1] + 90) & (image[0] > image[2] + 90)
    assert green.sum() > 100
    assert red.sum() > 100
    assert green.nonzero()[:, 1].float().mean() < red.nonzero()[:, 1].float().mean()


def test_what_cannot_be_drawn_is_refused_early(tmp_path):
    with pytest.raises(RL2Error, match="ends in '.gif2'; a picture ends in one of"):
        check_plot(tmp_path / "a.gif2")
    with pytest.raises(RL2Error, match="does not exist or is not writable"):
        check_plot(tmp_path / "nowhere" / "a.png")
