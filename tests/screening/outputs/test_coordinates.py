import h5py
import numpy as np

from tests.screening.conftest import rows_of
from torchmetrics_rl2.images import Slide
from torchmetrics_rl2.screening.outputs.coordinates import write_coordinates


def test_coordinates_are_what_clam_and_trident_read(slide_file, tmp_path):
    slide = Slide.open(slide_file)
    rows = rows_of(["kp", "kk"], size=128)
    write_coordinates(rows, tmp_path, name="case-1", px=64, size=128.0, mpp=0.5, slide=slide)
    with h5py.File(tmp_path / "coords_clam.h5") as clam, h5py.File(tmp_path / "coords_trident.h5") as trident:
        for file in (clam, trident):
            np.testing.assert_array_equal(file["coords"][:], [[0, 0], [0, 128], [128, 128]])
        # CLAM reads patch_size pixels of patch_level, TRIDENT patch_size pixels at the target magnification.
        assert (clam["coords"].attrs["patch_level"], clam["coords"].attrs["patch_size"]) == (0, 128)
        attributes = dict(trident["coords"].attrs)
        assert (attributes["patch_size"], attributes["patch_size_level0"], attributes["overlap"]) == (64, 128, 0)
        assert (attributes["level0_magnification"], attributes["target_magnification"]) == (40, 20)


def test_no_kept_patch_is_an_empty_list_of_places(slide_file, tmp_path):
    write_coordinates(rows_of(["p"]), tmp_path, name="c", px=64, size=128.0, mpp=0.5, slide=Slide.open(slide_file))
    with h5py.File(tmp_path / "coords_clam.h5") as file:
        assert file["coords"].shape == (0, 2)
