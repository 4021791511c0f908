from dataclasses import replace

import pytest

from torchmetrics_rl2.screening import ScreenResult, SlideRow, SlideSummary
from torchmetrics_rl2.screening.result import warnings_of

SUMMARY = SlideSummary(
    patches=10,
    kept=8,
    kept_share=0.8,
    background=0,
    reasons="pen 2",
    calibrated=True,
    median_percentile=50.0,
    domain="same",
    domain_rl2=1.0,
    domain_low=-1.0,
    domain_high=2.0,
    domain_shift=0.034,
    **{f"{what}_{color}": 0.1 for what in ("white", "tissue") for color in ("red", "green", "blue")},
    mpp=None,
    target_mpp=None,
    px=None,
    size=None,
    unreadable=0,
    seconds=1.0,
)
UNCALIBRATED = {"calibrated": False, "domain": "outside", "domain_shift": 1.26}


def row(**changes):
    return SlideRow("a", "a.svs", "finished", summary=replace(SUMMARY, **changes), new=True)


def result(*rows):
    good = {"source": "good", "patches": 60, "groups": 20}
    return ScreenResult(list(rows), "out", "random@1", "f" * 64, good, None)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({}, "domain same, 0.03 standard deviations from the good patches"),
        ({"domain": "unknown", "domain_shift": None}, "domain unknown"),
        ({"unreadable": 2}, "domain same, 0.03 standard deviations from the good patches; 2 unreadable files left out"),
        ({"background": 3}, "domain same, 0.03 standard deviations from the good patches; 3 patches without tissue"),
        (UNCALIBRATED, "domain outside, 1.26 standard deviations from the good patches; UNCALIBRATED, ranked only"),
    ],
)
def test_each_slide_has_a_line(changes, line):
    assert str(result(row(**changes))).split("\n")[0] == f"a: 8 of 10 patches with tissue kept (pen 2); {line}"


def test_what_failed_or_was_finished_before_is_said():
    failed = SlideRow("b", "b.svs", "failed", "no slide")
    found = result(replace(row(), new=False), failed)
    lines = str(found).split("\n")
    assert lines[0].endswith("; finished before")
    assert lines[1] == "b: failed, no slide"
    assert lines[2] == "Percentiles refer to 60 good patches of good (20 groups); no patch was rejected by its score"
    assert found.failed == [failed]
    assert found.to_dict()["slides"][1] == failed.columns() | {"new": False}
    assert list(found.to_dict()["slides"][0])[-2:] == ["calibration", "new"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, None),
        ({"patches": 0, "kept": 0, "background": 3}, "a has no patch with tissue: all 3 are background."),
        ({"calibrated": False, "domain": "unknown"}, "a has too few patches of tissue"),
        (UNCALIBRATED, "a is out of the domain of the weights, 1.3 standard deviations from it"),
        ({"domain": "outside", "domain_shift": 0.6}, "a is 0.6 standard deviations from the good patches"),
        ({"kept_share": 0.6}, "40 % of the patches with tissue of a are REJECTED (pen 2). Look at its pictures"),
    ],
)
def test_warnings_say_what_to_look_at(changes, sentence):
    found = warnings_of(row(**changes), 0.3)
    assert len(found) == (sentence is not None)
    assert not found or found[0].startswith(sentence)
    assert warnings_of(SlideRow("a", "a.svs", "failed", "x"), 0.3) == []
