import sys
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure

from torchmetrics_rl2 import RL2Error, RL2Result
from torchmetrics_rl2.distance import PartResult

CONTENT = PartResult(3.0, 2.5, limit=0.6, interval=(2.0, 3.2), p_value=0.001, baseline=0.5, baseline_multiple=6.0)
LOOK = PartResult(4.0, 3.6, limit=0.25, interval=(3.0, 4.3), baseline=2.0, baseline_multiple=2.0)
RESULT = RL2Result(
    *(5.0, 4.4, 40, 40, "real", "fake", "w@1", None),
    **{"interval": (3.8, 5.1), "baseline": 2.06, "baseline_multiple": 2.43, "content": CONTENT, "look": LOOK},
)
WHOLE = replace(RESULT, content=None, look=None)


@pytest.fixture
def ax():
    return Figure().subplots()


def lines(ax):
    """Points of each line that has a label, by label."""
    return {line.get_label(): line.get_xydata() for line in ax.lines if not line.get_label().startswith("_")}


def test_the_dot_is_content_across_and_look_up(ax):
    assert RESULT.plot(ax) == (ax.figure, ax)
    assert lines(ax)["RL2"].tolist() == [[3.0, 4.0]]
    assert ax.get_title() == "Look differs, content clearly differs\nRL2 5.00, 2.4x the baseline"
    assert lines(ax)["baseline: real against real"][:, 0].tolist() == [0.5, 0.5]
    (width, height), ends = (ax.get_xlim()[1], ax.get_ylim()[1]), (3.2, 2.0 * 3)
    assert width > ends[0]
    assert height > ends[1]


def test_the_dashed_arc_has_the_same_rl2_everywhere(ax):
    RESULT.plot(ax)
    (arc,) = (line.get_xydata() for line in ax.lines if line.get_linestyle() == "--")
    assert np.hypot(*arc.T) == pytest.approx(np.full(len(arc), 5.0))


def test_intervals_cross_at_the_debiased_values(ax):
    RESULT.plot(ax)
    cross = [line.get_xydata().tolist() for line in ax.lines if line.get_linewidth() == 2]
    assert cross == [[[2.0, 3.6], [3.2, 3.6]], [[2.5, 3.0], [2.5, 4.3]]]


def test_what_is_not_claimed_is_shaded_up_to_the_limit(ax):
    RESULT.plot(ax)
    of_look, of_content = (path for shaded in ax.collections[-2:] for path in shaded.get_paths())
    assert of_look.contains_point((0.6 - 0.01, 3.6))
    assert not of_look.contains_point((0.6 + 0.01, 3.6))
    assert of_content.contains_point((2.5, 0.25 - 0.01))
    assert not of_content.contains_point((2.5, 0.25 + 0.01))


def test_what_is_below_zero_by_chance_is_drawn_at_zero(ax):
    part = PartResult(0.4, -0.6, interval=(-1.0, 0.3), p_value=0.8, baseline=0.7, baseline_multiple=0.6)
    replace(RESULT, value=0.57, interval=(-1.2, 0.4), content=part, look=part).plot(ax)
    cross = [line.get_xydata().tolist() for line in ax.lines if line.get_linewidth() == 2]
    assert cross == [[[0.0, 0.0], [0.3, 0.0]], [[0.0, 0.0], [0.0, 0.3]]]
    assert ax.get_title().startswith("No difference beyond chance")
    assert not [text for text in ax.get_legend().get_texts() if "alone" in text.get_text()]


def test_without_kinds_rl2_is_a_bar_with_its_interval(ax):
    WHOLE.plot(ax)
    assert [bar.get_height() for bar in ax.patches] == [5.0]
    assert lines(ax)["95 % interval, debiased"].tolist() == [[0.0, 3.8], [0.0, 5.1]]
    assert ax.get_title() == "Different\nRL2 5.00, 2.4x the baseline"


@pytest.mark.parametrize("value", [0.0, float("nan")])
@pytest.mark.parametrize("parts", [True, False])
def test_what_is_not_known_is_left_out(ax, value, parts):
    part = PartResult(value, value) if parts else None
    unknown = {"interval": None, "baseline": None, "baseline_multiple": None}
    replace(RESULT, value=value, content=part, look=part, **unknown).plot(ax)
    assert ax.get_title().startswith("No interval")
    assert set(lines(ax)) <= {"RL2"}
    ax.figure.savefig("/dev/null", format="png")


def test_without_an_axis_there_is_a_figure_for_notebooks():
    before = plt.get_fignums()
    figure, ax = RESULT.plot()
    assert ax.figure is figure
    assert set(plt.get_fignums()) - set(before) == {figure.number}
    plt.close(figure)


def test_without_matplotlib_a_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(RL2Error, match=r"pip install 'torchmetrics-rl2\[plot\]'"):
        RESULT.plot()
