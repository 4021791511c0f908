from dataclasses import replace

import pytest
import torch
from torchvision.transforms.v2.functional import to_pil_image

from tests.fixtures.images import tissue
from torchmetrics_rl2 import LatentEncoder, PatchScreener, RL2Error, calibrate, list_weights
from torchmetrics_rl2.auditing import auroc
from torchmetrics_rl2.pixels.degradations import degrade
from torchmetrics_rl2.pixels.stain import stain_of
from torchmetrics_rl2.quality import calibrating
from torchmetrics_rl2.quality.calibrating import beside
from torchmetrics_rl2.quality.measures import measure

GOOD = tissue(60, seed=9)


def damaged(ladder, severity=0.5):
    return degrade(GOOD[:20], ladder, severity)


def test_good_patches_are_kept_and_spread_over_the_percentiles(screener):
    verdicts = screener(GOOD)
    assert verdicts.keep.float().mean() > 0.85
    assert 40 < float(verdicts.percentile.mean()) < 60
    assert all((not reason) == keep for reason, keep in zip(verdicts.reasons, verdicts.keep.tolist(), strict=True))


@pytest.mark.parametrize(
    ("ladder", "severity", "reason"),
    [
        ("gaussian blur", 0.5, "out of focus"),
        ("gaussian noise", 0.5, "noise"),
        ("jpeg", 0.9, "compression"),
        ("salt and pepper", 0.1, "dark spots"),
        ("near blank", 0.6, "near-blank"),
    ],
)
def test_damage_rates_low_and_has_its_name(screener, ladder, severity, reason):
    verdicts = screener(damaged(ladder, severity))
    assert auroc(screener(GOOD).score, verdicts.score) > 0.95
    assert sum(reason in found for found in verdicts.reasons) > 15


def test_blank_and_ink_have_their_names_whatever_they_score(screener):
    glass = torch.full((1, 3, 64, 64), 240, dtype=torch.uint8)
    inked = GOOD[:1].clone()
    inked[:, :, 20:40] = torch.tensor([20, 150, 100], dtype=torch.uint8).view(3, 1, 1)
    verdicts = screener(torch.cat([glass, inked]))
    assert verdicts.reasons == [("background",), ("pen",)]
    assert verdicts.percentile.tolist() == [0, 0]
    assert verdicts.score.tolist() == [-torch.inf] * 2
    ranking = screener.ranking()(torch.cat([glass, inked, damaged("gaussian noise")[:1]]))
    assert ranking.keep.tolist() == [False, False, True]
    assert screener.threshold is not None


def test_another_stain_is_no_damage(screener):
    for ladder, severity in (("hematoxylin", 0.5), ("brightness", -0.5), ("white balance", 0.5)):
        other = degrade(GOOD, ladder, severity)
        cut = 1 - screener(other, stain_of([other])).keep.float().mean()
        assert cut < (1 - screener(other).keep.float().mean()) / 2


def test_uint8_and_floats_are_one_and_batches_do_not_matter(screener):
    whole = screener(GOOD)
    floats = screener(GOOD.float() / 255)
    parts = [screener(part) for part in GOOD.split(7)]
    torch.testing.assert_close(floats.score, whole.score)
    torch.testing.assert_close(torch.cat([part.score for part in parts]), whole.score, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(whole.log_likelihood, screener.encoder.log_prob(GOOD), rtol=1e-5, atol=1e-2)


def test_nan_is_not_good(screener):
    images = GOOD[:2].float() / 255
    images[0] = torch.nan
    assert screener(images).keep.tolist()[0] is False


def test_a_calibration_of_a_folder_is_that_of_its_patches(encoder, weights_file, tmp_path):
    for i, image in enumerate(tissue(40, seed=1)):
        (tmp_path / f"s{i % 20}").mkdir(exist_ok=True)
        to_pil_image(image).save(tmp_path / f"s{i % 20}" / f"{i:02}.png")
    to_pil_image(torch.full((3, 64, 64), 250, dtype=torch.uint8)).save(tmp_path / "s0" / "glass.png")
    found = calibrate(tmp_path, weights_file, groups="parent", mpp=0.25)
    assert (len(found), found.group_count, found.px, found.mpp, found.two_sided) == (40, 20, 64, 0.25, False)
    z, _, statistics, _, _ = measure(encoder, tissue(40, seed=1))
    torch.testing.assert_close(found.statistics.sort(0).values, statistics.sort(0).values)
    torch.testing.assert_close(found.latents.sum(0), z.sum(0), rtol=1e-4, atol=1e-3)
    with pytest.raises(RL2Error, match="gave 1 good patches"):
        calibrate(next((tmp_path / "s3").iterdir()), weights_file)
    with pytest.raises(RL2Error, match="None of the patches"):
        calibrate(tmp_path / "s0" / "glass.png", weights_file)


@pytest.fixture
def of_two_kinds(weights):
    """An encoder that knows tissue, and pale tissue."""
    encoder = LatentEncoder(weights)
    means = torch.stack([encoder(images).mean(0) for images in (GOOD, degrade(GOOD, "near blank", 0.5))])
    base = {"base.means": means, "base.log_shares": torch.full((2,), 0.5).log()}
    return LatentEncoder(
        replace(weights, flow=weights.flow | base, flow_config=weights.flow_config | {"kinds": 2}, reference=None)
    )


def test_good_patches_and_judged_ones_have_the_kinds_of_the_weights(of_two_kinds, tmp_path):
    pale = degrade(GOOD, "near blank", 0.5)
    for i, image in enumerate(torch.cat([GOOD[:44], pale[44:50]])):
        to_pil_image(image).save(tmp_path / f"{i:02}.png")
    found = calibrate(tmp_path, of_two_kinds)
    assert found.kinds.tolist() == [0] * 44 + [1] * 6
    verdicts = PatchScreener(of_two_kinds, calibration=found, max_false_rejection=0.1)(pale[50:])
    *measured, kinds, _ = measure(of_two_kinds, pale[50:])
    assert kinds.tolist() == [1] * 10
    assert torch.equal(verdicts.score, found.score(*measured, kinds))
    assert not torch.equal(verdicts.score, found.score(*measured, torch.zeros_like(kinds)))


def test_of_many_tiles_an_even_sample_is_taken(weights_file, tmp_path, monkeypatch):
    monkeypatch.setattr(calibrating, "MAX_PATCHES", 40)
    for i in range(4):
        pixels = tissue(35, 64, seed=i).unflatten(0, (7, 5)).permute(2, 0, 3, 1, 4).reshape(3, 448, 320)
        to_pil_image(pixels).save(tmp_path / f"{i}.png")
    found = calibrate(tmp_path, weights_file, groups="file", tile=64)
    assert len(found) == 35  # of 140, every fourth
    assert set(torch.bincount(found.groups).tolist()) == {8, 9}


def test_the_calibration_of_the_weights_lies_beside_them(weights_file, calibration, tmp_path):
    own = tmp_path / "own.safetensors"
    own.write_bytes(weights_file.read_bytes())
    with pytest.raises(RL2Error, match=r"own.calibration.safetensors. Say what good patches are: --calibrate"):
        PatchScreener(own)
    calibration.save(beside(own))
    assert PatchScreener(own).calibration.id == calibration.id


def test_the_calibration_that_ships_is_of_the_weights_that_ship():
    screener = PatchScreener("lung-colon")
    assert screener.calibration.of_weights
    assert (len(screener.calibration), screener.calibration.group_count) == (197, 197)
    assert screener.threshold.max_false_rejection == 0.01


def test_what_does_not_fit_is_refused(encoder, calibration, other_weights):
    with pytest.raises(RL2Error, match="these are others"):
        PatchScreener(other_weights, calibration=calibration)
    with pytest.raises(RL2Error, match="between 0 and 1"):
        PatchScreener(encoder, calibration=calibration, min_tissue=2)
    with pytest.raises(RL2Error, match="too few"):
        PatchScreener(encoder, calibration=calibration, max_false_rejection=0.001)
    screener = PatchScreener(encoder, calibration=calibration, max_false_rejection=0.05)
    with pytest.raises(ValueError, match="The good patches have 64 x 64 px, and these 96 x 80; only") as error:
        screener(torch.zeros(2, 3, 80, 96))
    assert not isinstance(error.value, RL2Error)
    with pytest.raises(ValueError, match="color images"):
        screener(torch.zeros(2, 64, 64))


def test_audits_that_found_inversions_make_scores_two_sided(weights, calibration, tmp_path):
    from torchmetrics_rl2.weights.file import write_weights

    inverted = replace(weights, card={"audit": {"verdicts": {"inverts": ["gaussian blur"]}}})
    write_weights(inverted, tmp_path / "i.safetensors")
    for i, image in enumerate(tissue(20, seed=2)):
        to_pil_image(image).save(tmp_path / f"{i}.png")
    assert calibrate(tmp_path, tmp_path / "i.safetensors").two_sided


def test_pixels_that_are_no_numbers_are_never_kept(screener):
    images = GOOD[:2].float() / 255
    images[1] = float("nan")
    assert screener.ranking()(images).keep.tolist() == [True, False]
    with pytest.raises(ValueError, match="Expected color images of shape"):
        screener(torch.zeros(3))


def test_weights_of_one_laboratory_that_ship_have_good_patches_beside_them_for_one_size_of_patch():
    for entry in list_weights():
        if entry.name != "histology@2":
            good = PatchScreener(entry.name, max_false_rejection=0.02, device="cpu").calibration
            assert (good.of_weights, good.px) == (True, 224)
    with pytest.raises(RL2Error, match="Say what good patches are: --calibrate"):
        PatchScreener("histology@2", device="cpu")


@pytest.mark.parametrize("beside", ["black", "padded", "pen"])
def test_verdicts_do_not_depend_on_what_lies_beside(screener, beside):
    other = torch.zeros(12, 3, 64, 64, dtype=torch.uint8)
    if beside == "padded":
        other[:, :, :, 30:] = GOOD[:12, :, :, 30:]
    if beside == "pen":
        other[:] = torch.tensor([30, 170, 110], dtype=torch.uint8).view(3, 1, 1)
    alone, among = (screener(GOOD, stain_of(batches)) for batches in ([GOOD], [GOOD, other]))
    assert (alone.keep != among.keep).sum() <= 1
    assert (alone.percentile - among.percentile).abs().mean() < 3


def test_black_has_its_own_word(screener):
    images = GOOD[:4].clone()
    images[0], images[1, :, :, :16], images[2, :, :, :60] = 0, 0, 0
    found = screener(images)
    assert found.reasons[:3] == [("black", "background"), ("black",), ("black", "background")]
    assert found.black[:3].tolist() == [1.0, 0.25, pytest.approx(0.9, abs=0.1)]
    assert (found.ink[:3] == 0).all()
    assert (found.score[:3] == -torch.inf).all()


def test_copies_of_good_patches_are_left_out_of_a_calibration(weights_file, tmp_path):
    for i, image in enumerate(tissue(17, seed=5).repeat(2, 1, 1, 1)):
        to_pil_image(image).save(tmp_path / f"{i:02}.png")
    with pytest.warns(UserWarning, match="17 good patches repeat others pixel for pixel, and were left out"):
        assert len(calibrate(tmp_path, weights_file)) == 17
