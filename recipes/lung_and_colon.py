"""Fit the flows of ``lung@2`` and ``colon@2`` on the backbone of ``lung-colon@3``, each on its part of LC25000.

    python recipes/lung_and_colon.py LC25000 FOLDER

The LC25000 files have to be 224 px, see ``lc25000.py --resize``. Two minutes on two CPU cores. The files share the
backbone of ``lung-colon@3`` by its name, and are 4 MB each. Their rows of the catalog are printed.
"""

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path

from lc25000 import KINDS, PX, kinds_of, locate, tiles
from lung_colon_flow import CARD, entry_of
from torchmetrics_rl2.fitting import FitSettings, Split, fit_split
from torchmetrics_rl2.weights import read_weights, write_weights
from torchmetrics_rl2.weights.loading import lend

LENDER = "lung-colon@3"


def main() -> None:
    """Every file of the fit tiles, and one file a tile of the others, as for ``lung-colon``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the LC25000 images, in any folder layout")
    parser.add_argument("out", type=Path, help="the folder that the files are written to")
    arguments = parser.parse_args()
    rows = []
    for tissue in ("lung", "colon"):
        kinds = [kind for kind in KINDS if kind.startswith(tissue)]
        split = Split(
            fit=locate(arguments.folder, tiles(["fit"], kinds)),
            stop=locate(arguments.folder, tiles(["stop"], kinds, [0])),
            reference=locate(arguments.folder, tiles(["reference"], kinds, [0])),
        )
        counts = [len({tile.source_tile_id for tile in tiles([name], kinds)}) for name in ("fit", "stop", "reference")]
        card = CARD | {
            "summary": f"H&E, {tissue} (LC25000), {PX} px",
            "data": f"LC25000 (Borkowski et al.): {counts[0]} {tissue} tiles fitted the flow, {counts[1]} stopped it, "
            f"{counts[2]} are the reference; the backbone is that of {LENDER}",
            "recipe": "recipes/lung_and_colon.py",
        }
        own, shared = arguments.out / f"{tissue}-own.safetensors", arguments.out / f"{tissue}-2.safetensors"
        # Narrower conditioners than lung-colon's: all weights that ship fit into a wheel of 60 MB.
        labels = kinds_of(arguments.folder, tiles(["fit", "stop", "reference"], kinds))
        print(fit_split(split, own, backbone=LENDER, kinds=labels, settings=FitSettings(hidden=64), card=card))
        write_weights(replace(read_weights(own), backbone_of=LENDER), shared, lend)
        own.unlink()
        summary = f"{card['summary']}; backbone of {LENDER}"
        rows.append(entry_of(f"{tissue}@2", shared, summary, tissue))
    print(json.dumps([asdict(row) for row in rows], indent=2))


if __name__ == "__main__":
    main()
