from itertools import product

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator

from torchmetrics_rl2.explaining.places import CELL, WINDOW, places

MARGIN = WINDOW - CELL
DIRECTION = torch.tensor([0.0, 0.0, 3.0])


def mean_color(images):
    return images.float().mean((2, 3))


def brute(images, reals, encode):
    """The least of the windows that a cell is in, cell by cell."""
    windows = reals.unfold(2, WINDOW, WINDOW).unfold(3, WINDOW, WINDOW).permute(0, 2, 3, 1, 4, 5)
    base = encode(windows.reshape(-1, 3, WINDOW, WINDOW))[:, 2].mean()
    mirrored = np.pad(images.numpy(), ((0, 0), (0, 0), (MARGIN, MARGIN), (MARGIN, MARGIN)), mode="reflect")
    rows, columns = (side // CELL for side in images.shape[2:])
    found = torch.full((len(images), rows, columns), torch.inf)
    for row, column, y, x in product(range(rows), range(columns), range(3), range(3)):
        top, left = (row + y) * CELL, (column + x) * CELL
        window = torch.from_numpy(mirrored[:, :, top : top + WINDOW, left : left + WINDOW])
        value = (encode(window)[:, 2] - base).clamp(min=0)
        found[:, row, column] = torch.minimum(found[:, row, column], value)
    return found


@settings(max_examples=20, deadline=None)
@given(height=st.integers(48, 100), width=st.integers(48, 100), seed=st.integers(0, 99))
def test_a_cell_has_the_least_of_the_windows_that_it_is_in(height, width, seed):
    generator = Generator().manual_seed(seed)
    images = torch.randint(256, (2, 3, height, width), generator=generator, dtype=torch.uint8)
    reals = torch.randint(256, (3, 3, 96, 64), generator=generator, dtype=torch.uint8)
    found = places(images, reals, DIRECTION, mean_color)
    torch.testing.assert_close(found.float(), brute(images, reals, mean_color), rtol=1e-5, atol=1e-4)


def test_damage_is_found_where_it_is_and_the_other_way_counts_nothing():
    images = torch.full((1, 3, 224, 224), 100, dtype=torch.uint8)
    reals = images.clone()
    images[:, 2, 64:144, 80:160] = 200
    found = places(images, reals, DIRECTION, mean_color)[0]
    assert found.shape == (14, 14)
    assert divmod(int(found.argmax()), 14) in [(row, column) for row in range(4, 9) for column in range(5, 10)]
    inside = found[4:9, 5:10].sum() / found.sum()
    assert inside > 0.8
    assert not places(images, reals, -DIRECTION, mean_color).any()


def test_damage_near_the_border_does_not_reach_it():
    images = torch.full((1, 3, 224, 224), 100, dtype=torch.uint8)
    reals = images.clone()
    images[:, 2, 32:112, 32:112] = 200
    found = places(images, reals, DIRECTION, mean_color)[0]
    assert not found[0].any()
    assert not found[:, 0].any()
    assert found[2:7, 2:7].sum() / found.sum() > 0.9
