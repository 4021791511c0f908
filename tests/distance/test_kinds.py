import copy
import re
from dataclasses import fields, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator

from tests.distance.test_statistics import ID, altered, latents, resigned
from torchmetrics_rl2 import RL2Error, Statistics, compare
from torchmetrics_rl2.distance.kinds import PARTS, Kinds, rows_of_images, sums_of
from torchmetrics_rl2.distance.sums import add_rows
from torchmetrics_rl2.functional import latent_sums, resnet_l2
from torchmetrics_rl2.networks import Mixture

NAMES = ("mucosa", "muscle", "stroma", "fat", "tumor")


def some_kinds(count=3, d=6, seed=0):
    generator = Generator().manual_seed(seed + 100)
    shares = torch.rand(count, generator=generator) + 0.2
    return Kinds(3 * torch.randn(count, d, generator=generator), (shares / shares.sum()).log(), NAMES[:count])


def projected(z, kinds, part):
    """The part of latents, with the projection by least squares and none of the package's code."""
    means = kinds.means.double()
    span = torch.linalg.qr((means[1:] - means[0]).T).Q
    content = z @ span @ span.T
    return content if part == "content" else z - content


def assert_same(one, other, **tolerance):
    """Raw tensors, not ratios of them."""
    for field in fields(one):
        value, expected = getattr(one, field.name), getattr(other, field.name)
        assert (value is None) == (expected is None), field.name
        if value is not None:
            torch.testing.assert_close(value, expected, **({"rtol": 1e-9, "atol": 1e-9} | tolerance))


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 30),
    m=st.integers(1, 30),
    d=st.integers(2, 20),
    count=st.integers(2, 5),
    shift=st.floats(-1e4, 1e4),
    grouped=st.booleans(),
)
def test_squares_of_content_and_look_add_up_to_that_of_rl2(n, m, d, count, shift, grouped):
    kinds = some_kinds(count, d)
    real, fake = latents(n, d=d), latents(m, seed=1, d=d) + shift
    groups = [[str(i % 3) for i in range(size)] if grouped else None for size in (n, m)]
    result = compare(*(Statistics.of_latents(z, g, kinds) for z, g in zip((real, fake), groups, strict=True)))
    assert result.content.value**2 + result.look.value**2 == pytest.approx(result.value**2, rel=1e-9)
    for part in PARTS:
        expected = float((projected(real, kinds, part).mean(0) - projected(fake, kinds, part).mean(0)).norm())
        # What content loses of float32 means, in double precision, is a billionth of the shift.
        assert getattr(result, part).value == pytest.approx(expected, rel=1e-6, abs=1e-9 * (1 + abs(shift)))


@settings(max_examples=30, deadline=None)
@given(order=st.permutations(range(14)), cuts=st.sets(st.integers(1, 13)))
def test_sums_do_not_depend_on_order_and_batches(order, cuts):
    kinds, z = some_kinds(), latents(14)
    whole, edges = sums_of(z, kinds, second_moment=True), [0, *sorted(cuts), 14]
    parts = [sums_of(z[order[a:b]], kinds, second_moment=True) for a, b in zip(edges, edges[1:], strict=False)]
    added = parts[0]
    for part in parts[1:]:
        added = added + part
    assert_same(added, whole)
    assert torch.equal(added.kind_counts, whole.kind_counts)
    assert whole.kind_counts.sum() == whole.count == 14


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("count", [2, 4])
def test_a_part_of_sums_is_the_sums_of_that_part(count, part):
    kinds, z = some_kinds(count), latents(20)
    found = kinds.part(sums_of(z, kinds, second_moment=True), part)
    own = projected(z, kinds, part)
    own = own @ kinds.basis if part == "content" else own
    assert found.sum.shape == ((count - 1,) if part == "content" else (6,))
    assert_same(found, latent_sums(own, second_moment=True), rtol=1e-6, atol=1e-4)
    rows = torch.arange(20) % 5
    grouped = kinds.part(add_rows(rows_of_images(z, kinds), rows, 5), part)
    expected = [latent_sums(own[rows == row]) for row in range(5)]
    for name in ("sum", "square_sum", "count"):
        stacked = torch.stack([getattr(row, name) for row in expected])
        torch.testing.assert_close(getattr(grouped, name), stacked, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("groups", [None, [str(i // 4) for i in range(24)]])
def test_uncertainty_of_a_part_is_that_of_its_latents(part, groups):
    kinds = some_kinds()
    sides = latents(24), latents(24, seed=1) + 0.4
    found = getattr(compare(*(Statistics.of_latents(z, groups, kinds) for z in sides)), part)
    own = [projected(z, kinds, part) for z in sides]
    own = [z @ kinds.basis for z in own] if part == "content" else own
    alone = compare(*(Statistics.of_latents(z, groups) for z in own))
    assert found.debiased == pytest.approx(alone.debiased, rel=1e-5)
    assert found.interval == pytest.approx(alone.interval, rel=1e-5)
    assert (found.baseline, found.baseline_multiple) == pytest.approx(
        (alone.baseline, alone.baseline_multiple), rel=1e-5
    )
    whole = compare(*(Statistics.of_latents(z, groups, kinds) for z in sides))
    without = compare(*(Statistics.of_latents(z, groups) for z in sides))
    assert (whole.value, whole.interval, whole.p_value) == (without.value, without.interval, without.p_value)


def test_the_kind_of_a_latent_is_the_most_probable_one():
    kinds, z = some_kinds(4), 3 * latents(500)
    base = Mixture(6, 4)
    base.means.copy_(kinds.means)
    base.log_shares.copy_(kinds.log_shares)
    assert torch.equal(kinds.of(z), base.double().responsibilities(z).argmax(1))
    assert set(kinds.of(z).tolist()) == {0, 1, 2, 3}
    counts = kinds.of(z).bincount(minlength=4)
    assert torch.equal(sums_of(z, kinds).kind_counts, counts)
    assert torch.equal(rows_of_images(z, kinds).kind_counts.sum(0), counts)


def test_the_share_of_a_kind_decides_between_two_means():
    kinds = Kinds(torch.tensor([[0.0, 0], [2, 0]]), torch.tensor([0.1, 0.9]).log(), NAMES[:2])
    assert kinds.of(torch.tensor([[0.9, 0], [-0.5, 0]])).tolist() == [1, 0]


def test_kinds_with_one_mean_span_a_smaller_space():
    means = some_kinds(4).means
    means[3] = means[1]
    kinds = Kinds(means, torch.full((4,), 0.25).log(), NAMES[:4])
    assert kinds.basis.shape == (6, 2)
    on_a_line = Kinds(torch.arange(3.0)[:, None] * torch.ones(6), torch.full((3,), 1 / 3).log(), NAMES[:3])
    assert on_a_line.basis.shape == (6, 1)
    sides = (Statistics.of_latents(latents(9, seed), kinds=kinds) for seed in range(2))
    result = compare(*sides)
    assert result.content.value**2 + result.look.value**2 == pytest.approx(result.value**2, rel=1e-9)


def test_a_basis_is_orthonormal_and_holds_all_differences_of_means():
    kinds = some_kinds(5, d=40)
    torch.testing.assert_close(kinds.basis.T @ kinds.basis, torch.eye(4, dtype=torch.float64))
    apart = (kinds.means[1:] - kinds.means[0]).double()
    torch.testing.assert_close(apart @ kinds.basis @ kinds.basis.T, apart, rtol=1e-6, atol=1e-6)


def test_with_more_kinds_than_dimensions_there_is_no_look():
    kinds = some_kinds(5, d=3)
    result = compare(*(Statistics.of_latents(latents(20, seed, d=3), kinds=kinds) for seed in range(2)))
    assert kinds.basis.shape == (3, 3)
    assert result.content.value == pytest.approx(result.value, rel=1e-9)
    assert result.look.value == pytest.approx(0, abs=1e-6)
    assert str(result)


def with_kinds(n=12, groups=None, kinds=None, seed=0):
    return Statistics.of_latents(latents(n, seed), groups, kinds or some_kinds(), **ID)


@pytest.mark.parametrize("groups", [None, list("aabbccddeeff")])
def test_kinds_are_saved_loaded_and_merged(tmp_path, groups):
    one, other = with_kinds(groups=groups), with_kinds(groups=groups, seed=1)
    one.save(tmp_path / "one.safetensors")
    loaded = Statistics.load(tmp_path / "one.safetensors")
    assert_same(loaded.sums, one.sums, rtol=0, atol=0)
    assert torch.equal(loaded.kinds.means, one.kinds.means)
    assert torch.equal(loaded.kinds.log_shares, one.kinds.log_shares)
    assert tuple(loaded.kinds.names) == tuple(one.kinds.names)
    merged = loaded + other
    both = torch.cat([latents(12), latents(12, seed=1)])
    whole = Statistics.of_latents(both, groups and groups + groups, some_kinds(), **ID)
    assert_same(merged.sums, whole.sums)
    if groups:
        assert_same(loaded.groups, one.groups, rtol=0, atol=0)
        assert_same(merged.groups, whole.groups)
    assert compare(merged, other).content == compare(whole, other).content or compare(
        merged, other
    ).content.value == pytest.approx(compare(whole, other).content.value, rel=1e-9)
    merged.save(tmp_path / "merged.safetensors")
    assert_same(Statistics.load(tmp_path / "merged.safetensors").sums, merged.sums, rtol=0, atol=0)


def test_copies_of_images_keep_what_the_parts_need(tmp_path):
    z, kinds = latents(12), some_kinds()
    copied = torch.cat([z, z[:3]])
    repeated = add_rows(rows_of_images(torch.cat([z[:3], z[:3]]), kinds), torch.arange(6) % 3, 3)
    statistics = replace(Statistics.of_latents(copied, kinds=kinds, **ID), repeated=repeated)
    statistics.save(tmp_path / "x.safetensors")
    loaded = Statistics.load(tmp_path / "x.safetensors")
    assert_same(loaded.repeated, repeated, rtol=0, atol=0)
    assert loaded.part("look").unit_count == 12
    each = [str(i) for i in range(12)]
    grouped = Statistics.of_latents(copied, each + each[:3], kinds)
    for part in PARTS:
        torch.testing.assert_close(loaded.part(part).units.covariance, grouped.part(part).units.covariance)


def test_with_and_without_kinds_do_not_mix():
    ours, plain = with_kinds(), Statistics.of_latents(latents(12), **ID)
    for pair in ((ours, plain), (plain, ours), (ours, with_kinds(kinds=some_kinds(2)))):
        for mix in (compare, Statistics.__add__):
            with pytest.raises(RL2Error, match=r"One encoder, but .*\d kinds of tissue in latents.*statistics of both"):
                mix(*pair)
    with pytest.raises(RL2Error, match="3 kinds of tissue in latents and no kinds of tissue in latents"):
        compare(ours, plain)
    with pytest.raises(RL2Error, match="noise@1 have no kinds of tissue, so RL2 has no content and look. 'rl2 fit'"):
        plain.part("content")


def test_without_kinds_a_result_has_no_parts():
    result = compare(*(Statistics.of_latents(latents(9, seed), **ID) for seed in range(2)))
    assert (result.content, result.look, result.kinds) == (None, None, [])
    assert not result.is_judged("content")
    assert "content" not in f"{result}{result.details()}{result!r}{result._repr_html_()}"
    assert not any("content" in name or "look" in name for name in result.scalars())


DAMAGED = {
    "malformed kinds: 3 names, tensors of shapes [(3, 5)": resigned(
        lambda _, tensors: tensors.update(kind_means=tensors["kind_means"][:, :5].contiguous())
    ),
    "malformed kinds: 3 names, tensors of shapes [(2, 6)": resigned(
        lambda _, tensors: tensors.update(kind_means=tensors["kind_means"][:2].contiguous())
    ),
    "malformed kinds: 3 names": resigned(
        lambda _, tensors: tensors.update(kind_log_shares=tensors["kind_log_shares"][:2].contiguous())
    ),
    "malformed kinds: 3 names,": resigned(lambda _, tensors: tensors["kind_means"].fill_(torch.nan)),
    "malformed kinds: 3 names, ": resigned(lambda _, tensors: tensors["kind_log_shares"].fill_(-torch.inf)),
    "malformed kinds: 3 names, tensors": resigned(
        lambda _, tensors: tensors.update(kind_means=tensors["kind_means"].long())
    ),
    "not all means the same": resigned(lambda _, tensors: tensors["kind_means"].fill_(1)),
    "malformed kinds: 4 names": resigned(lambda header, _: header["kinds"].append("bone")),
    "malformed kinds: 2 names": resigned(lambda header, _: header["kinds"].pop()),
    "for each a name of its own": resigned(lambda header, _: header.update(kinds=["fat", "fat", "tumor"])),
    "malformed sums of latents: shapes": resigned(lambda header, _: header["kinds"].clear()),
    "damaged header": resigned(lambda header, _: header.pop("kinds")),
    "damaged header (KeyError": resigned(lambda _, tensors: tensors.pop("kind_means")),
    "malformed sums of latents: of 12 images": resigned(lambda _, tensors: tensors["kind_counts"].add_(1)),
    "malformed sums of latents: of 12": resigned(
        lambda _, tensors: tensors["kind_counts"].add_(torch.tensor([13, -13, 0]))
    ),
    "malformed sums": resigned(lambda _, tensors: tensors.update(kind_counts=tensors["kind_counts"].double())),
    "malformed sums of": resigned(lambda _, tensors: tensors.pop("content_square_sum")),
    "malformed sums of latents": resigned(
        lambda _, tensors: tensors.update(second_moment=tensors["second_moment"][:-1, :-1].contiguous())
    ),
    "was altered after it was written": altered(lambda header, _: header["kinds"].reverse()),
    "was altered": altered(lambda _, tensors: tensors["kind_means"].add_(1)),
}


@pytest.mark.parametrize("sentence", DAMAGED)
def test_a_damaged_file_with_kinds_is_refused_with_a_sentence(tmp_path, sentence):
    source, target = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    with_kinds().save(source)
    DAMAGED[sentence](source, target)
    with pytest.raises(RL2Error, match=re.escape(sentence)):
        Statistics.load(target)


def test_groups_whose_kinds_do_not_add_up_are_refused(tmp_path):
    with_kinds(groups=list("aabbccddeeff")).save(tmp_path / "a.safetensors")

    def exchange(_, tensors):
        """Of one group, so that it still has as many images."""
        counts = tensors["group_kind_counts"]
        most = int(counts[0].argmax())
        counts[0, most] -= 1
        counts[0, most - 1] += 1

    resigned(exchange)(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    with pytest.raises(RL2Error, match="groups do not add up"):
        Statistics.load(tmp_path / "b.safetensors")


def test_clones_share_kinds_and_sums_of_nothing_are_empty():
    kinds = some_kinds()
    assert copy.deepcopy(kinds) is kinds
    empty = sums_of(torch.empty(0, 6), kinds, second_moment=True)
    assert (int(empty.count), empty.kind_counts.tolist(), len(kinds)) == (0, [0, 0, 0], 3)
    assert empty.second_moment.shape == (8, 8)
    assert_same(empty + sums_of(latents(3), kinds, True), sums_of(latents(3), kinds, True), rtol=0, atol=0)


def test_sums_are_float64_whatever_the_latents():
    kinds, z = some_kinds(), latents(8).float()
    half = sums_of(z.half(), kinds)
    assert {half.sum.dtype, half.content_square_sum.dtype} == {torch.float64}
    sides = z, z + 1
    result = compare(*(Statistics.of_latents(side, kinds=kinds) for side in sides))
    assert result.value == pytest.approx(resnet_l2(*(side.double() for side in sides)).item(), rel=1e-12)
