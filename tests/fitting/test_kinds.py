import random
import warnings
from collections import Counter
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.cluster.vq import ClusterError
from torch import Generator
from torchvision.transforms.v2.functional import to_pil_image

from tests.conftest import random_images
from torchmetrics_rl2 import LatentEncoder, RL2Error, Statistics, compare, fit
from torchmetrics_rl2.fitting import FitSettings, kinds, training
from torchmetrics_rl2.fitting.features import names_of
from torchmetrics_rl2.fitting.fitted_flow import _patches
from torchmetrics_rl2.fitting.kinds import (
    MAX_LABELS,
    FoundKinds,
    confused_kinds,
    describe_kinds,
    find_kinds,
    label_kinds,
    prediction_strength,
)
from torchmetrics_rl2.fitting.kinds_picture import draw_kinds, patch_name
from torchmetrics_rl2.images import ImageReader, read_image
from torchmetrics_rl2.networks import RealNVP
from torchmetrics_rl2.weights import read_weights

ONE_GAUSSIAN = FitSettings(layers=0)


def clusters(n=64, count=3, d=40, apart=6.0, seed=0):
    """Features of clusters, the largest last, and the cluster of each."""
    generator = Generator().manual_seed(seed)
    labels = torch.arange(n) % (count + 1)
    labels[labels == count] = count - 1
    means = apart * torch.randn(count, d, generator=generator)
    return means[labels] + torch.randn(n, d, generator=generator), labels


def each(n):
    return [f"file {i}" for i in range(n)]


@pytest.mark.parametrize("count", [2, 3])
def test_prediction_strength_counts_the_pairs_that_stay_together(count, monkeypatch):
    features, _ = clusters(60, apart=0.5)
    x, groups = features.double().numpy(), np.array([f"slide {i % 12}" for i in range(60)])
    seen = []
    k_means = kinds._k_means

    def spy(*arguments):
        seen.append((arguments[0], k_means(*arguments)))
        return seen[-1][1]

    monkeypatch.setattr(kinds, "_k_means", spy)
    found = prediction_strength(x, groups, count, seed=3)
    slide_of = {tuple(row): slide for row, slide in zip(x.tolist(), groups, strict=True)}
    strengths = []
    for (half, (labels, _)), (other, (_, centers)) in zip(seen[::2], seen[1::2], strict=True):
        assert len(half) == len(other) == 30
        assert not {slide_of[tuple(row)] for row in half} & {slide_of[tuple(row)] for row in other}
        nearest = [min(range(count), key=lambda k: float(((row - centers[k]) ** 2).sum())) for row in half]
        shares = []
        for k in range(count):
            pairs = list(combinations([i for i in range(30) if labels[i] == k], 2))
            together = sum(nearest[i] == nearest[j] for i, j in pairs)
            shares.append(together / len(pairs) if pairs else 1.0)
        strengths.append(min(shares))
    assert len(strengths) == 10
    assert found == pytest.approx(sum(strengths) / 10, rel=1e-12)
    assert 0 < found < 1


def test_halves_that_leave_a_cluster_empty_have_no_strength(monkeypatch):
    def empty(*arguments, **options):
        raise ClusterError

    monkeypatch.setattr(kinds, "kmeans2", empty)
    assert prediction_strength(np.zeros((20, 2)), np.arange(20), 3) == 0


@pytest.mark.slow
def test_three_clusters_are_found_the_largest_first():
    features, labels = clusters()
    found = find_kinds(features, each(64))
    assert found.names == ("kind 1", "kind 2", "kind 3")
    assert torch.equal(found.labels == 0, labels == 2)
    assert len({(a, b) for a, b in zip(found.labels.tolist(), labels.tolist(), strict=True)}) == 3
    assert found.labels.bincount().tolist() == [32, 16, 16]
    assert set(found.strengths) == {2, 3, 4}
    assert found.strengths[3][0] == 1
    assert found.strengths[4][0] < 0.75


@pytest.mark.slow
@pytest.mark.parametrize("stretch", [1.0, 10.0])
def test_one_gaussian_is_one_kind_however_long_it_is(stretch):
    """Halved across its length it splits quite stably, in different data by chance more so."""
    for seed in range(4):
        generator = Generator().manual_seed(100 + seed)
        features = torch.randn(96, 40, generator=generator)
        features[:, 0] *= stretch
        found = find_kinds(features, each(96))
        assert (found.names, found.labels.any()) == (("kind 1",), False)
        assert set(found.strengths) == {2, 3, 4, 5, 6}


def test_few_patches_or_groups_are_one_kind():
    features, _ = clusters(31)
    for few, groups in ((features, each(31)), (clusters(64)[0], [f"slide {i % 7}" for i in range(64)])):
        found = find_kinds(few, groups)
        assert found.names == ("kind 1",)
        assert torch.equal(found.labels, torch.zeros(len(few), dtype=torch.int64))
        assert found.strengths == {1: (1.0, 1.0)}
    assert len(find_kinds(features[:2], each(2))) == 1


@pytest.mark.parametrize("count", [1, 2, 4])
def test_as_many_kinds_as_asked_for(count):
    features, _ = clusters(80)
    found = find_kinds(features, each(80), count=count)
    sizes = found.labels.bincount(minlength=count).tolist()
    assert (len(found), found.strengths) == (count, {})
    assert sizes == sorted(sizes, reverse=True)
    assert min(sizes) >= 8


def test_one_kind_is_of_any_number_of_patches_and_seeds_are_any_number():
    features, _ = clusters(40)
    assert find_kinds(features[:7], each(7), count=1).names == ("kind 1",)
    assert len(find_kinds(features, each(40), count=3, seed=2**63 - 1)) == 3


def test_too_few_patches_for_so_many_kinds_are_refused():
    features, _ = clusters(39)
    with pytest.raises(RL2Error, match="The 39 patches that fit the flow do not make 5 clusters of 8 or more"):
        find_kinds(features, each(39), count=5)
    lonely = torch.cat([features, 1000 + features[:1]])  # a cluster of one
    with pytest.raises(RL2Error, match="The 40 patches that fit the flow do not make 2 clusters of 8 or more"):
        find_kinds(lonely, each(40), count=2)


def test_the_same_seed_finds_the_same_kinds_and_no_global_state_is_touched():
    features, _ = clusters(apart=0.3)
    torch.manual_seed(5)
    np.random.seed(5)
    random.seed(5)
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    first, again = (find_kinds(features, each(64), seed=2, count=4) for _ in range(2))
    x = features[:, :8].double().numpy()
    strengths = [prediction_strength(x, np.arange(64), 3, seed) for seed in (2, 2, 3)]
    assert torch.equal(first.labels, again.labels)
    assert strengths[0] == strengths[1] != strengths[2]
    after = torch.random.get_rng_state(), np.random.get_state()[1], random.getstate()
    assert torch.equal(before[0], after[0])
    assert (before[1] == after[1]).all()
    assert before[2] == after[2]


def labeled(counts):
    """Files of kinds, so many of each, and their kinds."""
    files = [Path(f"/images/{name}/{i}.png") for name, count in counts.items() for i in range(count)]
    return [str(path) for path in files], {path: path.parent.name for path in files}


def test_labels_are_kinds_by_name_and_tiles_of_a_file_are_of_one():
    files, named = labeled({"stroma": 9, "fat": 8})
    found = label_kinds(names_of([*files, files[0]], named | {Path("/images/other.png"): "not among them"}))
    assert (found.names, found.strengths) == (("fat", "stroma"), {})
    assert found.labels.tolist() == [1] * 9 + [0] * 8 + [1]


def test_labels_that_are_no_kinds_are_refused():
    many = {f"kind {i:02}": 8 for i in range(33)}
    for counts, sentence in (
        ({"fat": 30}, r"of one kind, fat; expected 2 to 32. Leave --kinds out to have kinds found"),
        (many, r"of 33 kinds, kind 00, kind 01, kind 02; expected 2 to 32"),
        ({"fat": 30, "bone": 7}, "The kind bone has 7 patches that fit the flow; expected at least 8. Join it"),
    ):
        with pytest.raises(RL2Error, match=sentence):
            label_kinds(names_of(*labeled(counts)))
    assert len(label_kinds(names_of(*labeled(dict(list(many.items())[:MAX_LABELS]))))) == 32


def test_a_kind_has_name_share_spread_and_the_patches_nearest_to_its_mean():
    features, labels = clusters(40, count=2, d=8)
    flow = RealNVP(8, layers=2, kinds=2).requires_grad_(False)
    flow.adapt(features, labels)
    found, typical = describe_kinds(flow, features, FoundKinds(labels, ("fat", "bone"), {}))
    z = flow(features)[0]
    assert [kind["name"] for kind in found] == ["fat", "bone"]
    for k, (kind, rows) in enumerate(zip(found, typical, strict=True)):
        own = (labels == k).nonzero().flatten()
        apart = (z[own] - z[own].mean(0)).norm(dim=1)
        assert kind["share"] == pytest.approx(len(own) / 40, abs=1e-4)
        assert kind["spread"] == pytest.approx(apart.square().mean().sqrt().item(), abs=0.01)
        assert rows == own[apart.argsort()[:5]].tolist()


def test_tiles_are_named_by_file_and_number():
    patches = _patches(["/a/x.png", "/a/y.png", "/a/x.png"])
    assert patches == [("/a/x.png", 0), ("/a/y.png", None), ("/a/x.png", 1)]
    assert [patch_name(patch) for patch in patches] == ["x.png, tile 0", "y.png", "x.png, tile 1"]


def test_a_picture_has_a_row_a_kind(tissues, tmp_path):
    files = [[(str(path), None) for path in sorted((tissues / name).glob("*.png"))[:5]] for name in ("bright", "dark")]
    kinds = [{"name": name, "share": 0.5} for name in ("bright", "dark")]
    draw_kinds(kinds, files, ImageReader(), tmp_path / "kinds.jpg")
    picture = read_image(tmp_path / "kinds.jpg").float().mean(0)
    assert picture.shape[0] == 2 * (160 + 4 + 16) + 4
    side = read_image(Path(files[0][0][0])).shape[-1]
    upper, lower = (picture[top + 16 : top + 16 + side, 4 : 4 + side].mean() for top in (0, 180))
    assert upper > lower + 100


@pytest.fixture(scope="module")
def tissues(tmp_path_factory):
    """A folder of 60 patches of two tissues, of which one is brighter."""
    folder = tmp_path_factory.mktemp("tissues")
    for i, image in enumerate(random_images(60, seed=8)):
        name = ("bright", "dark")[i % 2]
        (folder / name).mkdir(exist_ok=True)
        to_pil_image(image // 2 + 127 * (name == "bright")).save(folder / name / f"{i:02}.png")
    return folder


@pytest.fixture
def fit_tissues(tissues, weights_file, tmp_path):
    def run(name="ours", **options):
        out = tmp_path / f"{name}.safetensors"
        options = {"groups": "file", "backbone": weights_file, "settings": ONE_GAUSSIAN} | options
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of few patches
            return fit(tissues, out, **options), out

    return run


def images_in(folder):
    return torch.stack([read_image(path) for path in sorted(folder.glob("*.png"))])


@pytest.mark.parametrize("layers", [0, 1])
def test_weights_with_kinds_load_and_tell_content_from_look(fit_tissues, tissues, layers):
    settings = FitSettings(layers=layers, hidden=8, max_epochs=2)
    result, out = fit_tissues(kinds="parent", settings=settings, card={"data": "noise"})
    card, encoder = read_weights(out).card, LatentEncoder.load(out)
    assert [kind["name"] for kind in card["kinds"]] == list(encoder.kinds.names) == ["bright", "dark"]
    assert card["kinds"] == result.kinds
    assert sum(kind["share"] for kind in card["kinds"]) == pytest.approx(1, abs=1e-3)
    shares = encoder.kinds.log_shares.exp().tolist()
    assert [kind["share"] for kind in card["kinds"]] == pytest.approx(shares, abs=1e-4)
    for kind in card["kinds"]:
        assert kind["spread"] > 0
        assert len(kind["typical"]) == 5
        assert all((tissues / kind["name"] / patch).exists() for patch in kind["typical"])
    assert card["data"] == "noise"
    assert out.with_name("ours.kinds.jpg").is_file()
    assert encoder.kinds.leaks[0] >= 0.15
    assert encoder.kinds.leaks[1] >= 0.1
    assert card["fit"]["kinds"] == {"count": 2, "prediction_strength": {}}
    assert result.to_dict()["kinds"] == result.kinds
    assert f"2 kinds of tissue: bright {result.kinds[0]['share']:.0%}, dark {result.kinds[1]['share']:.0%}" in str(
        result
    )
    reference = encoder.reference_statistics
    assert reference.kinds is encoder.kinds
    assert reference.sums.kind_counts.sum() == result.n_reference
    bright = encoder.statistics(encoder(images_in(tissues / "bright")))
    assert bright.sums.kind_counts.tolist() == [30, 0]
    compared = compare(reference, bright)
    assert [kind.name for kind in compared.kinds] == ["bright", "dark"]
    assert compared.content.value**2 + compared.look.value**2 == pytest.approx(compared.value**2, rel=1e-9)


def test_kinds_of_a_table_are_those_of_the_folders(fit_tissues, tissues, tmp_path):
    table = tmp_path / "kinds.csv"
    rows = [f"{path.relative_to(tissues)},{path.parent.name}" for path in sorted(tissues.rglob("*.png"))]
    table.write_text("path,kind\n" + "\n".join(rows))
    by_table, by_folder = fit_tissues("a", kinds=table)[0], fit_tissues("b", kinds="parent")[0]
    assert by_table.weights_id == by_folder.weights_id
    assert by_table.kinds == by_folder.kinds


def test_kinds_that_features_do_not_tell_apart_are_warned_of():
    flow, names = RealNVP(40, layers=0, kinds=3), ["fat", "gland", "muscle"]
    features, kinds_of = clusters(64)
    flow.adapt(features, kinds_of)
    held_out, kinds_of = clusters(32)
    labels = [names[k] for k in kinds_of]
    assert confused_kinds(flow, held_out, labels, names) == []
    half = ["gland" if label == "fat" else label for label in labels]
    assert confused_kinds(flow, held_out, half, names) == []
    less = [label for row, label in enumerate(half) if labels[row] != "gland" or row % 8 == 1]
    rows = [row for row in range(32) if labels[row] != "gland" or row % 8 == 1]
    assert confused_kinds(flow, held_out[rows], less, names) == [
        "The flow knows 4 of 12 held-out patches of the kind gland, and takes most others for fat: content hardly sees "
        "this kind. Give it more patches, or join the two."
    ]


def test_a_fit_warns_of_labels_that_say_nothing(fit_tissues, tissues, tmp_path):
    table = tmp_path / "kinds.csv"
    rows = (
        f"{path.relative_to(tissues)},{'dark' if i % 4 else 'bright'}"
        for i, path in enumerate(sorted(tissues.rglob("*.png")))
    )
    table.write_text("path,kind\n" + "\n".join(rows))
    assert not any("hardly sees" in sentence for sentence in fit_tissues("a", kinds="parent")[0].warnings)
    assert any("hardly sees" in sentence for sentence in fit_tissues("b", kinds=table)[0].warnings)


def test_a_table_without_some_of_the_images_is_refused_before_the_work(tissues, weights_file, tmp_path):
    table = tmp_path / "kinds.csv"
    table.write_text("path,kind\nbright/00.png,bright\n")
    out = tmp_path / "x.safetensors"
    for wrong, sentence in (
        (table, "kinds.csv has no kind for 59 of 60 images"),
        (tmp_path / "gone.csv", "no table .*gone.csv. Expected 'parent' or a CSV with the columns path and kind"),
        (0, "The number of kinds is a whole number from 1, but got 0"),
        (-3, "but got -3"),
    ):
        with pytest.raises(RL2Error, match=sentence):
            fit(tissues, out, groups="file", kinds=wrong, backbone=weights_file)
    table.write_text("path,group\nbright/00.png,bright\n")
    with pytest.raises(RL2Error, match="has the columns path, group; expected path and kind"):
        fit(tissues, out, groups="file", kinds=table, backbone=weights_file)
    assert list(tmp_path.iterdir()) == [table]


def test_one_kind_is_the_normal_law_of_the_paper(fit_tissues):
    result, out = fit_tissues(kinds=1)
    encoder = LatentEncoder.load(out)
    assert (result.kinds, encoder.kinds) == ([], None)
    assert "kinds" not in encoder.card
    assert not encoder.flow.base.means.any()
    assert "One kind of tissue, so RL2 has no content and look" in str(result)
    assert encoder.reference_statistics.kinds is encoder.reference.sums.kind_counts is None


@pytest.mark.slow
def test_kinds_are_found_where_none_are_given(fit_tissues, tissues):
    result, out = fit_tissues()
    encoder = LatentEncoder.load(out)
    assert list(encoder.kinds.names) == ["kind 1", "kind 2"]
    assert encoder.card["fit"]["kinds"]["prediction_strength"]["2"][0] == 1
    for name in ("bright", "dark"):
        assert len(set(encoder.kinds.of(encoder(images_in(tissues / name))).tolist())) == 1
    given, _ = fit_tissues("given", kinds=2)
    assert given.weights_id == result.weights_id
    assert Counter(patch for kind in result.kinds for patch in kind["typical"]).most_common(1)[0][1] == 1


def test_kinds_that_cannot_be_leave_nothing_behind(tissues, weights_file, tmp_path):
    for folder, wanted, sentence in (
        (tissues / "bright", "parent", r"of one kind, bright; expected 2 to 32"),
        (tissues, 6, "patches that fit the flow do not make 6 clusters of 8 or more"),
    ):
        with pytest.raises(RL2Error, match=sentence):
            fit(folder, tmp_path / "x.safetensors", groups="file", kinds=wanted, backbone=weights_file)
        assert list(tmp_path.iterdir()) == []


def test_a_run_is_not_resumed_with_other_kinds(fit_tissues, tissues, tmp_path, monkeypatch):
    settings = FitSettings(layers=1, hidden=8, max_epochs=2)
    with monkeypatch.context() as patched:
        patched.setattr(training, "train_flow", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            fit_tissues(kinds="parent", settings=settings)
    table = tmp_path / "kinds.csv"
    rows = [f"{path},{i % 2}" for i, path in enumerate(sorted(tissues.rglob("*.png")))]
    table.write_text("path,kind\n" + "\n".join(rows))
    for other in (None, 1, 2, table):
        with pytest.raises(RL2Error, match=r"is a run with other kinds. Resume with the same"):
            fit_tissues(kinds=other, settings=settings, resume=True)
    resumed, _ = fit_tissues(kinds="parent", settings=settings, resume=True)
    assert [kind["name"] for kind in resumed.kinds] == ["bright", "dark"]


def test_kinds_of_a_fit_do_not_mix_with_those_of_another(fit_tissues):
    encoders = [LatentEncoder.load(fit_tissues(f"of {count}", kinds=count)[1]) for count in (1, 2)]
    assert encoders[0].weights_id != encoders[1].weights_id
    with pytest.raises(RL2Error, match="different weights"):
        compare(*(encoder.reference_statistics for encoder in encoders))
    stripped = replace(encoders[1].reference_statistics, kinds=None)
    assert isinstance(stripped, Statistics)
    with pytest.raises(RL2Error, match="2 kinds of tissue in reference data of the weights and no kinds"):
        compare(encoders[1].reference_statistics, stripped)
