from dataclasses import replace

import pytest

from tests.auditing.test_result import ladder, severity
from torchmetrics_rl2 import AuditResult, RL2Error
from torchmetrics_rl2.auditing import CrossTalk, check_plot, plot_audit
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


def test_cross_talk_is_a_matrix_beside_the_ladders(tmp_path):
    ladders = [ladder(severity(0.5, 9), severity(1, 20), severity(2, 50))]
    result = AuditResult("w@1", "ab" * 32, "dir", 20, 20, 64, 5.0, 1.0, 0.3, 2.0, ladders, [], None, None, [])
    shares = {"n": 40, "content": 0.0, "whole": 0.0, "varies_less": 0.0, "cause": "damage"}
    rows = [
        CrossTalk(**shares, look=0.0, wrong="blur 0.5", at="weakest"),
        CrossTalk(**shares, look=1.0, wrong="blur 1", at="visible"),
    ]
    blue = []
    for name, shown in (("with.png", rows), ("without.png", [])):
        plot_audit(replace(result, cross_talk=shown), tmp_path / name)
        image = read_image(tmp_path / name).float()
        blue.append((image[2] > image[0] + 60) & (image[2] > 90))
    # One cell of four is dark, in the right half; the weakest severity has no row.
    assert blue[0].sum() > 1000
    assert blue[0].nonzero()[:, 1].min() > blue[0].shape[1] / 2
    assert blue[1].sum() == 0


def test_what_cannot_be_drawn_is_refused_early(tmp_path):
    with pytest.raises(RL2Error, match="ends in '.gif2'; a picture ends in one of"):
        check_plot(tmp_path / "a.gif2")
    with pytest.raises(RL2Error, match="does not exist or is not writable"):
        check_plot(tmp_path / "nowhere" / "a.png")
    (tmp_path / "file").touch()
    with pytest.raises(RL2Error, match="does not exist or is not writable"):
        check_plot(tmp_path / "file" / "a.png")
