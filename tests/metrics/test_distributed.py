import pickle
from unittest import mock

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torchmetrics.utilities import dim_zero_cat

from tests.conftest import Moments as MomentsOfOneKind
from tests.conftest import random_images, tissue
from tests.fixtures.processes import two_ranks
from torchmetrics_rl2 import PatchQuality, ResNetL2
from torchmetrics_rl2.distance.kinds import PARTS, Kinds
from torchmetrics_rl2.pixels import degrade

IMAGES = 11
GROUPS = [f"patient {'äbcde'[i % 5]}{'x' * i}" if i < 4 else f"patient {i % 5}" for i in range(IMAGES)]
NAMES = ("sum", "square_sum", "count", "second_moment", "content_square_sum", "kind_counts")
STATES = tuple(f"{side}_{name}" for side in ("real", "fake") for name in NAMES)


class NamedMoments(MomentsOfOneKind):
    weights_id = "ab" * 32


class Moments(nn.Module):
    """With kinds of images: more red than green, and the other way round."""

    num_features = 3
    kinds = Kinds(torch.tensor([[130.0, 125, 127], [125, 130, 127]]), torch.tensor([0.5, 0.5]).log(), ("red", "green"))

    def forward(self, imgs):
        return imgs.float().mean((2, 3))


def data():
    return random_images(IMAGES, px=8), torch.arange(IMAGES) % 3 == 0


def share(rank, images, mask, uneven, names=None):
    """Half each, or all but two on rank 0, or nothing on rank 1."""
    chosen = {"even": torch.arange(IMAGES) % 2 == rank, "uneven": (torch.arange(IMAGES) < 9) == (rank == 0)}.get(uneven)
    if chosen is None:
        chosen = torch.full((IMAGES,), rank == 0)
    if names is None:
        return images[chosen], mask[chosen]
    return images[chosen], mask[chosen], [name for name, own in zip(names, chosen.tolist(), strict=True) if own]


def with_reference(rank):
    """The reference is the same on every rank, and counts once."""
    imgs, mask = data()
    whole = ResNetL2(Moments(), uncertainty=True)
    whole.update(imgs[mask], real=True)
    whole._to_sync = False
    metric = ResNetL2(Moments(), reference=whole.statistics(real=True), uncertainty=True)
    for _ in range(2):  # a second epoch changes nothing
        metric.reset()
        metric.update(*share(rank, imgs, mask, "even"))
        value, result = metric.compute(), metric.result()
    return {"reference": value, "reference result": result, "batch": metric(*share(rank, imgs, mask, "even"))}


def after_errors(rank):
    """An error while the sums of all ranks are in place brings back those of this rank."""
    metric = ResNetL2(Moments(), uncertainty=True)
    metric.update(*share(rank, *data(), "even"))
    local, errors = {name: getattr(metric, name).clone() for name in STATES}, []
    for method in ("compute", "result"):
        try:
            with patch(f"torchmetrics_rl2.metrics.resnet_l2.{'distance' if method == 'compute' else 'compare'}"):
                getattr(metric, method)()
        except ZeroDivisionError:
            same = all(torch.equal(getattr(metric, name), value) for name, value in local.items())
            errors.append((same, metric._is_synced, metric._cache))
    return {"errors": errors, "after errors": metric.compute()}


def patch(name):
    return mock.patch(name, side_effect=ZeroDivisionError)


def without_sync(rank):
    local = ResNetL2(Moments(), sync_on_compute=False)
    alone = ResNetL2(Moments(), process_group=[dist.new_group([0]), dist.new_group([1])][rank])
    for metric in (local, alone):
        metric.update(*share(rank, *data(), "uneven"))
    expected = ResNetL2(Moments(), distributed_available_fn=lambda: False)
    expected.update(*share(rank, *data(), "uneven"))
    return {"local": (local.compute(), alone.compute(), expected.compute())}


def of_groups(rank):
    """A patient on both ranks, others on one of them, and a rank without images."""
    found = {}
    for kind in ("even", "uneven", "one rank empty"):
        metric = grouped(debiased=kind == "even")
        imgs, mask, names = share(rank, *data(), kind, GROUPS)
        if len(imgs):
            metric.update(imgs, mask, groups=names)
        local = {name: getattr(metric, name).clone() for name in metric._defaults}
        metric.sync()
        found[kind] = {side: rows_by_name(metric, side) for side in ("real", "fake")}
        metric.unsync()
        found[kind]["restored"] = all(torch.equal(getattr(metric, name), value) for name, value in local.items())
        found[kind] |= {"value": metric.compute(), "result": metric.result(), "names": metric._keys("real")}
        found[kind]["saved"] = metric.statistics(real=True).group_names
        try:
            with patch("torchmetrics_rl2.metrics.kept_sums.add_rows"):
                metric.sync()
        except ZeroDivisionError:
            same = all(torch.equal(getattr(metric, name), value) for name, value in local.items())
            found[kind]["after error"] = same and not metric._is_synced
    nothing = grouped()
    nothing.sync()
    found["nothing"] = {name: tuple(getattr(nothing, name).shape) for name in nothing._defaults}
    stepwise = grouped(dist_sync_on_step=True)
    imgs, mask, names = share(rank, *data(), "even", GROUPS)
    found["on step"] = stepwise(imgs, mask, groups=names)
    found["steps"] = [rows_by_name(stepwise, side) for side in ("real", "fake")]
    return {"groups": found}


def grouped(**options):
    return ResNetL2(Moments(), groups=True, **options)


def rows_by_name(metric, side):
    values = [value.tolist() for value in vars(metric._kept(side)).values() if value is not None]
    return dict(zip(metric._keys(side), zip(*values, strict=True), strict=True))


CLASS_OPTIONS = {"sums": {}, "images": {"uncertainty": True}, "groups": {"groups": True}}


def classes_data():
    """More images than above, of whole numbers whose fourth powers add up exactly."""
    return random_images(IMAGES * 4, px=8) // 64 * 64, torch.arange(IMAGES * 4) % 3 == 0


def of_classes(rank):
    """A class on both ranks, others on one of them, and a rank without images."""
    found = {}
    for kind, options in CLASS_OPTIONS.items():
        for uneven in ("even", "one rank empty"):
            metric = ResNetL2(MomentsOfOneKind(), classes=True, **options)
            imgs, mask = classes_data()
            chosen = torch.arange(len(imgs)) % 2 == rank if uneven == "even" else torch.full((len(imgs),), rank == 0)
            if chosen.any():
                metric.update(imgs[chosen], mask[chosen], **class_names(chosen, metric.groups))
            local = {name: getattr(metric, name).clone() for name in metric._defaults}
            metric.sync()
            synced = {side: rows_by_name(metric, side) for side in ("real", "fake")}
            metric.unsync()
            restored = all(torch.equal(getattr(metric, name), value) for name, value in local.items())
            own = {key[0] for side in ("real", "fake") for key in metric._keys(side)}
            found[kind, uneven] = {"synced": synced, "restored": restored, "own": own, "result": metric.result()}
            found[kind, uneven]["value"] = metric.compute()
    return {"classes": found}


def of_reference_classes(rank, folder):
    """Each rank reads the classes of the real images from a file."""
    found = {}
    for kind, options in CLASS_OPTIONS.items():
        imgs, mask = classes_data()
        whole = ResNetL2(NamedMoments(), classes=True, distributed_available_fn=lambda: False, **options)
        whole.update(imgs[mask], real=True, **class_names(mask, whole.groups))
        file = f"{folder}/real-{kind}-{rank}.safetensors"
        whole.statistics(real=True).save(file)
        metric = ResNetL2(NamedMoments(), reference=file, classes=True, **options)
        chosen = ~mask & (torch.arange(len(imgs)) % 4 // 2 == rank)
        metric.update(imgs[chosen], real=False, **class_names(chosen, metric.groups))
        found[kind] = metric.result()
    return {"reference classes": found}


def class_names(chosen, with_groups):
    every = [i for i, is_chosen in enumerate(chosen.tolist()) if is_chosen]
    rare = {2: "fat", 8: "fat", 3: "nerve", 9: "nerve"}
    names = {"classes": [rare.get(i, "stroma" if i // 2 % 2 else "gland") for i in every]}
    return names | ({"groups": [f"patient {i % 10}" for i in every]} if with_groups else {})


QUALITY = ("percentiles", "scores", "kept", "targets")
SHARES = ("labeled", "unlabeled", "one rank empty")


def patches():
    good = tissue(24, seed=11)
    images = torch.cat([good, degrade(good[:12], "gaussian blur", 0.2)])
    return images, torch.tensor([0] * 24 + [1] * 12)


def own_patches(rank, kind):
    """Every second each, or all of them on rank 0; with labels unless they are to have none."""
    images, target = patches()
    chosen = torch.full((36,), rank == 0) if kind == "one rank empty" else torch.arange(36) % 2 == rank
    return (images[chosen],) if kind == "unlabeled" else (images[chosen], target[chosen])


def quality_states(metric):
    found = {name: getattr(metric, name) for name in QUALITY}
    return {name: dim_zero_cat(value).tolist() if len(value) else [] for name, value in found.items()}


def of_quality(rank, quality):
    found = {}
    for kind in SHARES:
        quality.reset()
        images, *target = own_patches(rank, kind)
        if len(images):
            quality.update(images, *target)
        local = quality_states(quality)
        quality.sync()
        synced, described, marks = quality_states(quality), repr(quality), (quality.criteria_id, quality.encoder_id)
        quality.unsync()
        value = {name: float(number) for name, number in quality.compute().items()}
        try:
            with patch("torchmetrics_rl2.metrics.patch_quality.dim_zero_cat"):
                quality._computed = None
                quality.compute()
        except ZeroDivisionError:
            kept = quality_states(quality) == local and not quality._is_synced
        found[kind] = {"synced": synced, "value": value, "kept": kept, "repr": described, "marks": marks}
    return {"quality": found}


def rank_main(rank, init, folder, quality):
    dist.init_process_group("gloo", init_method=init, rank=rank, world_size=2)
    found = {}
    for uneven in ("even", "uneven", "one rank empty"):
        metric = ResNetL2(Moments(), uncertainty=True)
        imgs, mask = share(rank, *data(), uneven)
        if len(imgs):
            metric.update(imgs, mask)
        metric.sync()
        found[uneven] = {name: getattr(metric, name).clone() for name in STATES}
        metric.unsync()
        found[uneven]["value"] = metric.compute()
        found[uneven]["result"] = metric.result()
        metric.sync()
        found[uneven]["result after sync"] = metric.result()
        metric.unsync()
        found[uneven]["statistics"] = [len(metric.statistics(real=side)) for side in (True, False)]
        found[uneven]["local count"] = metric.real_count + metric.fake_count

    found["parts"] = {}
    for part in PARTS:
        metric = ResNetL2(Moments(), part=part)
        metric.update(*share(rank, *data(), "uneven"))
        found["parts"][part] = metric.compute()
    found["on step"] = ResNetL2(Moments(), dist_sync_on_step=True)(*share(rank, *data(), "even"))
    kept = ResNetL2(Moments(), reset_real_features=False)
    imgs, mask = share(rank, *data(), "even")
    kept.update(imgs, mask)
    kept.reset()
    kept.update(imgs[~mask], real=False)
    found["kept"] = kept.compute()
    found |= (
        with_reference(rank)
        | after_errors(rank)
        | without_sync(rank)
        | of_groups(rank)
        | of_classes(rank)
        | of_reference_classes(rank, folder)
        | of_quality(rank, quality)
    )
    with open(f"{folder}/{rank}", "wb") as file:
        pickle.dump(found, file)
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def quality(weights_file, calibration):
    """Of a file, so that the other processes load it by name."""
    return PatchQuality(weights_file, calibration=calibration, max_false_rejection=0.05)


@pytest.fixture(scope="module")
def ranks(tmp_path_factory, quality):
    folder = tmp_path_factory.mktemp("ranks")
    two_ranks(rank_main, f"file://{folder}/init", str(folder), quality)
    return [pickle.loads((folder / str(rank)).read_bytes()) for rank in range(2)]


@pytest.fixture(scope="module")
def alone():
    metric = ResNetL2(Moments(), uncertainty=True)
    metric.update(*data())
    return {name: getattr(metric, name) for name in STATES} | {"value": metric.compute(), "result": metric.result()}


@pytest.mark.parametrize("uneven", ["even", "uneven", "one rank empty"])
def test_synced_sums_are_those_of_one_process(ranks, alone, uneven):
    # Raw sums, since a mean of sums over a mean of counts would give the same ratio.
    for rank in ranks:
        for name in STATES:
            assert rank[uneven][name].dtype == alone[name].dtype
            torch.testing.assert_close(rank[uneven][name], alone[name], rtol=1e-12, atol=0)
        torch.testing.assert_close(rank[uneven]["value"], alone["value"], rtol=1e-6, atol=0)
    assert sum(rank[uneven]["local count"] for rank in ranks) == IMAGES


def test_synced_counts_of_kinds_are_those_of_all_images(ranks, alone):
    for side, count in (("real", 4), ("fake", 7)):
        assert alone[f"{side}_kind_counts"].sum() == count
        assert alone[f"{side}_kind_counts"].min() > 0  # or a rank could be missing unseen
    for rank in ranks:
        for part, value in rank["parts"].items():
            assert value.item() == pytest.approx(getattr(alone["result"], part).value, rel=1e-6)
        found = rank["even"]["result"]
        assert found.kinds == alone["result"].kinds
        assert found.content.interval == pytest.approx(alone["result"].content.interval, rel=1e-9)


def test_a_step_can_be_synced(ranks, alone):
    assert ranks[0]["on step"] == ranks[1]["on step"]
    assert ranks[0]["on step"].item() == pytest.approx(alone["value"].item(), rel=1e-6)


def test_kept_reals_are_synced_once(ranks, alone):
    assert ranks[0]["kept"] == ranks[1]["kept"]
    assert ranks[0]["kept"].item() == pytest.approx(alone["value"].item(), rel=1e-6)


@pytest.mark.parametrize("uneven", ["even", "uneven", "one rank empty"])
def test_the_result_is_that_of_one_process_on_every_rank(ranks, alone, uneven):
    expected = alone["result"]
    for rank in ranks:
        got = rank[uneven]["result"]
        assert (got.n_real, got.n_fake) == (expected.n_real, expected.n_fake)
        assert rank[uneven]["statistics"] == [expected.n_real, expected.n_fake]
        assert rank[uneven]["result after sync"] == got
        assert got.interval == pytest.approx(expected.interval, rel=1e-9)
        assert got.p_value == pytest.approx(expected.p_value, rel=1e-9)


def test_a_reference_counts_once_whatever_the_number_of_ranks(ranks, alone):
    for rank in ranks:
        assert rank["reference"].item() == pytest.approx(alone["value"].item(), rel=1e-6)
        assert (rank["reference result"].n_real, rank["reference result"].n_fake) == (4, 7)
        assert rank["reference result"].interval == pytest.approx(alone["result"].interval, rel=1e-9)
    assert ranks[0]["batch"] != ranks[1]["batch"]


def test_an_error_in_compute_or_result_gives_the_local_sums_back(ranks, alone):
    for rank in ranks:
        assert rank["errors"] == [(True, False, None)] * 2
        assert rank["after errors"].item() == pytest.approx(alone["value"].item(), rel=1e-6)


def test_sync_can_be_switched_off_or_kept_to_a_group(ranks):
    for rank in ranks:
        local, alone, expected = rank["local"]
        assert local == alone == expected
    assert ranks[0]["local"][0] != ranks[1]["local"][0]


@pytest.mark.parametrize("kind", SHARES)
def test_patches_of_all_ranks_are_those_of_one_process(ranks, quality, kind):
    quality.reset()
    of_rank_0, of_rank_1 = own_patches(0, kind), own_patches(1, kind)
    together = [torch.cat(parts) for parts in zip(of_rank_0, of_rank_1, strict=True)]
    quality.update(*together)
    expected, value = quality_states(quality), {name: float(number) for name, number in quality.compute().items()}
    assert set(value) == ({"percentile", "kept"} if kind == "unlabeled" else {"percentile", "kept", "auroc", "auprc"})
    for rank in ranks:
        found = rank["quality"][kind]
        for name, entries in expected.items():
            assert found["synced"][name] == pytest.approx(entries, rel=1e-4, abs=1e-3)
        assert found["value"] == pytest.approx(value, rel=1e-4)
        assert found["repr"].endswith(f"{len(together[0])} patches)")
        assert all(
            torch.equal(*pair) for pair in zip(found["marks"], (quality.criteria_id, quality.encoder_id), strict=True)
        )


def test_an_error_in_compute_gives_the_patches_of_the_rank_back(ranks):
    assert all(rank["quality"][kind]["kept"] for rank in ranks for kind in SHARES)


@pytest.mark.parametrize("kind", ["even", "uneven", "one rank empty"])
def test_groups_of_all_ranks_are_exactly_those_of_one_process(ranks, kind):
    metric = grouped(debiased=kind == "even")
    imgs, mask = data()
    metric.update(imgs, mask, groups=GROUPS)
    expected = metric.result()
    assert expected.p_value is not None
    for rank in ranks:
        found = rank["groups"][kind]
        for side in ("real", "fake"):
            assert found[side] == rows_by_name(metric, side)
        assert found["value"].item() == pytest.approx(metric.compute().item(), rel=1e-6)
        assert (found["result"].groups_real, found["result"].groups_fake) == (4, 6)
        for name in ("debiased", "interval", "p_value"):
            assert getattr(found["result"], name) == pytest.approx(getattr(expected, name), rel=1e-9)
        assert {(name,) for name in found["saved"]} == set(metric._keys("real"))
        assert found["restored"]
        assert found["after error"]
    assert ranks[0]["groups"][kind]["value"] == ranks[1]["groups"][kind]["value"]
    own = [set(rank["groups"][kind]["names"]) for rank in ranks]
    assert own[0] != own[1]
    of_fake = [name for name, is_real in zip(GROUPS, mask, strict=True) if not is_real]
    assert len(set(of_fake)) < len(of_fake)  # the group that ranks share


def test_groups_of_no_rank_and_of_a_synced_step(ranks):
    empty = {name: tuple(value.shape) for name, value in grouped()._defaults.items()}
    whole = grouped()
    imgs, mask = data()
    whole.update(imgs, mask, groups=GROUPS)
    for rank in ranks:
        assert rank["groups"]["nothing"] == empty
        assert rank["groups"]["on step"].item() == pytest.approx(whole.compute().item(), rel=1e-6)
    for i, side in enumerate(("real", "fake")):
        own = [rank["groups"]["steps"][i] for rank in ranks]
        counts = [sum(rows[2] for rows in found.values()) for found in own]
        assert sum(counts) == int(whole._sums(side).count)
        assert min(counts) > 0


def assert_same_strata(found, expected):
    assert [one.name for one in found.strata] == [one.name for one in expected.strata]
    for one, other in zip(found.strata, expected.strata, strict=True):
        assert (one.n_real, one.n_fake, one.withheld) == (other.n_real, other.n_fake, other.withheld)
        if not one.withheld:
            assert one.debiased == pytest.approx(other.debiased, rel=1e-9)
            assert one.p_value == (other.p_value and pytest.approx(other.p_value, rel=1e-9))
    assert vars(found.strata_split) == pytest.approx(vars(expected.strata_split), rel=1e-9)


@pytest.mark.parametrize("uneven", ["even", "one rank empty"])
@pytest.mark.parametrize("kind", CLASS_OPTIONS)
def test_classes_of_all_ranks_are_exactly_those_of_one_process(ranks, kind, uneven):
    metric = ResNetL2(MomentsOfOneKind(), classes=True, **CLASS_OPTIONS[kind])
    imgs, mask = classes_data()
    metric.update(imgs, mask, **class_names(torch.full((len(imgs),), True), metric.groups))
    expected = metric.result()
    assert {one.name for one in expected.strata if not one.withheld} == {"gland", "stroma"}
    for rank in ranks:
        found = rank["classes"][kind, uneven]
        for side in ("real", "fake"):
            assert found["synced"][side] == rows_by_name(metric, side)
        assert found["restored"]
        assert found["value"].item() == pytest.approx(metric.compute().item(), rel=1e-6)
        assert_same_strata(found["result"], expected)
        assert_same_strata(rank["reference classes"][kind], expected)
    own = [rank["classes"][kind, uneven]["own"] for rank in ranks]
    if uneven == "even":
        assert own[0] & own[1] >= {"stroma", "gland"}
        assert (own[0] - own[1], own[1] - own[0]) == ({"fat"}, {"nerve"})
    else:
        assert own[1] == set()
