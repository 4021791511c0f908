"""Coordinates of kept patches for CLAM and TRIDENT."""

from collections.abc import Sequence
from pathlib import Path

from torchmetrics_rl2.images.slide import Slide
from torchmetrics_rl2.screening.rows import PatchRow, SlidePlace

__all__ = ["write_coordinates"]


def write_coordinates(
    rows: Sequence[PatchRow[SlidePlace]], folder: Path, *, name: str, px: int, size: float, mpp: float, slide: Slide
) -> None:
    """Write the places of kept patches, ``coords_clam.h5`` and ``coords_trident.h5``, as each reads them.

    Args:
        rows: Patches.
        folder: Where to.
        name: Of the slide.
        px: Side of a patch.
        size: Side of a patch on level 0.
        mpp: Resolution of a patch.
        slide: The slide.

    """
    import h5py
    import numpy as np

    kept = np.array([(row.place.x, row.place.y) for row in rows if row.keep], dtype=np.int64).reshape(-1, 2)
    level_0 = {"downsample": (1.0, 1.0), "downsampled_level_dim": slide.size, "level_dim": slide.size}
    # Both call it patch_size: CLAM means pixels of patch_level, TRIDENT pixels at the target magnification.
    clam = {"patch_size": round(size), "patch_level": 0, **level_0, "name": name, "save_path": ""}
    trident = {
        "patch_size": px,
        "patch_size_level0": round(size),
        "level0_magnification": round(10 / slide.mpp),
        "target_magnification": round(10 / mpp),
        "overlap": 0,
        "name": name,
        "savetodir": "",
        "level0_width": slide.size[0],
        "level0_height": slide.size[1],
    }
    for kind, attributes in (("clam", clam), ("trident", trident)):
        with h5py.File(folder / f"coords_{kind}.h5", "w", track_order=True) as file:
            file.create_dataset("coords", data=kept).attrs.update(attributes)
