import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator

from torchmetrics_rl2.explaining.places import CELL, WINDOW, places

DIRECTION = torch.tensor([0.0, 0.0, 3.0])


def mean_color(images):
    return images.float().mean((2, 3))


def brute(images, reals, encode):
    """The least of the windows that a cell is in, cell by cell."""
    windows = reals.unfold(2, WINDOW, WINDOW).unfold(3, WINDOW, WINDOW).permute(0, 2, 3, 1, 4, 5)
    base = encode(windows.reshape(-1, 3, WINDOW, WINDOW))[:, 2].mean()
    _, _, height, width = images.shape
    rows, columns = ((side - WINDOW) // CELL + 1 for side in (height, width))
    found = torch.full((len(images), rows + 2, columns + 2), torch.inf)
    for i in range(rows):
        for j in range(columns):
            window = images[:, :, i * CELL : i * CELL + WINDOW, j * CELL : j * CELL + WINDOW]
            value = (encode(window)[:, 2] - base).clamp(min=0)[:, None, None]
            cells = found[:, i : i + 3, j : j + 3]
            cells[:] = torch.minimum(cells, value)
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
