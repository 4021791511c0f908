import json
import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.stats import binomtest, norm, t
from torch import Generator

from tests.distance.test_statistics import ID
from torchmetrics_rl2 import Statistics, compare
from torchmetrics_rl2.distance import find_repeats
from torchmetrics_rl2.distance import uncertainty as module
from torchmetrics_rl2.distance.between_groups import BetweenGroups
from torchmetrics_rl2.distance.kinds import LEAKS, PARTS, Kinds
from torchmetrics_rl2.distance.parts import kind_shares
from torchmetrics_rl2.distance.statistics import REFERENCE
from torchmetrics_rl2.networks import RealNVP
from torchmetrics_rl2.reporting.citing import citation_of

D, EQUAL, TILTED = 24, (1 / 3, 1 / 3, 1 / 3), (0.8, 0.1, 0.1)
KINDS = Kinds(
    1.2 * torch.randn(3, D, generator=Generator().manual_seed(0)),
    torch.tensor(EQUAL).log(),
    ("mucosa", "muscle", "tumor"),
)
NOTHING = "no difference beyond chance"


def across(seed, part):
    """A direction of length 1 in a part."""
    basis = KINDS.basis
    z = torch.randn(D, generator=Generator().manual_seed(seed), dtype=torch.float64)
    z = basis @ basis.T @ z if part == "content" else z - basis @ basis.T @ z
    return z / z.norm()


LOOK, CONTENT = across(5, "look"), across(6, "content")


def draw(n, generator, shares=EQUAL, shift=0.0):
    """Latents of a random composition: kinds of unit variance, nine standard deviations apart."""
    labels = torch.multinomial(torch.tensor(shares), n, replacement=True, generator=generator)
    z = torch.randn(n, D, generator=generator, dtype=torch.float64)
    return KINDS.means[labels].double() + z + shift


def statistics(z, groups=None, **described):
    return Statistics.of_latents(z, groups, KINDS, **(ID | described))


def both_sides(n=200, shares=EQUAL, shift=0.0, groups=False, seed=1):
    generator = Generator().manual_seed(seed)
    names = [f"slide {i % (n // 4)}" for i in range(n)] if groups else None
    return statistics(draw(n, generator), names), statistics(draw(n, generator, shares, shift), names)


@pytest.fixture
def without_power(monkeypatch):
    """Power is slow, and of no use to a simulation of levels."""
    monkeypatch.setattr(module, "_detectable", lambda *_: 0.0)


@pytest.mark.slow
@pytest.mark.parametrize("groups", [False, True])
def test_both_parts_hold_their_level_whatever_the_composition(groups, without_power):
    """Of 400 draws 5 % have a standard error of 1.1 %; groups have a composition and a shift of their own."""
    generator, rejected = Generator().manual_seed(2), dict.fromkeys(PARTS, 0)
    for _ in range(400):
        sides = []
        for _ in range(2):
            if groups:
                own = [torch.rand(3, generator=generator).tolist() for _ in range(20)]
                shifts = 0.5 * torch.randn(20, D, generator=generator, dtype=torch.float64)
                z = torch.cat([draw(5, generator, *both) for both in zip(own, shifts, strict=True)])
                sides.append(statistics(z, [str(i // 5) for i in range(100)]))
            else:
                sides.append(statistics(draw(60, generator)))
        result = compare(*sides)
        for name in PARTS:
            rejected[name] += getattr(result, name).p_value < 0.05
    assert {name: 0.03 <= count / 400 <= 0.08 for name, count in rejected.items()} == dict.fromkeys(PARTS, True)


@pytest.mark.slow
def test_content_finds_a_composition_to_which_a_flow_of_one_kind_is_blind(without_power):
    """Whitening the whole shrinks what lies between kinds to the size of noise, of which there are 64 dimensions."""
    generator = Generator().manual_seed(2)
    mix, means = torch.randn(64, 64, generator=generator), 20 * torch.randn(3, 64, generator=generator)

    def features(n, shares):
        labels = torch.multinomial(torch.tensor(shares), n, replacement=True, generator=generator)
        return means[labels] + torch.randn(n, 64, generator=generator) @ mix, labels

    fitted, labels = features(2000, EQUAL)
    one, three = RealNVP(64, layers=0), RealNVP(64, layers=0, kinds=3)
    one.adapt(fitted)
    three.adapt(fitted, labels)
    kinds = Kinds(three.base.means, three.base.log_shares, KINDS.names)
    found = {"content": 0, "look": 0, "of one kind": 0}
    for _ in range(100):
        real, fake = features(40, EQUAL)[0], features(40, (0.6, 0.2, 0.2))[0]
        result = compare(*(Statistics.of_latents(three(x)[0], kinds=kinds) for x in (real, fake)))
        found["content"] += result.content.p_value < 0.05
        found["look"] += result.look.p_value < 0.05
        found["of one kind"] += compare(*(Statistics.of_latents(one(x)[0]) for x in (real, fake))).p_value < 0.05
    assert found["content"] >= 50
    assert found["look"] <= 10
    assert found["of one kind"] <= 20


@pytest.mark.slow
def test_what_a_part_leaks_is_not_called_a_difference_of_the_other(without_power):
    generator, called, seen = Generator().manual_seed(3), 0, 0
    for _ in range(100):
        damaged = draw(200, generator, shift=15 * (LOOK + 0.1 * CONTENT))
        result = compare(statistics(draw(200, generator)), statistics(damaged))
        assert result.verdict.startswith("look clearly differs")
        called += "content" in result.verdict
        seen += result.content.interval[0] > 0  # or else there was nothing to be called
    assert called <= 5
    assert seen >= 80
    called = 0
    for _ in range(100):
        other = draw(200, generator, shift=10 * CONTENT + 0.7 * LOOK)
        result = compare(statistics(draw(200, generator)), statistics(other))
        assert "content clearly differs" in result.verdict
        called += "look" in result.verdict
        assert result.look.interval[0] > 0
    assert called <= 5


def test_limits_are_shares_of_the_other_part():
    result = compare(*both_sides(shares=TILTED, shift=3 * LOOK))
    assert result.content.limit == LEAKS[0] * result.look.debiased
    assert result.look.limit == LEAKS[1] * result.content.debiased
    same = next(result for seed in range(9) if (result := compare(*both_sides(seed=seed))).look.debiased < 0)
    assert same.content.limit == 0


CASES = {
    NOTHING: ({}, "No difference beyond chance"),
    "look clearly differs": ({"shift": 2 * LOOK}, "Look clearly differs, content does not"),
    "look differs": ({"shift": 0.8 * LOOK}, "Look differs, content does not"),
    "content clearly differs": ({"shares": TILTED}, "Content clearly differs, look does not"),
    "look clearly differs, content clearly differs": (
        {"shift": 2 * LOOK, "shares": TILTED},
        "Look clearly differs, content clearly differs",
    ),
}


@pytest.mark.parametrize(
    ("shift", "end"), [(0.0, "ence beyond chance, but diversity"), (2 * LOOK, "not, and diversity")]
)
def test_the_first_line_says_too_that_diversity_is_lost(shift, end):
    lost = find_repeats(torch.randn(10, 8, 8).repeat(10, 1, 1), torch.randn(100, 8, 8))
    result = replace(compare(*both_sides(shift=shift)), diversity=lost)
    assert str(result).splitlines()[0].endswith(f"{end} is lost")
    whole = replace(result, content=None, look=None)
    assert str(whole).splitlines()[0].endswith("diversity is lost")


@pytest.mark.parametrize("groups", [False, True])
@pytest.mark.parametrize("verdict", CASES)
def test_the_verdict_says_which_part_differs(verdict, groups):
    changed, conclusion = CASES[verdict]
    result = compare(*both_sides(groups=groups, **changed))
    assert result.verdict == verdict
    lines = str(result).splitlines()
    assert lines[0] == conclusion
    assert lines[1].startswith("RL2 ")
    assert "x the real-against-real baseline at these sample sizes; look " in lines[1]
    assert lines[1].count("x") >= 3
    assert result.is_judged("content")
    for line in lines[2:]:
        assert line.startswith("Generated: ")
    assert bool(lines[2:]) == ("content" in verdict)
    for name in PARTS:
        part = getattr(result, name)
        assert (part.interval[0] > part.limit if not groups else part.p_value < 0.05) == (name in verdict)


def test_content_that_damage_may_have_moved_is_not_judged():
    result = compare(*both_sides(400, shift=10 * LOOK + 1.2 * CONTENT))
    assert 0 < result.content.interval[0] < result.content.limit
    assert not result.is_judged("content")
    assert str(result).startswith(
        "Look clearly differs, content cannot be judged, as so large a change of look moves it too\nRL2"
    )
    assert "counts only above" in result.details()


def test_what_is_not_judged_has_no_p_value_and_its_kinds_have_a_caveat():
    hidden = compare(*both_sides(400, groups=True, shift=10 * LOOK + 1.2 * CONTENT))
    look, content = (line for line in hidden.details().splitlines() if line.startswith(("Look", "Content")))
    assert ", p < 0.001" in look
    assert ", p " not in content
    caveat = "with 95 % intervals; content is not judged, so look or other tissue may cause differences:"
    assert caveat in hidden.details()
    assert "p = " not in citation_of(hidden).partition("content")[2]
    foreign = replace(hidden, between_groups=BetweenGroups("laboratories", 6, (0.0, 0.1, 0.2)))
    assert "further away than any that the weights know, so it may be of none:" in foreign.details()
    assert "content is not judged" not in foreign.details()
    judged = compare(*both_sides(400, groups=True))
    assert caveat not in judged.details()
    assert all(", p " in line for line in judged.details().splitlines() if line.startswith(("Look", "Content")))


def test_a_part_that_differs_is_no_copy_however_close_the_whole():
    result = compare(*both_sides(groups=True, shift=0.8 * LOOK))
    assert result.verdict == "look differs"
    close = replace(result, interval=(-5.0, -0.1))
    assert close.verdict == "look differs"
    alike = replace(compare(*both_sides(groups=True)), interval=(-5.0, -0.1))
    assert alike.verdict.startswith("closer than chance allows")
    assert "Groups that are classes, or slides that are on both sides" in str(alike)
    assert "Groups that are classes" not in str(replace(alike, groups_fake=None))


def test_sums_alone_have_parts_without_a_test():
    real, fake = (replace(side, sums=replace(side.sums, second_moment=None)) for side in both_sides())
    result = compare(real, fake)
    assert result.content.interval is result.look.p_value is None
    assert not result.is_judged("content")
    assert str(result).startswith("No interval: a side has no second moments")
    assert result.content.baseline_multiple is not None
    assert result.scalars()["look_debiased"] == result.look.debiased


def test_what_a_person_has_to_know_first_comes_first():
    real, fake = both_sides()
    collapsed = compare(real, statistics(draw(2, Generator().manual_seed(0)).repeat_interleave(50, 0)))
    copied = replace(collapsed, duplicates={"fake": [("a", "b")] * 98})
    assert str(copied).startswith("Collapsed, generated images repeat 2 images\n")
    same = compare(real, real)
    assert str(same).startswith("Generated images are copies of real ones\n")
    few = compare(real, statistics(draw(3, Generator().manual_seed(0))))
    assert str(few).startswith("No interval, which needs at least 4 images a side; the generated side has 3 images\n")
    assert not few.is_judged("content")
    against_reference = compare(replace(real, source=REFERENCE), fake)
    assert "no verdict on a generator" in str(against_reference).splitlines()[-1]


def test_shares_have_wilsons_intervals():
    real, fake = both_sides(shares=TILTED, n=120)
    for kind, name, n, m in zip(
        kind_shares(real, fake),
        KINDS.names,
        real.sums.kind_counts.tolist(),
        fake.sums.kind_counts.tolist(),
        strict=True,
    ):
        assert (kind.name, kind.real, kind.fake) == (name, n / 120, m / 120)
        for count, interval in ((n, kind.real_interval), (m, kind.fake_interval)):
            assert interval == pytest.approx(tuple(binomtest(count, 120).proportion_ci(method="wilson")), rel=1e-6)


def shares_of(real, fake):
    """Shares of sides that have these numbers of images of each kind."""
    sides = [KINDS.means[torch.arange(3).repeat_interleave(torch.tensor(counts))] for counts in (real, fake)]
    return kind_shares(*map(statistics, sides))


def newcombe(k, n, m, o):
    """His method 10 by hand, at 5 % over three kinds: whether 0 is outside of the interval of k / n - m / o."""
    (p, low_p, high_p), (q, low_q, high_q) = (
        (a / b, *binomtest(a, b).proportion_ci(1 - 0.05 / 3, method="wilson")) for a, b in ((k, n), (m, o))
    )
    below, above = math.hypot(p - low_p, high_q - q), math.hypot(high_p - p, q - low_q)
    return not p - q - below <= 0 <= p - q + above


def test_shares_differ_by_newcombes_interval_of_all_kinds_together():
    flips = []
    for more in range(0, 40, 2):
        real, fake = (40, 40, 40), (40 + more, 40 - more, 40)
        found = shares_of(real, fake)
        assert [kind.differs for kind in found] == [newcombe(m, 120, k, 120) for k, m in zip(real, fake, strict=True)]
        flips.append(found[0].differs)
    assert flips == sorted(flips)
    assert {False, True} == set(flips)
    # One kind alone, without correction for three, would differ earlier.
    first = flips.index(True) * 2
    p, q = (binomtest(count, 120).proportion_ci(method="wilson") for count in (40, 40 + first - 2))
    share = (first - 2) / 120
    assert share > math.hypot((40 + first - 2) / 120 - q.low, p.high - 1 / 3)


def test_shares_of_sides_of_other_sizes_and_of_none():
    found = shares_of((30, 30, 0), (200, 0, 0))
    assert [(kind.real, kind.fake, kind.differs) for kind in found] == [(0.5, 1, True), (0.5, 0, True), (0, 0, False)]
    assert found[2].real_interval[0] == found[2].fake_interval[0] == 0
    assert 0.95 < found[0].fake_interval[0] < found[0].fake_interval[1] == pytest.approx(1)
    rare = shares_of((10, 0, 0), (1000, 50, 0))  # less than one image of ten
    assert not rare[1].differs


def test_groups_of_one_kind_each_count_as_one_image_each():
    labels = torch.arange(3).repeat_interleave(torch.tensor([40, 40, 40]))
    z, slides = KINDS.means[labels], [str(i // 10) for i in range(120)]
    independent, grouped = statistics(z), statistics(z, slides)
    for free, kind in zip(kind_shares(independent, independent), kind_shares(grouped, grouped), strict=True):
        assert kind.real == free.real == 1 / 3
        # Twelve slides, less the one that the jackknife takes.
        assert kind.real_interval == pytest.approx(
            tuple(binomtest(4, 12).proportion_ci(method="wilson")), abs=0.02, rel=0.1
        )
        assert kind.real_interval[0] < free.real_interval[0]
        assert kind.real_interval[1] > free.real_interval[1]


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [[10] * 6, [2, 3, 5, 8, 12, 20, 30, 45]])
def test_shares_of_few_groups_do_not_differ_by_chance(sizes):
    """With normal quantiles, and without the jackknife's weights, every fifth draw and every third do."""
    draws, wrong = np.random.default_rng(5), 0
    for _ in range(200):
        sides = []
        for _ in range(2):
            own = [draws.choice(3, size, p=draws.dirichlet(2 * np.ones(3))) for size in sizes]
            names = [str(i) for i, size in enumerate(sizes) for _ in range(size)]
            sides.append(statistics(KINDS.means[torch.from_numpy(np.concatenate(own))], names))
        wrong += any(kind.differs for kind in kind_shares(*sides))
    assert wrong <= 24


def test_a_difference_that_each_part_may_owe_to_the_other_is_one():
    real = statistics(draw(200, Generator().manual_seed(1)))
    fake = statistics(draw(200, Generator().manual_seed(2), shift=20 * LOOK + 20 * CONTENT))
    leaky = [replace(side, kinds=replace(KINDS, leaks=(1.5, 1.5))) for side in (real, fake)]
    result = compare(*leaky)
    assert result.verdict == "different, content and look cannot be told apart"
    assert str(result).startswith("Different, content and look cannot be told apart\nRL2")
    of_content = [replace(side, kinds=replace(KINDS, leaks=(0.1, 1.5))) for side in (real, fake)]
    assert str(compare(*of_content)).startswith(
        "Content clearly differs, look cannot be judged, as so large a change of"
    )
    nothing = [replace(statistics(draw(200, Generator().manual_seed(i))), kinds=leaky[0].kinds) for i in (3, 4)]
    assert compare(*nothing).verdict == NOTHING


def test_groups_that_are_all_alike_say_no_more_than_one_image_each():
    """41 slides of 41 patches; in floating point 1 / 41 of them is not quite one patch."""
    labels = torch.tensor([0] + [1] * 20 + [2] * 20).repeat(41)
    alike = statistics(KINDS.means[labels], [str(i // 41) for i in range(41**2)])
    level = 1 - 2 * norm.sf(t.isf(0.025, 40))  # whose normal quantile is that of t
    for kind, count in zip(kind_shares(alike, alike), (1, 20, 20), strict=True):
        expected = tuple(binomtest(count, 41).proportion_ci(level, method="wilson"))
        assert kind.real_interval == pytest.approx(expected, rel=1e-6)


@pytest.mark.slow
def test_shares_of_slides_with_compositions_of_their_own_do_not_differ_by_chance():
    generator, wrong, patches = Generator().manual_seed(4), 0, 0
    for _ in range(200):
        sides = []
        for _ in range(2):
            own = torch.distributions.Dirichlet(torch.ones(3))
            with torch.random.fork_rng():
                torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))
                shares = own.sample((20,))
            labels = torch.multinomial(shares, 10, replacement=True, generator=generator).flatten()
            sides.append((KINDS.means[labels], [str(i // 10) for i in range(200)]))
        wrong += any(kind.differs for kind in kind_shares(*(statistics(z, names) for z, names in sides)))
        patches += any(kind.differs for kind in kind_shares(*(statistics(z) for z, _ in sides)))
    assert wrong <= 16
    assert patches >= 30


def test_the_kinds_that_differ_most_are_printed_first():
    lines = str(compare(*both_sides(shares=TILTED))).splitlines()[2:]
    shares = []
    for line in lines:
        generated, _, rest = line.removeprefix("Generated: ").partition(" % most like ")
        shares.append((int(generated), int(rest.partition("where real has ")[2].partition(" %")[0])))
    assert len(lines) == 3
    assert lines[0].startswith("Generated: 79 % most like mucosa (")
    assert all(abs(a - b) >= abs(c - d) for (a, b), (c, d) in pairwise(shares))


def test_tissue_further_away_than_any_laboratory_is_not_called_a_kind():
    result = compare(*both_sides(shares=TILTED))
    for high, named in ((1.1 * result.debiased, True), (0.9 * result.debiased, False)):
        beside = BetweenGroups("laboratories", 6, (0.1, 0.2, high))
        assert ("most like" in str(replace(result, between_groups=beside))) == named


@pytest.mark.parametrize("groups", [False, True])
def test_a_result_is_json_with_its_parts(groups):
    result = compare(*both_sides(groups=groups, shares=TILTED, shift=LOOK))
    found = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    for name in PARTS:
        part = getattr(result, name)
        assert found[name]["value"] == part.value
        assert tuple(found[name]["interval"]) == part.interval
        assert found[name]["p_value"] == (part.p_value if groups else None)
        assert part.p_value is not None
    assert found["kinds"][0]["name"] == "mucosa"
    assert found["kinds"][0]["fake_interval"] == list(result.kinds[0].fake_interval)


def test_a_result_whose_parts_are_not_known_is_json():
    real, nan = both_sides()[0], statistics(torch.full((9, D), math.nan, dtype=torch.float64))
    one = statistics(draw(1, Generator().manual_seed(0)))
    huge = statistics(1e160 * draw(9, Generator().manual_seed(0)))
    for sides in ((real, nan), (nan, real), (one, one), (real, one), (real, huge), (huge, huge)):
        result = compare(*sides)
        shown = json.loads(json.dumps(result.to_dict(), allow_nan=False))
        assert shown["content"]["interval"] is None
        assert str(result)
        assert result.details()
        assert not result.is_judged("content")
        assert all(type(value) is float for value in result.scalars().values())


@pytest.mark.parametrize("groups", [False, True])
def test_scalars_name_the_parts(groups):
    result = compare(*both_sides(groups=groups))
    found = result.scalars("val/")
    names = {key.removeprefix("val/") for key in found if key.startswith(("val/content", "val/look"))}
    ends = {"", "_low", "_high", "_debiased", "_baseline_multiple"} | ({"_p_value"} if groups else set())
    assert names == {f"{part}{end}" for part in PARTS for end in ends}
    assert (found["val/look_low"], found["val/look_high"]) == result.look.interval
    assert found["val/content"] == result.content.value
    assert found["val/rl2"] ** 2 == pytest.approx(found["val/look"] ** 2 + found["val/content"] ** 2)


def test_notebooks_and_details_show_both_parts():
    result = compare(*both_sides(groups=True, shares=TILTED, shift=LOOK))
    shown, details = result._repr_html_(), result.details()
    assert "<th>Look, and times its baseline</th><td>" in shown
    assert "<th>Content, and times its baseline</th><td>" in shown
    for name in ("Look", "Content"):
        line = next(line for line in details.splitlines() if line.startswith(f"{name} "))
        assert ", p " in line
        assert "; detectable from " in line
        assert "as far as the other part can move it" in line
    assert "Images most like each kind of tissue, generated and real, with 95 % intervals:\n  mucosa: 79 % (" in details
    assert details.count(", differs") == sum(kind.differs for kind in result.kinds) >= 1
    assert ", p " not in compare(*both_sides()).details()
    assert f"look {result.look.value:.2f}"[:6] in repr(result)
