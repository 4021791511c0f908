import json

import pytest
import torch
from matplotlib.figure import Figure
from scipy import stats
from torch import Generator

from tests.distance.test_parts import CONTENT, LOOK, TILTED, draw, statistics
from torchmetrics_rl2 import RL2Error, Statistics
from torchmetrics_rl2.distance.comparison import rank


def side(n=60, shift=0.0, seed=0, groups=False, **described):
    z = torch.randn(n, 30, generator=Generator().manual_seed(seed), dtype=torch.float64)
    z[:, 0] += shift
    return Statistics.of_latents(z, [str(i // 3) for i in range(n)] if groups else None, **described)


@pytest.fixture
def real():
    return side(source="real/")


def test_the_closest_comes_first_and_alone_where_all_others_are_further(real):
    found = rank(real, {"late": side(shift=4, seed=1), "early": side(shift=1, seed=2), "middle": side(shift=2, seed=3)})
    assert [one.name for one in found.generators] == ["early", "middle", "late"]
    assert found.closest == ["early"]
    assert [(pair.closer, pair.further) for pair in found.pairs] == [
        ("early", "middle"),
        ("early", "late"),
        ("middle", "late"),
    ]
    assert all(pair.differs and pair.value > 0 for pair in found.pairs)
    assert str(found).startswith(
        "early is closest to the real images, closer than each of the other 2 beyond chance\n   generator"
    )
    assert [line.split()[:2] for line in str(found).splitlines()[2:]] == [
        ["1", "early"],
        ["2", "middle"],
        ["3", "late"],
    ]


def test_a_tie_is_called_a_tie(real):
    found = rank(real, {"a": side(shift=2, seed=1), "b": side(shift=2.05, seed=2), "c": side(shift=6, seed=3)})
    assert sorted(found.closest) == ["a", "b"]
    first, second = found.closest
    assert str(found).startswith(f"{first} is closest to the real images, but cannot be told from {second}\n")
    assert [line.split()[0] for line in str(found).splitlines()[2:]] == ["1=", "1=", "3"]
    assert f"{second} cannot be told from {first}: " in found.details()
    both = rank(real, {"a": side(shift=2, seed=1), "b": side(shift=2.05, seed=2)})
    assert str(both).startswith(
        f"A tie: {both.closest[0]} has the smallest distance, but cannot be told from the other\n"
    )


def test_the_order_is_that_of_debiased_values(real):
    """Of two sets at one distance the smaller one scores higher by its size alone."""
    found = rank(real, {"few": side(8, shift=0.5, seed=1), "many": side(2000, shift=1.5, seed=2)})
    few = next(one for one in found.generators if one.name == "few")
    many = next(one for one in found.generators if one.name == "many")
    assert few.result.value > many.result.value
    assert few.result.debiased < many.result.debiased
    assert found.generators[0] is few
    assert "Numbers of images differ (8 to 2000), so do not compare RL2 itself" in str(found)


def test_p_values_are_those_of_groups_alone():
    grouped = rank(side(groups=True), {"a": side(groups=True, seed=1), "b": side(shift=3, groups=True, seed=2)})
    assert grouped.to_dict()["pairs"][0]["p_value"] < 0.05
    assert "p < 0.001" in grouped.details()
    one_sided = rank(side(), {"a": side(groups=True, seed=1), "b": side(shift=3, groups=True, seed=2)})
    assert one_sided.to_dict()["pairs"][0]["p_value"] is None
    assert ", p" not in one_sided.details()


def test_units_are_told_of_each_generator_where_they_differ(real):
    sides = {"a": side(seed=1, groups=True), "b": side(seed=2, groups=True)}
    grouped = side(source="real/", groups=True)
    assert "intervals with 20 generated and 20 real groups as units\n" in rank(grouped, sides).details()
    text = rank(grouped, sides | {"b": side(n=30, seed=2, groups=True), "c": side(seed=3)}).details()
    assert "for a with 20 generated and 20 real groups as units" in text
    assert "for b with 10 generated and 20 real groups as units" in text
    assert "for c assuming independent patches on the generated side" in text


def of_kinds(**changed):
    """Real images, and two generators of them, of which the second has another look or composition."""
    names = [str(i) for i in range(200)]
    generator = Generator().manual_seed(3)
    real, one, other = (statistics(draw(200, generator, **how), names) for how in ({}, {}, changed))
    return rank(real, {"one": one, "other": other})


def test_generators_that_tie_are_told_apart_by_look():
    found = of_kinds(shift=0.8 * LOOK)
    assert found.closest == ["one", "other"]
    assert [(pair.closer, pair.further, pair.differs) for pair in found.parts["look"]] == [("one", "other", True)]
    assert not found.parts["content"][0].differs
    assert str(found).splitlines()[1] == "By look alone, one is closer than other beyond chance"
    assert "\n  by look, other is further than one: " in found.details()
    shown = found.to_dict()["parts"]["look"][0]
    assert (shown["differs"], shown["p_value"] < 0.025) == (True, True)


def test_a_part_is_not_blamed_for_what_the_other_moves():
    composed = of_kinds(shares=TILTED)
    assert composed.closest == ["one"]
    assert composed.parts["content"][0].differs
    assert not composed.parts["look"][0].differs
    assert "alone" not in str(composed)  # the whole says it
    damaged = of_kinds(shift=10 * LOOK + 1.2 * CONTENT)
    assert damaged.parts["look"][0].differs
    assert damaged.parts["content"][0].limit > 0
    assert not damaged.parts["content"][0].differs


def test_the_interval_of_a_part_is_for_the_pairs_of_both():
    found = of_kinds(shift=0.8 * LOOK).parts["look"][0]
    half = (found.interval[1] - found.interval[0]) / 2 / found.standard_error
    assert half == pytest.approx(stats.norm.ppf(1 - 0.05 / 4), rel=0.02)


def test_weights_of_one_kind_have_no_pairs_by_parts(real):
    found = rank(real, {"a": side(seed=1), "b": side(shift=3, seed=2)})
    assert found.parts == found.to_dict()["parts"] == {}


def test_copies_of_the_real_images_are_no_best_generator(real):
    found = rank(real, {"copies": side(), "new": side(shift=0.5, seed=2)})
    assert found.generators[0].name == "copies"
    assert "copies: Generated images are copies of real ones. Its place says nothing about new images" in str(found)


def test_as_json_it_has_all_of_it_and_no_nan(real):
    found = rank(real, {"a": side(seed=1), "b": side(shift=3, seed=2)}).to_dict()
    assert json.loads(json.dumps(found, allow_nan=False)) == json.loads(json.dumps(found))
    assert found["closest"] == ["a"]
    assert found["generators"][0]["result"]["n_fake"] == 60
    assert found["pairs"][0]["differs"] is True


def test_in_notebooks_names_are_text(real):
    found = rank(real, {"<a>": side(seed=1), "b": side(shift=3, seed=2)})
    assert "<td>&lt;a&gt;</td>" in found._repr_html_()


def test_the_picture_has_a_row_a_generator_the_closest_on_top(real):
    ax = Figure().subplots()
    found = rank(real, {"far": side(shift=3, seed=2), "near": side(seed=1)})
    assert found.plot(ax) == (ax.figure, ax)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["near", "far"]
    assert ax.get_ylim()[0] > ax.get_ylim()[1]
    dots = [line for line in ax.lines if line.get_marker() == "o"]
    assert [float(line.get_xdata()[0]) for line in dots] == [one.result.debiased for one in found.generators]


@pytest.mark.parametrize(
    ("fakes", "sentence"),
    [
        ({"a": side()}, "Expected at least two generators to compare, but got 1"),
        ({"a": side(), "b": side(3)}, "b has 3 distinct images; a comparison needs at least 4"),
        ({"a": side(), "b": side(9, groups=True)}, "b has 3 groups; a comparison needs at least 4"),
        ({"a": side(), "b": side(weights_id="x", weights="other@1")}, "latents of different weights"),
        ({"a": side(), "b": side(shift=float("nan"))}, "b or of the real images are NaN"),
    ],
)
def test_what_cannot_be_ordered_is_a_sentence(fakes, sentence, real):
    with pytest.raises(RL2Error, match=sentence):
        rank(real, fakes)


def test_sums_alone_have_no_interval(real):
    sums = Statistics(real.sums.__class__(real.sums.sum, real.sums.square_sum, real.sums.count))
    with pytest.raises(RL2Error, match="sums without second moments.*rl2 stats"):
        rank(real, {"a": side(seed=1), "b": sums})
