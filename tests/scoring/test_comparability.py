import warnings
from pathlib import Path

import pytest
import torch
from torchvision.transforms.v2.functional import gaussian_blur, to_pil_image

from tests.conftest import random_images
from tests.distance.test_statistics import latents
from torchmetrics_rl2 import Statistics, compare_generators, score
from torchmetrics_rl2.distance.comparing import domain_shift
from torchmetrics_rl2.encoder.encoded import Encoded
from torchmetrics_rl2.images import find_images, read_image
from torchmetrics_rl2.scoring.comparability import SAMPLE, Appearance, appearance_of, asymmetries, same_groups

CMU = Path(__file__).parents[2] / "examples" / "cmu"


def looked(images, kind="PNG", batch=16):
    look = Appearance()
    for i in range(0, len(images), batch):
        part = images[i : i + batch]
        paths, kinds = [Path("x")] * len(part), [kind] * len(part)
        look.see(Encoded(paths, torch.empty(0), formats=kinds, appearance=appearance_of(part)))
    return look


@pytest.fixture(scope="module")
def tissue():
    """Small crops of real tissue, of two parts of a slide."""
    return [
        torch.stack([read_image(path)[:, :64, :64] for path in find_images(CMU / part)])
        for part in ("reference", "clean")
    ]


def test_real_images_of_one_source_are_alike(tissue):
    real, other = map(looked, tissue)
    assert asymmetries(real, other) == asymmetries(other, real) == asymmetries(real, real) == []


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda x: gaussian_blur(x, [9, 9], [2, 2]), "softer than real ones"),
        (lambda x: (x.float() + 25 * torch.randn(x.shape)).clamp(0, 255).byte(), "sharper than real ones"),
        (lambda x: x // 2, "The stain of generated images differs"),
        (lambda x: torch.stack([x[:, 0], x[:, 1] // 3, x[:, 2]], 1), "The stain of generated images differs"),
    ],
    ids=["blur", "noise", "dark", "one channel"],
)
def test_what_differs_is_said_with_numbers_and_advice(tissue, change, sentence):
    torch.manual_seed(0)
    found = [one for one in asymmetries(looked(tissue[0]), looked(change(tissue[1]))) if sentence in one]
    assert len(found) == 1
    assert "standard deviations of the real images apart" in found[0]
    assert "belongs in the score" in found[0]
    assert "prepare both sides alike" in found[0]


def test_a_few_images_say_nothing(tissue):
    assert asymmetries(looked(tissue[0][:9]), looked(tissue[1][:9] // 2)) == []


@pytest.mark.parametrize(("kind", "said"), [("JPEG", 1), ("WEBP", 1), ("TIFF", 0), ("BMP", 0)])
def test_lossy_against_lossless(tissue, kind, said):
    real = tissue[0]
    for pair in ((looked(real), looked(real, kind)), (looked(real, kind), looked(real))):
        assert len(asymmetries(*pair)) == said
    if said:
        assert "PNG (40 of 40)" in asymmetries(looked(real), looked(real, kind))[0]
    assert asymmetries(looked(real, "JPEG"), looked(real, kind)) == [] or not said


def test_statistics_have_no_format(tissue):
    assert asymmetries(Appearance(), looked(tissue[0], "JPEG")) == []


def test_the_sample_is_bounded_spread_and_the_same_in_any_batch():
    images = random_images(SAMPLE * 3 + 5, px=32)
    looks = [looked(images, batch=batch) for batch in (1, 50, 1000)]
    for look in looks:
        assert SAMPLE / 2 < len(look.numbers) <= SAMPLE
        torch.testing.assert_close(look.numbers, looks[0].numbers)
    torch.testing.assert_close(looks[0].numbers, looked(images[::4]).numbers)


def test_score_warns_and_keeps_the_sentences(patches, encoder, tmp_path):
    for folder, kind, seed in (("png", "png", 0), ("jpg", "jpg", 0), ("other", "png", 1)):
        (tmp_path / folder).mkdir()
        for i, image in enumerate(random_images(12, seed=seed)):
            to_pil_image(image).save(tmp_path / folder / f"{i:02}.{kind}", quality=95)
    with pytest.warns(UserWarning, match="Real images are PNG .* generated ones JPEG"):
        result = score(tmp_path / "jpg", tmp_path / "png", weights=encoder)
    assert any("JPEG" in sentence for sentence in result.warnings)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert score(tmp_path / "png", tmp_path / "other", weights=encoder).warnings == []


def test_a_dtype_of_the_caller_does_not_reach_it(tissue):
    expected = looked(tissue[0]).numbers
    torch.set_default_dtype(torch.float64)
    try:
        torch.testing.assert_close(looked(tissue[0]).numbers.float(), expected, rtol=1e-4, atol=1e-4)
    finally:
        torch.set_default_dtype(torch.float32)


def test_spreads_are_of_the_reference_and_do_not_grow_with_numbers():
    reference = Statistics.of_latents(latents(5000, d=20))
    for n in (30, 3000):
        assert domain_shift(reference, Statistics.of_latents(latents(n, 1, d=20) + 3)) == pytest.approx(3, rel=0.05)
        assert domain_shift(reference, Statistics.of_latents(latents(n, 1, d=20))) < 0.1
    assert domain_shift(reference, Statistics.of_latents(latents(1, d=20))) is None


def test_foreign_reals_are_advised_a_fit_in_one_sentence(patches, encoder, bare_encoder):
    near = score(patches / "b", patches / "a", weights=encoder)
    far = score(patches / "a", patches / "bright", weights=encoder)
    assert near.domain_shift < 0.5 < far.domain_shift
    assert "rl2 fit" not in near.details()
    assert far.details().count("rl2 fit") == 1
    assert score(patches / "a", weights=encoder).domain_shift is None
    assert score(patches / "b", patches / "a", weights=bare_encoder).domain_shift is None


def grouped(*names):
    return Statistics.of_latents(latents(len(names)), names)


@pytest.mark.parametrize(
    "fake",
    [
        ("fake/s1", "fake/s2"),
        ("virtual/s1/tiles", "virtual/s2/tiles"),
        ("s1", "s2"),
        ("fake/s1", "fake/x"),  # one of two
    ],
)
def test_groups_of_one_name_on_both_sides_are_named(fake):
    found = same_groups(grouped("real/s1", "real/s2", "real/s3"), grouped(*fake))
    assert len(found) == 1
    assert "the same name" in found[0]
    assert ", such as s1. If these are the same slides, or classes, the test misses" in found[0]


@pytest.mark.parametrize(
    ("real", "fake"),
    [
        (("s1", "s2", "s3"), ("s1", "s4", "s5")),  # one of three
        (("real/1.png", "real/2.png"), ("fake/1.png", "fake/2.png")),
        (("real/s1/tiles", "real/s2/tiles"), ("fake/t1/tiles", "fake/t2/tiles")),
        (("data/000000", "data/000001"), ("data-2/000000", "data-2/000001")),
        (("1", "2"), ("1", "2")),
        (("real/s1",), ("fake/s1",)),  # one group has no name apart from its folders
    ],
)
def test_names_that_say_nothing_of_slides_are_not_named(real, fake):
    assert same_groups(grouped(*real), grouped(*fake)) == []
    assert same_groups(grouped(*real), Statistics.of_latents(latents(4))) == []


def test_score_and_compare_warn_of_groups_on_both_sides(encoder, tmp_path):
    for side in ("real", "one", "two"):
        for i, image in enumerate(random_images(8, seed=len(side))):
            (tmp_path / side / f"s{i // 2}").mkdir(parents=True, exist_ok=True)
            to_pil_image(image).save(tmp_path / side / f"s{i // 2}" / f"{side}{i}.png")
    options = {"weights": encoder, "real_groups": "parent", "fake_groups": "parent"}
    with pytest.warns(UserWarning, match="4 groups have the same names on both sides, such as s0"):
        found = score(tmp_path / "one", tmp_path / "real", **options)
    assert [text for text in found.warnings if "same names" in text]
    with pytest.warns(UserWarning, match="two: 4 groups have the same names"):
        compare_generators([tmp_path / "one", tmp_path / "two"], tmp_path / "real", **options)
