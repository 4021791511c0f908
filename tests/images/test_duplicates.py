import torch

from tests.conftest import random_images
from torchmetrics_rl2.images.duplicates import is_blank, pixel_keys


def test_blank_is_what_has_one_color_in_every_pixel():
    images = random_images(6)
    images[0] = 7
    images[2] = torch.tensor([1, 2, 3], dtype=torch.uint8)[:, None, None]
    images[3], images[5] = 5, 0
    images[3, 1, -1, -3] = 6  # where a coarse look passes by
    images[5, 0, 0, 0] = 1
    assert is_blank(images).tolist() == [True, False, True, False, False, False]


def test_keys_are_those_of_pixels_and_shape():
    images = random_images(3)
    images[2] = images[0]
    images[1] = 9
    first, blank, again = pixel_keys(images)
    assert first == again
    assert blank is None
    assert pixel_keys(images.reshape(3, 3, 32, 128))[0] != first
