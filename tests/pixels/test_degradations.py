import math
from functools import partial

import numpy as np
import pytest
import scipy.ndimage
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from torchmetrics_rl2 import RL2Error
from torchmetrics_rl2.images import ImageReader, find_images
from torchmetrics_rl2.pixels import LADDERS, degrade
from torchmetrics_rl2.pixels import optical_density as density
from torchmetrics_rl2.pixels.damage import STAINS

ALL = pytest.mark.parametrize("name", LADDERS)


@pytest.fixture(scope="module")
def tissue():
    paths = find_images("examples/cmu/reference")[:3]
    return torch.cat([batch.images for batch in ImageReader().read(paths)])[..., :96, :96]


def directions(ladder):
    return (1, -1) if ladder.signed else (1,)


@ALL
def test_the_ladder_says_what_it_does(name):
    ladder = LADDERS[name]
    assert list(ladder.severities) == sorted(ladder.severities)
    assert 0 < ladder.severities[0] <= ladder.visible <= ladder.severities[-1] <= 1
    assert any(math.isclose(ladder.visible, severity) for severity in ladder.severities)
    assert LADDERS[ladder.name] is ladder


@ALL
def test_strength_zero_changes_nothing(name, tissue):
    same = degrade(tissue, name, 0)
    assert torch.equal(same, tissue)
    assert same.data_ptr() != tissue.data_ptr()


@ALL
def test_each_rung_is_further_from_the_clean_patch(name, tissue):
    ladder = LADDERS[name]
    for direction in directions(ladder):
        if name == "magnification" and direction < 0:
            continue  # fewer pixels, no common grid
        change = [
            (degrade(tissue, name, direction * severity).float() - tissue.float()).square().mean().item()
            for severity in ladder.severities
        ]
        assert change[0] > 0
        assert change == sorted(change)


@ALL
def test_a_patch_is_damaged_alike_in_any_batch(name, tissue):
    severity = LADDERS[name].visible
    whole = degrade(tissue, name, severity)
    assert torch.equal(whole[[2, 1]], degrade(tissue[[2, 1]], name, severity))
    assert whole.dtype == torch.uint8


@pytest.mark.parametrize(
    "name", ["gaussian noise", "diffusion", "salt and pepper", "pen", "fold", "dust", "rectangles"]
)
def test_seeds_and_patches_differ(name, tissue):
    flat = torch.full((1, 3, 64, 64), 180, dtype=torch.uint8)
    other = flat.clone()
    other[0, 0, 0, 0] = 181
    severity = LADDERS[name].visible
    assert not torch.equal(degrade(flat, name, severity), degrade(flat, name, severity, seed=1))
    assert not torch.equal(degrade(flat, name, severity)[..., 1:], degrade(other, name, severity)[..., 1:])


@pytest.mark.parametrize("sigma", [0.5, 1.0, 4.0])
def test_gaussian_blur_is_scipys(sigma, tissue):
    ours = degrade(tissue[:1], "gaussian blur", sigma / 4)[0].numpy().astype(float)
    image = tissue[0].numpy().astype(float)
    oracle = scipy.ndimage.gaussian_filter(
        image, (0, sigma, sigma), mode="mirror", truncate=math.ceil(4 * sigma) / sigma
    )
    assert np.abs(ours - oracle).max() < 1


def test_noise_has_its_sd_where_nothing_is_clipped():
    gray = torch.full((1, 3, 256, 256), 128, dtype=torch.uint8)
    for sd in (0.02, 0.05):
        noise = degrade(gray, "gaussian noise", sd / 0.4).float() / 255 - 128 / 255
        # Rounding to 8 bits adds a variance of 1/12.
        assert noise.std().item() == pytest.approx(math.hypot(sd, 1 / 255 / math.sqrt(12)), rel=0.01)
        assert abs(noise.mean()) < 1e-3


def test_diffusion_is_ddpms_forward_process():
    betas = np.linspace(1e-4, 0.02, 1000)
    gray = torch.full((1, 3, 256, 256), 192, dtype=torch.uint8)
    noised = degrade(gray, "diffusion", 0.025).double() / 255 * 2 - 1
    kept = np.prod(1 - betas[:25])
    assert noised.mean().item() == pytest.approx(math.sqrt(kept) * (192 / 255 * 2 - 1), abs=2e-3)
    assert noised.std().item() == pytest.approx(math.sqrt(1 - kept), rel=0.02)


def test_salt_and_pepper_hits_its_fraction_of_pixels_in_all_channels_at_once():
    gray = torch.full((1, 3, 256, 256), 128, dtype=torch.uint8)
    hit = degrade(gray, "salt and pepper", 0.1 / 0.5)
    assert (hit != 128).any(1).float().mean().item() == pytest.approx(0.1, abs=0.005)
    assert set(hit.unique().tolist()) == {0, 128, 255}
    assert torch.equal(hit[:, 0], hit[:, 1])


@pytest.mark.parametrize(
    ("name", "fraction"), [("rectangles", 0.1), ("air bubble", 0.1), ("blank", 0.5), ("dust", 0.02)]
)
def test_areas_are_what_they_say(name, fraction):
    gray = torch.full((4, 3, 224, 224), 128, dtype=torch.uint8)
    damaged = degrade(gray, name, fraction / LADDERS[name].amount(1))
    # Specks are soft; what is half as bright or less counts.
    changed = ((damaged < 80) if name == "dust" else (damaged != 128)).any(1).float().mean((1, 2))
    if name == "rectangles":  # they may overlap
        assert changed.max().item() == pytest.approx(fraction, abs=0.005)
        assert changed.max() >= changed.min() > fraction / 2
    else:
        assert changed.mean().item() == pytest.approx(fraction, rel=0.02 if name == "blank" else 0.35)


@pytest.mark.parametrize("px", [64, 224, 512])
def test_dust_covers_what_it_says_at_any_size(px):
    white = torch.full((6, 3, px, px), 255, dtype=torch.uint8)
    damaged = degrade(white, "dust", 0.02 / LADDERS["dust"].amount(1))
    # Specks take 70 to 95 % of the light; the last one goes beyond by less than its own area.
    lost = 1 - damaged.float().mean((1, 2, 3)) / 255
    assert (lost > 0.7 * 0.02).all()
    assert (lost < 0.95 * (0.02 + torch.pi * (0.015 + 1 / px) ** 2)).all()


def test_stain_gain_moves_one_stain_alone():
    amounts = torch.tensor([0.6, 0.5, 0.1])
    color = (-(amounts @ STAINS)).exp()
    patch = (color * 255).round().to(torch.uint8).view(1, 3, 1, 1).expand(1, 3, 32, 32).contiguous()
    for stain, name in enumerate(("hematoxylin", "eosin")):
        for severity in (-0.5, 0.5):
            seen = degrade(patch, name, severity)[0, :, 0, 0].float() / 255
            expected = amounts.clone()
            expected[stain] *= 2**severity
            assert (density(seen) @ STAINS.inverse()).tolist() == pytest.approx(expected.tolist(), abs=0.02)


def test_signed_colors_are_opposite():
    gray = torch.full((1, 3, 32, 32), 128, dtype=torch.uint8)
    red, blue = (degrade(gray, "white balance", severity)[0, :, 0, 0].tolist() for severity in (1, -1))
    assert red == blue[::-1]
    assert red[0] > red[1] > red[2]
    bright, dark = (degrade(gray, "brightness", severity).float().mean().item() for severity in (0.5, -0.5))
    assert dark < 128 < bright


def test_magnification_enlarges_or_shrinks_the_field(tissue):
    assert degrade(tissue, "magnification", 1).shape == tissue.shape
    side = tissue.shape[-1]
    assert degrade(tissue, "magnification", -1).shape[-2:] == (side // 2, side // 2)
    there_and_back = degrade(degrade(tissue, "magnification", 1), "magnification", -1).float()
    middle = tissue[..., side // 4 : 3 * side // 4, side // 4 : 3 * side // 4].float()
    assert torch.corrcoef(torch.stack([there_and_back.flatten(), middle.flatten()]))[0, 1] > 0.95


def test_jpeg_is_pillows(tissue):
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(tissue[0].permute(1, 2, 0).numpy()).save(buffer, "JPEG", quality=30)
    assert np.array_equal(
        degrade(tissue[:1], "jpeg", 70 / 95)[0].permute(1, 2, 0).numpy(), np.array(Image.open(buffer))
    )


@settings(max_examples=8, deadline=None)
@given(height=st.integers(32, 90), width=st.integers(32, 90), severity=st.floats(0.01, 1))
def test_any_size_and_strength(height, width, severity):
    noise = torch.randint(256, (1, 3, height, width), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    for ladder in LADDERS.values():
        for direction in directions(ladder):
            damaged = degrade(noise, ladder.name, direction * severity)
            assert damaged.dtype == torch.uint8
            if not (ladder.name == "magnification" and direction < 0):
                assert damaged.shape == noise.shape


def test_wrong_input_gets_a_sentence(tissue):
    blur = partial(degrade, ladder="gaussian blur")
    for call, sentence in (
        (partial(degrade, tissue, "blur", 0.5), "no ladder 'blur'; known are gaussian blur"),
        (partial(blur, tissue, severity=-0.5), "go from 0 to 1, but got -0.5"),
        (partial(blur, tissue, severity=float("nan")), "go from 0 to 1, but got nan"),
        (partial(degrade, tissue, "eosin", -1.5), "go from -1 to 1"),
        (partial(blur, tissue.float(), severity=0.5), "but got torch.float32"),
        (partial(blur, tissue[..., :31], severity=0.5), "at least 32 x 32 px"),
        (partial(blur, tissue[0], severity=0.5), r"Expected uint8 patches"),
    ):
        with pytest.raises(ValueError, match=sentence):
            call()
    with pytest.raises(RL2Error):  # a name, where the others are arguments and shapes
        degrade(tissue, "blur", 0.5)


def test_colors_of_real_tissue_follow_the_severity(tissue):
    severities = [-1, -0.5, -0.25, 0.25, 0.5, 1]
    for name, stain in (("hematoxylin", 0), ("eosin", 1)):
        amounts = [
            torch.einsum("nchw,ck->nkhw", density(degrade(tissue, name, s).float() / 255), STAINS.inverse())[:, stain]
            .mean()
            .item()
            for s in severities
        ]
        assert spearmanr(severities, amounts).statistic == pytest.approx(1)
