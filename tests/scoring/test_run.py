import shutil

import pytest
import torch

from torchmetrics_rl2 import LatentEncoder, ResNetL2, RL2Error, Statistics, compute_statistics, score
from torchmetrics_rl2.distance.statistics import REFERENCE
from torchmetrics_rl2.encoder.sharing import encoder_of, network_on
from torchmetrics_rl2.images import find_images, read_image
from torchmetrics_rl2.runtime import default_workers
from torchmetrics_rl2.weights import loading


def load(folder):
    return torch.stack([read_image(path) for path in find_images(folder)])


def test_is_what_the_metric_gives(patches, encoder):
    metric = ResNetL2(encoder)
    metric.update(load(patches / "a"), real=True)
    metric.update(load(patches / "bright"), real=False)
    result = score(patches / "bright", patches / "a", weights=encoder)
    assert result.value == pytest.approx(metric.compute().item(), rel=1e-6)
    assert result.debiased < result.value
    assert (result.n_real, result.n_fake, result.weights, result.weights_id) == (8, 8, "random@1", encoder.weights_id)


def test_without_real_images_the_weights_stand_in(patches, encoder):
    metric = ResNetL2(encoder, reference="weights")
    result = score(patches / "a", weights=encoder)
    assert result.value == pytest.approx(metric(load(patches / "a"), real=False).item(), rel=1e-6)
    assert (result.real, result.n_real) == (REFERENCE, 48)


def test_a_reference_or_real_images_are_needed(patches, bare_encoder):
    with pytest.raises(RL2Error, match="with --real"):
        score(patches / "a", weights=bare_encoder)
    assert score(patches / "a", patches / "b", weights=bare_encoder).n_real == 8


@pytest.mark.parametrize("options", [{"batch_size": 1}, {"batch_size": 7}, {"workers": 2}])
def test_settings_of_reading_do_not_change_the_value(patches, encoder, options, monkeypatch):
    monkeypatch.setattr("torchmetrics_rl2.scoring.measuring.PENDING", 3)
    plain = score(patches / "bright", patches / "a", weights=encoder)
    other = score(patches / "bright", patches / "a", weights=encoder, **options)
    assert other.value == pytest.approx(plain.value, rel=1e-6)
    assert other.settings == plain.settings | options


def test_tiles_count_and_are_on_record(patches, encoder):
    result = score(patches / "bright", patches / "a", weights=encoder, tile=32, scale=1.5)
    assert (result.n_real, result.n_fake) == (8 * 9, 8 * 9)
    assert (result.settings["tile"], result.settings["scale"]) == (32, 1.5)


def test_one_image_is_no_set(patches, encoder):
    one = find_images(patches / "a")[0]
    with pytest.raises(RL2Error, match=r"gave 1 generated image.*0 other files were left out.*at least 2"):
        score(one, patches / "b", weights=encoder)
    with pytest.raises(RL2Error, match=r"gave 1 real image.*at least 2"):
        score(patches / "b", one, weights=encoder)


def test_unreadable_files_are_reported(patches, encoder, tmp_path):
    for i, path in enumerate(find_images(patches / "a")):
        (tmp_path / f"{i}.png").write_bytes(path.read_bytes()[: 100 if i == 3 else None])
    with pytest.raises(RL2Error, match=r"3\.png cannot be read"):
        score(tmp_path, patches / "b", weights=encoder)
    result = score(tmp_path, patches / "b", weights=encoder, skip_unreadable=True)
    assert result.n_fake == 7
    assert len(result.unreadable) == 1
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x.png").write_bytes(b"x")
    sources = [patches / "a", tmp_path / "bad"]
    statistics = compute_statistics(sources, weights=encoder, skip_unreadable=True)
    assert len(statistics.unreadable) == 1
    assert score(patches / "b", statistics, weights=encoder).unreadable == list(statistics.unreadable)


def test_progress_ends_at_all_files(patches, encoder):
    calls = []
    score(patches / "a", patches / "b", weights=encoder, batch_size=3, progress=lambda *call: calls.append(call))
    for side in ("real", "fake"):
        assert [call for call in calls if call[0] == side][-1][1:3] == (8, 8)
        assert sum(call[3] for call in calls if call[0] == side) == 8


def test_a_device_that_is_not_there(patches, encoder):
    with pytest.raises(RL2Error, match="'warp'"):
        score(patches / "a", patches / "b", weights=encoder, device="warp")


def test_the_result_is_that_of_the_metric(patches, encoder):
    metric = ResNetL2(encoder, uncertainty=True)
    metric.update(load(patches / "a"), real=True)
    metric.update(load(patches / "bright"), real=False)
    expected, got = metric.result(), score(patches / "bright", patches / "a", weights=encoder)
    assert got.interval == pytest.approx(expected.interval, rel=1e-5)
    assert got.detectable == pytest.approx(expected.detectable, rel=1e-5)
    assert got.variance_ratio_interval == pytest.approx(expected.variance_ratio_interval, rel=1e-4)


def test_statistics_stand_in_for_images_and_sources_merge(patches, encoder, tmp_path):
    expected = score(patches / "bright", [patches / "a", patches / "b"], weights=encoder)
    for name in "ab":
        compute_statistics(patches / name, weights=encoder).save(tmp_path / f"{name}.safetensors")
    files = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    merged = compute_statistics(files, weights=encoder)
    assert merged.source == f"{files[0]}, {files[1]}"
    assert merged.settings == {"tile": None, "scale": None, "px": [[64, 64]]}
    for real in (files, merged, [files[0], patches / "b"]):
        got = score(patches / "bright", real, weights=encoder)
        assert (got.value, got.n_real) == (pytest.approx(expected.value, rel=1e-6), 16)
        assert got.interval == pytest.approx(expected.interval, rel=1e-5)
    assert score(merged, merged, weights=encoder).value == 0


def test_groups_are_the_units(patches, encoder, tmp_path):
    table = tmp_path / "groups.csv"
    lines = [f"{path.resolve()},{i % 6}" for i, path in enumerate(find_images(patches))]
    table.write_text("\n".join(["path,group", *lines]))
    images = [patches / "a", patches / "b"]
    result = score(patches / "bright", images, weights=encoder, real_groups=table, fake_groups="file")
    assert (result.groups_real, result.groups_fake, result.assumes_independence) == (6, 8, False)
    names = [line.rpartition(",")[2] for line in lines]
    z = encoder(load(patches))
    bright = torch.tensor(["bright" in str(path) for path in find_images(patches)])
    grouped = Statistics.of_latents(z[~bright], [name for name, b in zip(names, bright, strict=True) if not b])
    assert result.debiased == pytest.approx(
        (result.value**2 - grouped.mean_variance - Statistics.of_latents(z[bright]).mean_variance) ** 0.5, rel=1e-5
    )
    parents = compute_statistics(images, weights=encoder, groups="parent")
    assert [name.rpartition("/")[2] for name in parents.group_names] == ["a", "b"]


def test_groups_where_there_are_none_are_refused(patches, encoder, tmp_path):
    compute_statistics(patches / "a", weights=encoder).save(tmp_path / "a.safetensors")
    with pytest.raises(RL2Error, match="those it was made with"):
        score(patches / "a", weights=encoder, real_groups="parent")
    with pytest.raises(RL2Error, match="those they were made with"):
        score(patches / "a", tmp_path / "a.safetensors", weights=encoder, real_groups="parent")
    with pytest.raises(RL2Error, match=r"has groups and .*a\.safetensors has none"):
        compute_statistics([tmp_path / "a.safetensors", patches / "b"], weights=encoder, groups="file")
    with pytest.raises(RL2Error, match="There is no source"):
        compute_statistics([], weights=encoder)


def test_statistics_of_other_weights_are_refused_before_an_image_is_read(patches, encoder, monkeypatch):
    others = Statistics.of_latents(torch.ones(4, 512), weights="other@1", weights_id="ab" * 32)
    monkeypatch.setattr("torchmetrics_rl2.images.reader.ImageReader.read", lambda *args: 1 / 0)
    for refused in (
        lambda: score(patches / "a", others, weights=encoder),
        lambda: score(others, weights=encoder),
        lambda: compute_statistics([patches / "a", others], weights=encoder),
    ):
        with pytest.raises(RL2Error, match=r"different weights.*other@1|other@1.*different weights"):
            refused()


def test_what_is_given_twice_counts_once_or_is_refused(patches, encoder, tmp_path):
    statistics = compute_statistics([patches / "a", patches / "a"], weights=encoder)
    assert len(statistics) == 8
    for sources in ([patches / "a", patches], [patches, patches / "a"]):
        assert len(compute_statistics(sources, weights=encoder)) == 24
    statistics.save(tmp_path / "a.safetensors")
    shutil.copy(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    for twice in ([statistics] * 2, [statistics, tmp_path / "b.safetensors"]):
        with pytest.raises(RL2Error, match="are given twice"):
            compute_statistics(twice, weights=encoder)


def test_a_slide_has_one_name_however_its_patches_are_given(patches, encoder, tmp_path, monkeypatch):
    monkeypatch.chdir(patches)
    table = tmp_path / "list.txt"
    table.write_text(f"{patches}/a/03.png\n")
    statistics = compute_statistics(["b/01.png", table, patches], weights=encoder, groups="parent")
    assert sorted(statistics.group_names) == ["a", "b", "bright"]
    for place, images in (("one", "a"), ("two", "b")):
        shutil.copytree(patches / images, tmp_path / place / "slides" / "p1")
    sources = [tmp_path / place / "slides" for place in ("one", "two")]
    assert len(compute_statistics(sources, weights=encoder, groups="parent").group_names) == 2


def test_a_table_beside_several_sources_starts_at_the_current_folder(patches, encoder, tmp_path, monkeypatch):
    monkeypatch.chdir(patches)
    table = tmp_path / "groups.csv"
    table.write_text("path,group\n" + "".join(f"{path.relative_to(patches)},x\n" for path in find_images(patches)))
    assert compute_statistics(["a", "b"], weights=encoder, groups=table).group_names == ("x",)
    with pytest.raises(RL2Error, match="has no group for 8 of 8 images"):
        compute_statistics("a", weights=encoder, groups=table)


def test_default_workers():
    assert default_workers(None, torch.device("cpu")) == 0
    assert 1 <= default_workers(None, torch.device("cuda")) <= 8
    assert default_workers(3, torch.device("cpu")) == 3


def test_progress_goes_on_over_sources(patches, encoder):
    calls = []
    sources = [patches / name for name in ("a", "b", "bright")]
    compute_statistics(sources, weights=encoder, batch_size=5, progress=lambda *call: calls.append(call[1:3]))
    assert calls == sorted(calls)
    assert (calls[0], calls[-1]) == ((0, 24), (24, 24))


def test_statistics_alone_need_no_weights(encoder):
    sides = [Statistics.of_latents(torch.rand(9, 7) + i, weights="other@1", weights_id="ab" * 32) for i in range(2)]
    result = score(*sides, weights="there are none of this name")
    assert (result.weights, result.n_real, result.settings) == ("other@1", 9, {})
    assert len(compute_statistics(sides, weights="there are none of this name")) == 18


def test_sizes_that_differ_are_warned_of(patches, encoder):
    real = compute_statistics(patches / "a", weights=encoder, tile=32)
    with pytest.warns(UserWarning, match="32 x 32 against 64 x 64"):
        score(patches / "b", real, weights=encoder)


def test_a_folder_called_weights_is_a_folder(patches, encoder, tmp_path, monkeypatch):
    shutil.copytree(patches / "a", tmp_path / "weights")
    monkeypatch.chdir(tmp_path)
    result = score(patches / "bright", "weights", weights=encoder)
    assert (result.n_real, result.real) == (8, "weights")
    assert result.verdict


def test_an_encoder_gives_what_its_name_gives(patches, weights_file):
    """Also what is in the card: an encoder used to forget it."""
    by_name = score(patches / "a", patches / "b", weights=weights_file)
    by_encoder = score(patches / "a", patches / "b", weights=LatentEncoder.load(weights_file))
    assert by_encoder.to_dict() == by_name.to_dict()
    assert by_name.reference_data == "noise"


def test_weights_are_read_once(patches, weights_file, monkeypatch):
    read = []
    original = loading.read_weights
    monkeypatch.setattr(loading, "read_weights", lambda path, *args: read.append(path) or original(path, *args))
    score(patches / "a", patches / "b", weights=weights_file)
    assert read == [weights_file]


def test_an_encoder_of_the_caller_is_not_changed(patches, weights):
    encoder = LatentEncoder(weights).with_dtype(torch.float64)
    before = {key: (value.data_ptr(), value.dtype, value.clone()) for key, value in encoder.state_dict().items()}
    score(patches / "a", patches / "b", weights=encoder)
    for key, value in encoder.state_dict().items():
        place, dtype, content = before[key]
        assert (value.data_ptr(), value.dtype) == (place, dtype)
        assert torch.equal(value, content)


def test_an_encoder_elsewhere_is_copied_and_not_moved(weights):
    encoder = LatentEncoder(weights)
    assert encoder_of(encoder, "cpu") is encoder
    elsewhere = network_on(encoder, torch.device("meta"))
    assert (elsewhere.device.type, encoder.device.type) == ("meta", "cpu")
    assert network_on(encoder, torch.device("meta")) is elsewhere
