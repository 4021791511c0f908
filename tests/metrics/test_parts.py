"""ResNetL2 of content and of look, with weights that have kinds of tissue."""

import copy
import pickle

import pytest
import torch
from torchmetrics import MetricCollection
from torchmetrics.wrappers import FeatureShare

from tests.conftest import Moments, assert_same_sums, brightened, random_images, sums
from torchmetrics_rl2 import LatentEncoder, ResNetL2, RL2Error, Statistics, compare
from torchmetrics_rl2.distance.kinds import PARTS
from torchmetrics_rl2.functional import resnet_l2

REAL = brightened(random_images(12, seed=3))
FAKE = brightened(random_images(12, seed=4))[[0, 1, 1, 4, 4, 7, 3, 8]] // 2
MASK = torch.cat([torch.ones(12, dtype=torch.bool), torch.zeros(8, dtype=torch.bool)])


def updated(metric):
    metric.update(torch.cat([REAL, FAKE]), MASK)
    return metric


def projected(encoder, images, part):
    """The part of the latents of images, with none of the package's code for parts."""
    z, means = encoder(images).double(), encoder.kinds.means.double()
    span = torch.linalg.qr((means[1:] - means[0]).T).Q
    content = z @ span @ span.T
    return content if part == "content" else z - content


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("debiased", [False, True])
def test_a_part_is_the_distance_of_that_part_of_the_latents(encoder_of_kinds, part, debiased):
    encoder = encoder_of_kinds
    metric = updated(ResNetL2(encoder, part=part, debiased=debiased))
    value = metric.compute()
    expected = resnet_l2(projected(encoder, REAL, part), projected(encoder, FAKE, part), debiased)
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)
    assert (value.dtype, value.shape) == (torch.float32, ())
    of_result = getattr(updated(ResNetL2(encoder, uncertainty=True)).result(), part)
    assert value.item() == pytest.approx(of_result.debiased if debiased else of_result.value, rel=1e-6)
    assert getattr(metric.result(), part).value == pytest.approx(of_result.value, rel=1e-9)


def test_squares_of_the_parts_add_up_to_that_of_the_whole(encoder_of_kinds):
    content, look, whole = (
        updated(ResNetL2(encoder_of_kinds, part=part)).compute().item() for part in ("content", "look", None)
    )
    assert content**2 + look**2 == pytest.approx(whole**2, rel=1e-6)
    assert min(content, look) > 0.05 * whole


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("debiased", [False, True])
@pytest.mark.parametrize("groups", [None, [str(i // 2) for i in range(12)]])
def test_a_part_is_measured_from_a_reference(encoder_of_kinds, part, debiased, groups, tmp_path):
    encoder = encoder_of_kinds
    statistics = encoder.statistics(encoder(REAL), groups)
    statistics.save(tmp_path / "real.safetensors")
    expected = getattr(compare(statistics, encoder.statistics(encoder(FAKE))), part)
    for reference in (statistics, tmp_path / "real.safetensors"):
        metric = ResNetL2(encoder, reference=reference, part=part, debiased=debiased)
        value = metric(FAKE, real=False).item()
        assert value == pytest.approx(expected.debiased if debiased else expected.value, rel=1e-5)
        result = metric.result()
        assert result.real == statistics.source
        assert getattr(result, part).value == pytest.approx(expected.value, rel=1e-9)


@pytest.mark.parametrize("part", PARTS)
def test_a_part_is_measured_from_the_reference_inside_the_weights(encoder_of_kinds, part):
    value = ResNetL2(encoder_of_kinds, reference="weights", part=part)(FAKE, real=False).item()
    fake = encoder_of_kinds.statistics(encoder_of_kinds(FAKE))
    expected = getattr(compare(encoder_of_kinds.reference_statistics, fake), part)
    assert value == pytest.approx(expected.value, rel=1e-5)


def test_parts_that_are_not_there_are_refused(encoder, encoder_of_kinds):
    with pytest.raises(ValueError, match="expects part to be None, 'content' or 'look', but got 'stain'"):
        ResNetL2(encoder_of_kinds, part="stain")
    for network, name in ((encoder, "random@1"), (Moments(), "Moments")):
        with pytest.raises(RL2Error, match=rf"part='content'\) needs weights with kinds of tissue, and {name} has"):
            ResNetL2(network, part="content")
    plain = Statistics.of_latents(encoder_of_kinds(REAL), weights_id=encoder_of_kinds.weights_id)
    for part in (None, "content"):
        with pytest.raises(RL2Error, match="One encoder, but no kinds of tissue in latents and 3 kinds"):
            ResNetL2(encoder_of_kinds, reference=plain, part=part)


def test_a_network_with_other_kinds_has_no_parts():
    network = Moments()
    network.kinds = ["a", "b"]
    assert updated(ResNetL2(network)).result().content is None
    with pytest.raises(RL2Error, match="Moments has none"):
        ResNetL2(network, part="look")


def test_the_result_has_both_parts_whatever_is_returned(encoder_of_kinds):
    metrics = [updated(ResNetL2(encoder_of_kinds, part=part, uncertainty=True)) for part in (None, *PARTS)]
    results = [metric.result() for metric in metrics]
    assert results[0] == results[1] == results[2]
    latents = [encoder_of_kinds.statistics(encoder_of_kinds(side)) for side in (REAL, FAKE)]
    expected = compare(*latents)
    assert results[0].content.interval == pytest.approx(expected.content.interval, rel=1e-6)
    assert results[0].look.p_value == pytest.approx(expected.look.p_value, rel=1e-6)
    assert results[0].kinds == expected.kinds
    assert [kind.name for kind in results[0].kinds] == ["plain", "bright", "dark"]


def test_states_are_sums_of_the_whole_and_of_content_and_counts_of_kinds(encoder_of_kinds):
    encoder = encoder_of_kinds
    metric = updated(ResNetL2(encoder))
    assert {name: (value.dtype, tuple(value.shape)) for name, value in sums(metric).items()} == {
        f"{side}_{name}": described
        for side in ("real", "fake")
        for name, described in {
            "sum": (torch.float64, (512,)),
            "square_sum": (torch.float64, ()),
            "count": (torch.int64, ()),
            "content_square_sum": (torch.float64, ()),
            "kind_counts": (torch.int64, (3,)),
        }.items()
    }
    content = projected(encoder, FAKE, "content").square().sum()
    assert metric.fake_content_square_sum.item() == pytest.approx(content.item(), rel=1e-6)
    assert metric.real_kind_counts.tolist() == [4, 4, 4]
    assert torch.equal(metric.fake_kind_counts, encoder.kinds.of(encoder(FAKE)).bincount(minlength=3))
    assert metric.fake_kind_counts.unique().numel() > 1


def test_a_side_takes_6_kb_and_no_more_with_more_images(encoder_of_kinds, shipped):
    for encoder in (encoder_of_kinds, shipped):
        metric = ResNetL2(encoder, part="content")
        sizes = set()
        for _ in range(2):
            if encoder is encoder_of_kinds:
                updated(metric)
            states = {name: value for name, value in sums(metric).items() if name.startswith("fake")}
            sizes.add(sum(value.numel() * value.element_size() for value in states.values()))
        assert len(sizes) == 1
        assert max(sizes) <= 6000


def test_order_and_batches_do_not_matter(encoder_of_kinds):
    whole = updated(ResNetL2(encoder_of_kinds, part="look", uncertainty=True))
    parts, images = ResNetL2(encoder_of_kinds, part="look", uncertainty=True), torch.cat([REAL, FAKE])
    for chosen in torch.randperm(20, generator=torch.Generator().manual_seed(0)).split(7):
        parts.update(images[chosen], MASK[chosen])
    assert_same_sums(parts, whole)
    assert torch.equal(parts.fake_kind_counts, whole.fake_kind_counts)
    assert parts.compute().item() == pytest.approx(whole.compute().item(), rel=1e-6)


@pytest.mark.parametrize("part", [None, *PARTS])
def test_forward_reset_and_merged_shards(encoder_of_kinds, part):
    metric = ResNetL2(encoder_of_kinds, part=part)
    expected = updated(ResNetL2(encoder_of_kinds, part=part))
    torch.testing.assert_close(metric(torch.cat([REAL, FAKE]), MASK), expected.compute())
    metric.reset()
    assert all(not value.any() for value in sums(metric).values())
    shards = [ResNetL2(encoder_of_kinds, part=part) for _ in range(2)]
    shards[0].update(REAL, real=True)
    shards[1].update(FAKE, real=False)
    shards[0].merge_state(shards[1])
    assert_same_sums(shards[0], expected)
    assert torch.equal(shards[0].fake_kind_counts, expected.fake_kind_counts)
    torch.testing.assert_close(shards[0].compute(), expected.compute())


def test_kept_reals_keep_their_content_and_kinds(encoder_of_kinds):
    metric = ResNetL2(encoder_of_kinds, part="content", reset_real_features=False)
    value = updated(metric).compute()
    metric.reset()
    assert metric.kept_real_kind_counts.tolist() == [4, 4, 4]
    assert metric.kept_real_content_square_sum > 0
    assert not metric.fake_kind_counts.any()
    metric.update(FAKE, real=False)
    torch.testing.assert_close(metric.compute(), value)


def test_copies_of_a_metric_return_the_same_part_and_share_its_kinds(encoder_of_kinds):
    metric = updated(ResNetL2(encoder_of_kinds, part="look"))
    value = metric.compute()
    for twin in (metric.clone(), copy.deepcopy(metric), pickle.loads(pickle.dumps(metric))):
        assert twin.part == "look"
        assert torch.equal(twin._kinds.means, encoder_of_kinds.kinds.means)
        twin.reset()
        torch.testing.assert_close(updated(twin).compute(), value)
        assert twin.result().look.value == pytest.approx(value.item(), rel=1e-6)
    assert metric.clone()._kinds is metric._kinds
    assert metric.compute() == value


def test_three_parts_of_one_network_share_a_pass_and_keep_their_values(weights_of_kinds):
    encoder = LatentEncoder(weights_of_kinds)
    collection = MetricCollection({str(part): ResNetL2(encoder, part=part) for part in (None, *PARTS)})
    updated(collection)
    assert list(map(len, collection.compute_groups.values())) == [3]
    seen = []
    encoder.features.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
    collection.reset()
    updated(collection)
    assert seen == [20]
    found = {name: value.item() for name, value in collection.compute().items()}
    expected = {str(part): updated(ResNetL2(encoder, part=part)).compute().item() for part in (None, *PARTS)}
    assert found == pytest.approx(expected, rel=1e-6)
    assert len(set(found.values())) == 3


def test_parts_with_a_reference_share_a_pass_and_keep_their_values(weights_of_kinds):
    encoder = LatentEncoder(weights_of_kinds)
    options = [(part, debiased) for part in (None, *PARTS) for debiased in (False, True)]
    made = {f"{p} {d}": ResNetL2(encoder, reference="weights", part=p, debiased=d) for p, d in options}
    alone = {name: metric.clone()(FAKE, real=False).item() for name, metric in made.items()}
    collection = MetricCollection(made)
    for _ in range(2):
        collection.reset()
        collection.update(FAKE, real=False)
        assert {name: value.item() for name, value in collection.compute().items()} == pytest.approx(alone, rel=1e-6)
    assert len(set(alone.values())) == 6


def test_feature_share_finds_the_kinds_behind_its_cache(encoder_of_kinds):
    shared = FeatureShare({part: ResNetL2(encoder_of_kinds, part=part) for part in PARTS})
    shared.update(REAL, real=True)
    shared.update(FAKE, real=False)
    for part in PARTS:
        expected = updated(ResNetL2(encoder_of_kinds, part=part)).compute()
        torch.testing.assert_close(shared.compute()[part], expected)


def test_weights_of_one_kind_have_no_parts_and_no_more_states(encoder, weights_of_kinds):
    assert not any("kind" in name or "content" in name for name in sums(ResNetL2(encoder, uncertainty=True)))
    assert ResNetL2(encoder, uncertainty=True).fake_second_moment.shape == (513, 513)
    of_kinds = ResNetL2(LatentEncoder(weights_of_kinds), uncertainty=True)
    assert of_kinds.fake_second_moment.shape == (514, 514)


@pytest.mark.filterwarnings("ignore:ResNetL2 is NaN")
def test_parts_without_images_and_of_nan_are_nan(encoder_of_kinds):
    metric = ResNetL2(encoder_of_kinds, part="content", normalize=True)
    metric.update(REAL / 255, real=True)
    assert metric.compute().isnan()
    assert metric.result().kinds == ResNetL2(encoder_of_kinds).result().kinds == []
    metric.update(torch.full((2, 3, 64, 64), torch.nan), real=False)
    assert metric.compute().isnan()
    assert metric.result().content.interval is None
    assert metric.fake_kind_counts.sum() == 2
