import json

import pytest
from matplotlib.figure import Figure

from torchmetrics_rl2 import RL2Error, Statistics, compute_statistics, plan


@pytest.fixture(scope="module")
def with_signatures(weights_of_kinds):
    """An encoder with kinds of tissue; the pilot's images give the signatures."""
    from torchmetrics_rl2 import LatentEncoder

    return LatentEncoder(weights_of_kinds)


def test_a_plan_has_goals_rows_and_a_curve(patches, with_signatures):
    goals = ["gaussian blur=0.5", "distance=3"]
    found = plan(patches / "a", find=goals, counts=[20, 10], weights=with_signatures)
    assert [goal.name for goal in found.goals] == ["gaussian blur of sigma 0.500 px", "RL2 of 3"]
    assert [goal.part for goal in found.goals] == ["look", "whole"]
    assert found.goals[1].distance == pytest.approx(3)
    assert found.counts == [10, 20]
    assert [row.name for row in found.rows][:4] == ["RL2", "look", "content", "gaussian blur"]
    smaller = found.rows[0].smallest
    assert smaller[0] > smaller[1]
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["n_pilot"] == 8
    ax = Figure().subplots()
    assert found.plot(ax) == (ax.figure, ax)
    assert [line.get_label() for line in ax.lines][:3] == ["RL2", "look", "content"]


@pytest.mark.filterwarnings("ignore:The pilot lies")
def test_statistics_are_a_pilot_as_images_are(patches, with_signatures):
    statistics = compute_statistics(patches / "a", weights=with_signatures)
    images, sums = (plan(pilot, find=["distance=3"], weights=with_signatures) for pilot in (patches / "a", statistics))
    assert images.goals == sums.goals
    assert str(images.rows[0]) == str(sums.rows[0])


@pytest.mark.filterwarnings("ignore:kinds@1 was made")
def test_with_groups_numbers_are_of_groups(patches, with_signatures):
    found = plan(patches / "a", find=["distance=3"], groups="file", tile=32, weights=with_signatures)
    assert found.counts == [5, 10, 20, 40, 80]
    assert "by number of groups of 4 images a side" in str(found)
    assert (
        f"{100 * found.between:.0f} % of the variance of a group's mean stays however many images the group has"
        in str(found)
    )


def test_two_generators_are_a_goal(patches, with_signatures):
    found = plan(patches / "a", find=["distance=3"], fakes=[patches / "b", patches / "bright"], weights=with_signatures)
    assert found.goals[-1].part == "squared"
    assert found.goals[-1].name.endswith("apart, as far as in the pilots, with the 8 real images of the pilot")
    assert found.goals[-1].name.startswith(f"{patches / 'b'} and {patches / 'bright'} (images of each)")


def test_two_generators_have_units_of_their_own(patches, with_signatures):
    def side(name, groups):
        return compute_statistics(patches / name, weights=with_signatures, groups=groups)

    fakes = [side(name, "file") for name in ("b", "bright")]
    found = plan(patches / "a", find=["distance=3"], fakes=fakes, weights=with_signatures)
    assert "(groups of each) apart" in found.goals[-1].name
    with pytest.raises(RL2Error, match=r"b has groups as units and .*bright images. Give both with groups, or neither"):
        plan(patches / "a", fakes=[fakes[0], side("bright", None)], weights=with_signatures)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"find": ["gaussian blur"]}, "as NAME=VALUE.*got 'gaussian blur'"),
        ({"find": ["haze=1"]}, "not known how to find 'haze'. Expected one of: distance, missing"),
        ({"find": ["distance=far"]}, "Expected distance= and a number, but got 'far'"),
        ({"find": ["distance=-1"]}, "above 0 .*but got -1"),
        ({"find": ["missing=bone"]}, "no kind 'bone'. Known are:"),
        ({"find": ["gaussian blur=9"]}, "gaussian blur .* go from 0 to 4, but got 9"),
        ({"find": ["jpeg=100"]}, r"jpeg of 100 \(quality\) is no damage"),
        ({"power": 1.5}, "Power is the share of draws.*but got 1.5"),
        ({"find": ["distance=1e300"]}, "above 0 and below 1e.100, but got 1e300"),
        ({"counts": [10**400]}, "end at 1000000000000, but got one of 401 digits"),
        ({"counts": [2]}, "start at 4, but got 2"),
        ({"fakes": ["one"]}, "pilots of two generators, but got 1"),
    ],
)
def test_wrong_goals_are_a_sentence_before_an_image_is_read(options, sentence, with_signatures, patches, monkeypatch):
    monkeypatch.setattr("torchmetrics_rl2.planning.run.measure", None)
    with pytest.raises(RL2Error, match=sentence):
        plan(patches / "a", weights=with_signatures, **{"find": ["distance=1"]} | options)


def test_a_pilot_of_three_images_is_too_small(with_signatures):
    import torch

    few = with_signatures.statistics(torch.randn(3, 512))
    assert isinstance(few, Statistics)
    with pytest.raises(RL2Error, match="at least 4 different images.*has 3"):
        plan(few, weights=with_signatures)


def test_numbers_may_come_from_an_array_or_once(patches, encoder):
    import numpy as np

    for counts in (np.array([7, 9]), iter([7, 9])):
        found = plan(patches / "a", find=["distance=3"], counts=counts, weights=encoder)
        assert json.loads(json.dumps(found.to_dict()))["counts"] == [7, 9]


def test_without_kinds_damage_is_found_by_the_whole(patches, encoder):
    found = plan(patches / "a", find=["gaussian blur=0.5"], counts=[10], weights=encoder)
    assert {row.part for row in found.rows} == {goal.part for goal in found.goals} == {"whole"}


def test_a_kind_that_the_pilot_has_none_of_cannot_be_planned_for(with_signatures, patches):
    names = list(with_signatures.kinds.names)
    statistics = compute_statistics(patches / "a", weights=with_signatures)
    absent = next(name for name, count in zip(names, statistics.sums.kind_counts.tolist(), strict=True) if not count)
    with pytest.raises(RL2Error, match=f"without {absent} cannot be planned for: none of the pilot is of this kind"):
        plan(patches / "a", find=[f"missing={absent}"], weights=with_signatures)
