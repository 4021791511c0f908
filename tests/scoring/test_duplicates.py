import shutil
from pathlib import Path

import pytest
import torch

from tests.fixtures.images import random_images
from torchmetrics_rl2 import ResNetL2, Statistics, compare, compute_statistics, score
from torchmetrics_rl2.encoder.encoded import Encoded
from torchmetrics_rl2.images import find_images, read_image
from torchmetrics_rl2.images.duplicates import pixel_keys
from torchmetrics_rl2.scoring.duplicates import Seen


def encoded(images, names, latents):
    return Encoded([Path(name) for name in names], latents, pixel_keys(images))


def copy_of(source, folder, times):
    """The images of a folder, so many times."""
    folder.mkdir()
    for i in range(times):
        for path in find_images(source):
            shutil.copy(path, folder / f"{i} {path.name}")
    return folder


def test_copies_are_found_by_their_pixels_in_any_batch():
    images = random_images(3)
    seen, latents = Seen(), torch.arange(5.0)[:, None]
    joined = seen.see(encoded(images[[0, 1]], ["a", "b"], latents[:2]), ["s1", "s2"])
    joined += seen.see(encoded(images[[1, 0, 2]], ["c", "d", "e"], latents[[1, 0, 4]]), ["s3", "s3", "s3"])
    assert seen.duplicates == [("c", "b"), ("d", "a")]
    assert joined == ["s1", "s2", "s2", "s1", "s3"]  # a copy is of the group of the first
    assert seen.repeated(None).count.tolist() == [2, 2]
    assert seen.repeated(None).sum[:, 0].tolist() == [2, 0]
    other = Seen(tiled=True, other=seen)
    other.see(encoded(images[[2, 2]], ["x", "x"], latents[:2]), None)
    assert other.copied == [("x, tile 0", "e"), ("x, tile 1", "e")]
    assert other.duplicates == [("x, tile 1", "x, tile 0")]


def test_images_of_another_shape_are_others():
    seen = Seen()
    for shape in ((3, 32, 64), (3, 64, 32)):
        seen.see(encoded(torch.zeros(1, *shape, dtype=torch.uint8), [str(shape)], torch.zeros(1, 2)), None)
    assert seen.duplicates == []


@pytest.mark.parametrize("groups", [None, "file"])
def test_copies_move_no_mean_and_sharpen_no_interval(patches, encoder, tmp_path, groups):
    thrice = copy_of(patches / "bright", tmp_path / "thrice", 3)
    plain = score(patches / "bright", patches / "a", weights=encoder, real_groups=groups, fake_groups=groups)
    with pytest.warns(UserWarning, match="16 of 24 generated images repeat others pixel for pixel"):
        copied = score(thrice, patches / "a", weights=encoder, real_groups=groups, fake_groups=groups)
    assert copied.value == pytest.approx(plain.value, rel=1e-6)
    for name in ("debiased", "standard_error", "detectable", "p_value", "variance_ratio", "baseline"):
        assert getattr(copied, name) == pytest.approx(getattr(plain, name), rel=1e-4), name
    assert copied.interval == pytest.approx(plain.interval, rel=1e-4)
    assert (copied.n_fake, len(copied.duplicates["fake"]), copied.duplicates["real"]) == (24, 16, [])
    first = copied.duplicates["fake"][0]
    assert [Path(name).name for name in first] == ["1 02.png", "0 02.png"]


def test_the_value_stays_that_of_the_metric(patches, encoder, tmp_path):
    some = copy_of(patches / "bright", tmp_path / "some", 1)
    for i in range(5):
        shutil.copy(patches / "bright" / "05.png", some / f"again {i}.png")
    metric = ResNetL2(encoder, uncertainty=True)
    for folder, real in ((patches / "a", True), (some, False)):
        metric.update(torch.stack([read_image(path) for path in find_images(folder)]), real=real)
    with pytest.warns(UserWarning, match="5 of 13 generated images"):
        found = score(some, patches / "a", weights=encoder)
    assert found.value == pytest.approx(float(metric.compute()), rel=1e-6)
    with pytest.warns(UserWarning, match="5 of 13 images"):
        distinct = compute_statistics(some, weights=encoder)
    assert distinct.mean_variance > 2 * metric.statistics(real=False).mean_variance  # which takes copies as images


def test_one_image_alone_has_a_value_and_no_interval(patches, encoder, tmp_path):
    (tmp_path / "one").mkdir()
    for i in range(9):
        shutil.copy(patches / "bright" / "02.png", tmp_path / "one" / f"{i}.png")
    with pytest.warns(UserWarning, match="8 of 9 generated images"):
        found = score(tmp_path / "one", patches / "a", weights=encoder)
    assert found.value > 0
    assert found.interval is None


def test_generated_images_that_are_real_ones_are_named(patches, encoder, tmp_path):
    with pytest.warns(UserWarning, match="8 of 8 generated images are real ones pixel for pixel: .*00.png is .*00.png"):
        found = score(patches / "a", patches / "a", weights=encoder)
    assert len(found.copied) == 8
    assert found.verdict == "generated images are copies of real ones"
    assert "copies of real ones" in str(found)


def test_statistics_keep_what_was_seen(patches, encoder, tmp_path):
    twice = copy_of(patches / "a", tmp_path / "twice", 2)
    (twice / "notes.txt").write_text("text")
    with pytest.warns(UserWarning, match="repeat others|were left out") as said:
        found = compute_statistics(twice, weights=encoder)
    assert len(said) == 2
    found.save(tmp_path / "s.safetensors")
    loaded = Statistics.load(tmp_path / "s.safetensors")
    plain = compute_statistics(patches / "a", weights=encoder)
    for one in (found, loaded):
        assert one.units.count == 8
        assert torch.allclose(one.units.covariance, plain.units.covariance, rtol=1e-4, atol=1e-6)
        assert len(one.duplicates) == 8
        assert [Path(name).name for name in one.left_out] == ["notes.txt"]
    merged = loaded + compute_statistics(patches / "b", weights=encoder)
    assert (len(merged), merged.unit_count, merged.described()["left_out"]) == (24, 16, list(found.left_out))


def test_images_of_one_color_are_no_copies():
    seen = Seen()
    blank = torch.full((3, 3, 32, 32), 255, dtype=torch.uint8)
    joined = seen.see(encoded(blank, ["a", "b", "c"], torch.zeros(3, 2)), ["s1", "s2", "s3"])
    assert (seen.duplicates, seen.repeated(None), joined) == ([], None, ["s1", "s2", "s3"])


@pytest.mark.parametrize("distinct", [1, 3])
def test_a_collapsed_generator_is_called_so(patches, encoder, tmp_path, distinct):
    (tmp_path / "fake").mkdir()
    for i in range(12):
        path = find_images(patches / "bright")[i % distinct]
        shutil.copy(path, tmp_path / "fake" / f"{i}.png")
    with pytest.warns(UserWarning, match=f"{12 - distinct} of 12 generated images repeat"):
        found = score(tmp_path / "fake", patches / "a", weights=encoder)
    assert found.verdict == f"collapsed, generated images repeat {distinct} image{'s' if distinct > 1 else ''}"
    assert found.baseline_multiple == pytest.approx(found.value / found.baseline)
    assert found.baseline < score(find_images(patches / "bright")[:4], patches / "a", weights=encoder).baseline


def test_copies_beside_sums_alone_have_no_interval(patches, encoder, tmp_path):
    metric = ResNetL2(encoder)
    metric.update(torch.stack([read_image(path) for path in find_images(patches / "a")]), real=True)
    with pytest.warns(UserWarning, match="repeat others"):
        copied = compute_statistics(copy_of(patches / "b", tmp_path / "b", 2), weights=encoder)
    merged = metric.statistics(real=True) + copied
    result = compare(merged, compute_statistics(patches / "bright", weights=encoder))
    assert result.interval is None
    assert result.value > 0


def test_both_sides_of_one_mean_are_copies_also_in_statistics(patches, encoder):
    statistics = compute_statistics(patches / "a", weights=encoder)
    assert compare(statistics, statistics).verdict == "generated images are copies of real ones"


def test_copies_have_the_parts_of_weights_with_kinds(patches, encoder_of_kinds, tmp_path):
    thrice = copy_of(patches / "bright", tmp_path / "thrice", 3)
    plain = score(patches / "bright", patches / "a", weights=encoder_of_kinds)
    with pytest.warns(UserWarning, match="16 of 24 generated images repeat others pixel for pixel"):
        copied = score(thrice, patches / "a", weights=encoder_of_kinds)
        saved = compute_statistics(thrice, weights=encoder_of_kinds)
    saved.save(tmp_path / "thrice.safetensors")
    loaded = Statistics.load(tmp_path / "thrice.safetensors")
    assert loaded.repeated.kind_counts.sum() == loaded.repeated.count.sum() == 24
    for part in ("content", "look"):
        found, expected = getattr(copied, part), getattr(plain, part)
        assert found.value == pytest.approx(expected.value, rel=1e-5), part
        assert found.interval == pytest.approx(expected.interval, rel=1e-3, abs=1e-3), part
    assert copied.content.value**2 + copied.look.value**2 == pytest.approx(copied.value**2, rel=1e-9)
