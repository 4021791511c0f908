import json
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Generator

from torchmetrics_rl2 import RL2Error, Statistics, compare
from torchmetrics_rl2.distance.statistics_file import HEADER
from torchmetrics_rl2.functional import LatentSums, resnet_l2
from torchmetrics_rl2.storage import digest

ID = {"weights": "noise@1", "weights_id": "ab" * 32}


def latents(n, seed=0, d=6):
    return torch.randn(n, d, generator=Generator().manual_seed(seed), dtype=torch.float64)


def classed(z, classes, groups=None):
    """Statistics with classes, each found by itself."""
    rows = {name: [i for i, other in enumerate(classes) if other == name] for name in sorted(set(classes))}
    found = {
        name: Statistics.of_latents(z[own], groups and [groups[i] for i in own], source=name, **ID)
        for name, own in rows.items()
    }
    return replace(Statistics.of_latents(z, groups, **ID), classes=found)


def same(one, other):
    for name, value in vars(one).items():
        expected = getattr(other, name)
        if isinstance(value, LatentSums):
            same(value, expected)
        elif name == "classes":
            assert list(value) == list(expected)
            for key in value:
                same(value[key], expected[key])
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


@settings(max_examples=30, deadline=None)
@given(names=st.lists(st.tuples(*[st.sampled_from("abc")] * 2), min_size=2, max_size=12), cut=st.integers(1, 11))
def test_classes_of_parts_add_up_to_those_of_the_whole_by_name(names, cut):
    cut, z = min(cut, len(names) - 1), latents(len(names))
    classes, slides = ([both[i] for both in names] for i in (0, 1))
    for groups in (None, slides):
        parts = [classed(z[rows], classes[rows], groups and groups[rows]) for rows in (slice(cut), slice(cut, None))]
        whole = classed(z, classes, groups)
        same(parts[0] + parts[1], whole)
        same(Statistics.merge([*parts, parts[0]]), classed(*doubled(cut, z, classes, groups)))
    assert sum(map(len, whole.classes.values())) == len(whole)
    assert whole.described()["classes"] == {name: classes.count(name) for name in sorted(set(classes))}
    assert f", {len(set(classes))} classes, weights noise@1)" in repr(whole)


def doubled(cut, z, *names):
    """The first images once more."""
    return torch.cat([z, z[:cut]]), *(one and [*one, *one[:cut]] for one in names)


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
    modules = [Statistics.of_latents(latents(5), weights=name) for name in ("Virchow", "UNI")]
    with pytest.raises(RL2Error, match="different weights, Virchow .no weights_id, 6 numbers. and UNI"):
        compare(*modules)
    assert compare(modules[0], unknown).weights_id is None  # which nobody has named


def test_groups_and_no_groups_do_not_merge():
    with pytest.raises(RL2Error, match="one has groups and the other has none"):
        Statistics.of_latents(latents(4)) + Statistics.of_latents(latents(4), list("abcd"))


def test_classes_and_no_classes_do_not_merge():
    with_classes, plain = classed(latents(4), list("aabb")), Statistics.of_latents(latents(4), **ID)
    for parts in ([with_classes, plain], [plain, with_classes]):
        with pytest.raises(RL2Error, match="one has classes and the other has none. Make both with classes"):
            Statistics.merge(parts)


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
    header, tensors = contents(tmp_path / "real.safetensors")
    assert not any("class" in key for key in (*header, *tensors))


@pytest.mark.parametrize("groups", [None, list("aabbccddeea")])
def test_classes_that_are_saved_are_loaded(tmp_path, groups):
    names = ["stroma", "Größe, e\udce9"] * 5 + ["alone"]
    statistics = classed(latents(11), names, groups)
    repeated = statistics.classes["stroma"].sums
    copies = LatentSums(*(value[None] * 2 for value in (repeated.sum / 6, repeated.square_sum / 6, torch.tensor(1))))
    changed = replace(statistics.classes["stroma"], repeated=copies, duplicates=(("2.png", "0.png"),))
    statistics = replace(statistics, classes={**statistics.classes, "stroma": changed})
    statistics.save(tmp_path / "real.safetensors")
    loaded = Statistics.load(tmp_path / "real.safetensors")
    same(loaded, statistics)
    assert compare(loaded.classes["stroma"], loaded.classes["stroma"]).weights_id == ID["weights_id"]


def test_a_class_takes_its_second_moment_or_its_groups(tmp_path):
    z, sums = latents(12, d=512), 514 * 8
    for groups, expected in ((None, sums + 513**2 * 8), (["a", "b"] * 6, sums + 2 * sums)):
        sizes = []
        for names in (["x"] * 12, list("xyz") * 4):
            classed(z, names, groups).save(tmp_path / "real.safetensors")
            sizes.append((tmp_path / "real.safetensors").stat().st_size)
        assert 0 < (sizes[1] - sizes[0]) / 2 - expected < 1000


def contents(path):
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()[HEADER]), load_file(path)


def altered(change):
    def make(source, target):
        header, tensors = contents(source)
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
    "format version 3.*reads 2. It was written by .*": altered(lambda header, _: header.update(format_version=3)),
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
    "one name each.": resigned(lambda header, _: header["groups"].append("a")),
}


@pytest.mark.parametrize("sentence", DAMAGED)
def test_a_damaged_file_is_refused_with_a_sentence(tmp_path, sentence):
    source, target = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    Statistics.of_latents(latents(4), list("abcd"), **ID).save(source)
    DAMAGED[sentence](source, target)
    with pytest.raises(RL2Error, match=sentence):
        Statistics.load(target)


DAMAGED_CLASSES = {
    "altered": altered(lambda header, _: header["classes"][0].update(name="c")),
    "its classes do not add up": resigned(lambda header, tensors: forget_last(header, tensors)),
    "its classes do not add up.*": resigned(lambda _, tensors: one_twice(tensors)),
    "malformed sums": resigned(lambda _, tensors: tensors.pop("class_1_sum")),
    "malformed sums.*": resigned(lambda header, _: header["classes"].pop()),
    "its classes do not add.*": resigned(lambda _, tensors: narrow(tensors)),
    "classes have not one name each": resigned(lambda header, _: header["classes"][0].update(name="b")),
    "groups have not one name each": resigned(lambda header, _: header["classes"][0]["groups"].pop()),
    "damaged header.*name": resigned(lambda header, _: header["classes"][0].pop("name")),
    "damaged header": resigned(lambda header, _: header.update(classes=[5])),
    "not finite": resigned(lambda _, tensors: tensors["class_0_sum"].fill_(torch.nan)),
}


def forget_last(header, tensors):
    header["classes"].pop()
    for key in [key for key in tensors if key.startswith("class_1_")]:
        tensors.pop(key)


def one_twice(tensors):
    tensors.update({key.replace("_1_", "_0_"): value.clone() for key, value in tensors.items() if "class_1_" in key})


def narrow(tensors):
    for key in ("class_0_sum", "class_0_group_sum"):
        tensors[key] = tensors[key][..., :5].contiguous()


@pytest.mark.parametrize("sentence", DAMAGED_CLASSES)
def test_damaged_classes_are_refused_with_a_sentence(tmp_path, sentence):
    source, target = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    classed(latents(4), list("aabb"), list("stst")).save(source)
    DAMAGED_CLASSES[sentence](source, target)
    with pytest.raises(RL2Error, match=sentence):
        Statistics.load(target)


def test_a_part_has_no_classes(encoder_of_kinds):
    z = latents(8, d=512)
    whole = replace(encoder_of_kinds.statistics(z), classes={"a": encoder_of_kinds.statistics(z)})
    assert whole.part("look").classes == {}


def test_weights_are_no_statistics(weights_file):
    with pytest.raises(RL2Error, match="not RL2 statistics"):
        Statistics.load(weights_file)
