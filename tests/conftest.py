"""What tests share; the fixtures of these modules are registered in the conftest of the root."""

import os

from tests.fixtures.images import random_images, tissue
from tests.fixtures.slides import slide_pixels, write_slide
from tests.fixtures.weights import Moments, assert_same_sums, brightened, perturbed_flow, sums

__all__ = [
    "Moments",
    "assert_same_sums",
    "brightened",
    "perturbed_flow",
    "random_images",
    "slide_pixels",
    "sums",
    "tissue",
    "write_slide",
]

os.environ.setdefault("COLUMNS", "200")
