"""Make the calibrations beside the weights that ship, from the tiles of LC25000 that are their reference.

    python recipes/calibrations.py LC25000 src/torchmetrics_rl2/weights/bundled

The LC25000 files have to be 224 px, see ``lc25000.py --resize``. A minute on two CPU cores. ``rl2 fit`` writes such a
file beside its weights, too; this makes them for weights that exist already.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from lc25000 import KINDS, locate, tiles
from torchmetrics_rl2 import calibrate


def main() -> None:
    """One file a tile, as for the reference."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the LC25000 images, in any folder layout")
    parser.add_argument("out", type=Path, help="the folder that the files are written to")
    arguments = parser.parse_args()
    for name in ("lung-colon@4", "lung@3", "colon@3"):
        kinds = [kind for kind in KINDS if kind.partition("_")[0] in name]
        good = calibrate(locate(arguments.folder, tiles(["reference"], kinds, [0])), name)
        file = arguments.out / f"{name.replace('@', '-')}.calibration.safetensors"
        replace(good, of_weights=True, source="LC25000").save(file)
        print(f"{file.name}: {len(good)} tiles, {good.id}")


if __name__ == "__main__":
    main()
