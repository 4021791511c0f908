import pytest
import torch

from torchmetrics_rl2.pixels.patch_statistics import STATISTICS
from torchmetrics_rl2.quality.reasons import REASONS, SIGNS, Names

GOOD = torch.randn(400, 25, generator=torch.Generator().manual_seed(0))


def typical(**changes):
    """The middle of good patches, but for some columns."""
    statistics = torch.zeros(25)
    for name, value in changes.items():
        statistics[STATISTICS.index(name.replace("_", " "))] = value
    return statistics


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("blockiness", 4, "compression"),
        ("log fraction of black", 4, "dark spots"),
        ("log fraction of white", 4, "near-blank"),
        ("greatest density of a cell", -4, "over-exposed"),
        ("mean saturation", 4, "saturation"),
        ("mean saturation", -4, "saturation"),
        ("strangest hue of a cell", 4, "color of a part"),
        ("blockiness", -4, "unusual"),
        ("blockiness", 1.5, "unusual"),
    ],
)
def test_a_column_beyond_good_patches_gives_its_name(column, value, reason):
    assert Names(GOOD)(typical(**{column: value})) == (reason,)


def test_the_two_strongest_are_given_strongest_first():
    strange = typical(blockiness=5, mean_saturation=9, **{"log fraction of black": 7})
    assert Names(GOOD)(strange) == ("saturation", "dark spots")


def test_glass_in_a_patch_is_neither_blurred_nor_unsaturated():
    part = {"greatest sharpness of a cell": 4, "least sharpness of a cell": -4, "mean saturation": -5}
    pale = {f"mean density of {color}": -3 for color in ("red", "green", "blue")}
    assert set(Names(GOOD)(typical(**part))) == {"out of focus", "saturation"}
    assert Names(GOOD)(typical(**part, **pale)) == ("near-blank",)
    white = {"log fraction of white": 2.5, "blockiness": 6}
    assert Names(GOOD)(typical(**part, **white)) == ("near-blank", "compression")


def test_no_patch_is_too_smooth_and_too_rough():
    rough = {"log-variance of the Laplacian at scale 1": 9, "greatest sharpness of a cell": 6}
    assert Names(GOOD)(typical(**rough)) == ("noise",)
    rough["greatest sharpness of a cell"] = 30
    assert Names(GOOD)(typical(**rough)) == ("out of focus",)


def test_blur_and_noise_go_by_how_sharpness_changes_with_scale():
    sharp = [f"log-variance of the Laplacian at scale {size}" for size in (1, 2, 4)]
    # Soft tissue is soft at all scales; blur takes the finest away.
    generator = torch.Generator().manual_seed(1)
    good = GOOD.clone()
    level = 3 * torch.randn(400, generator=generator)
    for name in sharp:
        good[:, STATISTICS.index(name)] = level + 0.1 * torch.randn(400, generator=generator)
    names = Names(good)
    assert names(typical(**dict.fromkeys(sharp, -3))) == ("unusual",)
    assert names(typical(**{sharp[0]: -2, sharp[1]: -1}))[0] == "out of focus"
    assert names(typical(**{sharp[0]: 2, sharp[1]: 1}))[0] == "noise"


def test_every_sign_is_of_a_reason_and_of_columns_that_exist():
    assert {reason for reason, _ in SIGNS} <= set(REASONS)
    assert all(set(weights) <= set(STATISTICS) for _, weights in SIGNS)
