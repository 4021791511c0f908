"""Pictures of a validation epoch, as pixels that every logger takes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from torchmetrics_rl2.distance.result import RL2Result
from torchmetrics_rl2.distance.text import three_digits

__all__ = ["draw_images", "draw_result"]

COLUMNS = 4
Pixels = NDArray[np.uint8]


def draw_result(result: RL2Result) -> Pixels:
    """Content and look, ``(H, W, 3)``.

    Args:
        result: Of the epoch.

    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 6), layout="constrained")
    result.plot(figure.subplots())
    return _pixels(figure)


def draw_images(images: Sequence[tuple[float, Tensor]], title: str) -> Pixels:
    """Images, each beneath its share of RL2, ``(H, W, 3)``.

    Args:
        images: Share and pixels, uint8 ``(3, H, W)``, of at least one image.
        title: What they are.

    """
    from matplotlib.figure import Figure

    rows = -(-len(images) // COLUMNS)
    figure = Figure(figsize=(2.4 * COLUMNS, 2.6 * rows + 0.6), layout="constrained")
    panels = figure.subplots(rows, COLUMNS, squeeze=False).flatten()
    for panel, (share, image) in zip(panels, images, strict=False):
        panel.imshow(image.permute(1, 2, 0).numpy())
        panel.set_title(f"{three_digits(share)}x", fontsize=9)
    for panel in panels:
        panel.set_axis_off()
    figure.suptitle(title, fontsize=10)
    return _pixels(figure)


def _pixels(figure: Any) -> Pixels:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    return np.array(canvas.buffer_rgba(), dtype=np.uint8)[..., :3]
