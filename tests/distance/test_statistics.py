import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Generator

from torchmetrics_rl2 import RL2Error, Statistics, compare
from torchmetrics_rl2.distance.statistics_file import HEADER
from torchmetrics_rl2.functional import LatentSums, resnet_l2
from torchmetrics_rl2.storage import digest

ID = {"weights": "noise@1", "weights_id": "ab" * 32}


def latents(n, seed=0, d=6):
    return torch.randn(n, d, generator=Generator().manual_seed(seed), dtype=torch.float64)


def same(one, other):
    for name, value in vars(one).items():
        expected = getattr(other, name)
        if isinstance(value, LatentSums):
            same(value, expected)
        elif isinstance(value, torch.Tensor):
            torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-12)
        else:
            assert value == expected


@settings(max_examples=30, deadline=None)
@given(names=st.lists(st.sampled_from("abcd"), min_size=2, max_size=12), cut=st.integers(1, 11))
def test_parts_add_up_to_the_whole_and_groups_merge_by_name(names, cut):
    cut = min(cut, len(names) - 1)
    z = latents(len(names))
    for groups in (None, names):
        parts = [
            Statistics.of_latents(z[:cut], groups and groups[:cut], **ID),
            Statistics.of_latents(z[cut:], groups and groups[cut:], **ID),
        ]
        whole = Statistics.of_latents(z, groups, **ID)
        same(parts[0] + parts[1], whole)
        same(Statistics.merge([parts[0]]), parts[0])
    assert whole.group_names == tuple(dict.fromkeys(names))
    assert len(whole) == len(names)


def test_compare_is_the_distance_with_its_uncertainty():
    real, fake = latents(30), latents(20, seed=1) + 1
    result = compare(
        Statistics.of_latents(real, source="slides", **ID), Statistics.of_latents(fake, source="generated", **ID)
    )
    assert result.value == pytest.approx(resnet_l2(real, fake).item(), rel=1e-12)
    assert result.debiased == pytest.approx(resnet_l2(real, fake, debiased=True).item(), rel=1e-9)
    assert (result.n_real, result.n_fake, result.real, result.fake) == (30, 20, "slides", "generated")
    assert (result.weights, result.weights_id) == ("noise@1", ID["weights_id"])
    assert result.interval[0] < result.debiased < result.interval[1]
    assert result.p_value < 1e-6


def test_patches_of_one_slide_reject_a_true_null_and_slides_do_not():
    """Every slide has its own mean: with patches as units, chance between slides passes for a difference."""
    generator, rejected = Generator().manual_seed(0), {"patches": 0, "slides": 0}
    for _ in range(100):
        sides = []
        for side in range(2):
            slides = torch.randn(10, 1, 8, generator=generator)
            z = (slides + torch.randn(10, 20, 8, generator=generator)).flatten(0, 1)
            sides.append((z, [f"{side} {i // 20}" for i in range(200)]))
        rejected["patches"] += compare(*(Statistics.of_latents(z) for z, _ in sides)).p_value < 0.05
        rejected["slides"] += compare(*(Statistics.of_latents(z, names) for z, names in sides)).p_value < 0.05
    assert rejected["patches"] >= 95
    assert rejected["slides"] <= 10


def test_one_image_or_group_has_no_debiased_value():
    for fake in (Statistics.of_latents(latents(1), **ID), Statistics.of_latents(latents(5), ["a"] * 5, **ID)):
        result = compare(Statistics.of_latents(latents(10), **ID), fake)
        assert math.isfinite(result.value)
        assert math.isnan(result.debiased)


def test_latents_of_different_weights_do_not_mix():
    ours = Statistics.of_latents(latents(5), **ID)
    others = Statistics.of_latents(latents(5), weights="other@1", weights_id="cd" * 32)
    unknown = Statistics.of_latents(latents(5))
    for pair in ((ours, others), (ours, unknown), (unknown, Statistics.of_latents(latents(5, d=7)))):
        with pytest.raises(RL2Error, match="different weights"):
            compare(*pair)
        with pytest.raises(RL2Error, match="different weights"):
            pair[0] + pair[1]
    assert compare(unknown, unknown).weights_id is None


def test_groups_and_no_groups_do_not_merge():
    with pytest.raises(RL2Error, match="one has groups and the other has none"):
        Statistics.of_latents(latents(4)) + Statistics.of_latents(latents(4), list("abcd"))


def test_settings_that_differ_are_dropped_and_sizes_kept():
    small, large = (
        Statistics.of_latents(latents(4), settings={"tile": px, "scale": None, "px": [[px, px]]}, **ID)
        for px in (112, 224)
    )
    assert (small + large).settings == {"scale": None, "px": [[112, 112], [224, 224]]}


def test_files_that_were_left_out_are_on_record_on_both_sides():
    sides = [Statistics.of_latents(latents(4), unreadable=(f"{name}: no",), **ID) for name in "ab"]
    assert compare(*sides).unreadable == ["a: no", "b: no"]
    assert (sides[0] + sides[1]).unreadable == ("a: no", "b: no")


def test_there_has_to_be_something_to_merge():
    with pytest.raises(RL2Error, match="no statistics to merge"):
        Statistics.merge([])


@pytest.mark.parametrize("names", [[0, 0, 1, 1], torch.tensor([0, 0, 1, 1])])
def test_names_of_groups_are_text(names, tmp_path):
    statistics = Statistics.of_latents(latents(4), names, **ID)
    statistics.save(tmp_path / "x.safetensors")
    assert (statistics + Statistics.load(tmp_path / "x.safetensors")).group_names == ("0", "1")


def test_a_group_with_most_images_is_warned_of():
    with pytest.warns(UserWarning, match="One of the 4 groups of generated has 70% of its images"):
        compare(
            Statistics.of_latents(latents(10), **ID),
            Statistics.of_latents(latents(10), list("aaaaaaabcd"), source="generated", **ID),
        )


def test_latents_need_a_group_each():
    with pytest.raises(ValueError, match=r"\(4, 6\) and 3 groups"):
        Statistics.of_latents(latents(4), list("abc"))
    with pytest.raises(ValueError, match=r"\(0, 6\)"):
        Statistics.of_latents(latents(0))


@pytest.mark.parametrize("groups", [None, list("aabbccddee")])
def test_what_is_saved_is_loaded(tmp_path, groups):
    described = ID | {"source": "slides", "settings": {"tile": 224, "px": [[224, 224]]}, "unreadable": ("x.png: no",)}
    statistics = Statistics.of_latents(latents(10), groups, **described)
    statistics.save(tmp_path / "real.safetensors")
    same(Statistics.load(tmp_path / "real.safetensors"), statistics)
    assert list(tmp_path.iterdir()) == [tmp_path / "real.safetensors"]


def test_a_header_of_any_length_is_no_pickle(tmp_path):
    # The file starts with the length of its header, and 640 beyond 65,536 looks like the start of a pickle.
    starts = set()
    for length in range(65_000, 65_600, 8):
        path = tmp_path / f"{length}.safetensors"
        Statistics.of_latents(latents(4), source="x" * length, **ID).save(path)
        starts.add(path.read_bytes()[:2])
    assert b"\x80\x02" in starts


def test_statistics_of_an_unknown_encoder_are_not_saved(tmp_path):
    with pytest.raises(RL2Error, match="cannot be saved: they have no images, or NaN"):
        Statistics.of_latents(latents(4) * math.nan, **ID).save(tmp_path / "x.safetensors")
    with pytest.raises(RL2Error, match="has no weights_id"):
        Statistics.of_latents(latents(4)).save(tmp_path / "x.safetensors")
    assert not list(tmp_path.iterdir())


def altered(change):
    def make(source, target):
        from safetensors import safe_open

        with safe_open(source, "pt") as file:
            header = json.loads(file.metadata()[HEADER])
        tensors = load_file(source)
        change(header, tensors)
        save_file(tensors, target, {HEADER: json.dumps(header)})

    return make


def resigned(change):
    """As someone would who means harm."""

    def make(source, target):
        def change_and_sign(header, tensors):
            change(header, tensors)
            header.pop("sha256")
            header["sha256"] = digest([header], tensors)

        altered(change_and_sign)(source, target)

    return make


DAMAGED = {
    "There is no file": lambda source, target: None,
    "not a readable safetensors": lambda source, target: target.write_bytes(source.read_bytes()[:500]),
    "pickle": lambda source, target: torch.save({}, target),
    "rl2 stats": lambda source, target: save_file({"a": torch.zeros(1)}, target),
    "format version 2.*reads 1. It was written by .*": altered(lambda header, _: header.update(format_version=2)),
    "altered": altered(lambda header, _: header.update(weights_id="cd" * 32)),
    "altered.*": altered(lambda _, tensors: tensors["sum"].add_(1)),
    "altered.*after": altered(lambda header, _: header["groups"].reverse()),
    "malformed sums": resigned(lambda _, tensors: tensors.update(sum=torch.zeros((), dtype=torch.float64))),
    "malformed sums.*": resigned(lambda _, tensors: tensors.update(group_count=torch.tensor(1))),
    "malformed": resigned(lambda _, tensors: tensors.update({k: v[:0] for k, v in tensors.items() if "group" in k})),
    "not finite": resigned(lambda _, tensors: tensors["sum"].fill_(torch.inf)),
    "damaged header.*texts": resigned(lambda header, _: header.update(weights_id=None)),
    "damaged header": resigned(lambda header, _: header.pop("settings")),
    "do not add up": resigned(lambda _, tensors: tensors["sum"].mul_(100)),
    "px are pairs": resigned(lambda header, _: header["settings"].update(px=[["a", "b"]])),
    "damaged header.*not iterable": resigned(lambda header, _: header["settings"].update(px=5)),
    "one name each": resigned(lambda header, _: header["groups"].pop()),
}


@pytest.mark.parametrize("sentence", DAMAGED)
def test_a_damaged_file_is_refused_with_a_sentence(tmp_path, sentence):
    source, target = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    Statistics.of_latents(latents(4), list("abcd"), **ID).save(source)
    DAMAGED[sentence](source, target)
    with pytest.raises(RL2Error, match=sentence):
        Statistics.load(target)


def test_weights_are_no_statistics(weights_file):
    with pytest.raises(RL2Error, match="not RL2 statistics"):
        Statistics.load(weights_file)
