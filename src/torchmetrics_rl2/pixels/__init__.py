"""Pixels in, numbers out: no files, no networks."""

from torchmetrics_rl2.pixels.batch import MIN_PX, check_images, to_8_bit
from torchmetrics_rl2.pixels.degradations import LADDERS, Ladder, degrade
from torchmetrics_rl2.pixels.density import optical_density
from torchmetrics_rl2.pixels.handcrafted import HANDCRAFTED, handcrafted_statistics
from torchmetrics_rl2.pixels.patch_statistics import STATISTICS, patch_statistics
from torchmetrics_rl2.pixels.stain import Stain, restain, stain_of
from torchmetrics_rl2.pixels.tissue import black_share, ink_share, is_bright_field, tissue_share

__all__ = [
    "HANDCRAFTED",
    "LADDERS",
    "MIN_PX",
    "STATISTICS",
    "Ladder",
    "Stain",
    "black_share",
    "check_images",
    "degrade",
    "handcrafted_statistics",
    "ink_share",
    "is_bright_field",
    "optical_density",
    "patch_statistics",
    "restain",
    "stain_of",
    "tissue_share",
    "to_8_bit",
]
