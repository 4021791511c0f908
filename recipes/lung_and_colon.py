"""Fit the flows of ``lung-colon@4``, ``lung@3`` and ``colon@3`` on the backbone of ``histology@2``.

    python recipes/lung_and_colon.py LC25000 FOLDER

The LC25000 files have to be 224 px, see ``lc25000.py --resize``. Ten minutes on two CPU cores; interrupted, the same
command goes on with the first file that is not there. The files name the backbone of ``histology@2`` and leave it out,
and are 5 MB each. Their rows of the catalog are printed.
"""

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import histology_flow
from histology_flow import entry_of
from lc25000 import KINDS, PX, kinds_of, locate, tiles
from torchmetrics_rl2 import CatalogEntry
from torchmetrics_rl2.fitting import Split, fit_split
from torchmetrics_rl2.weights import read_weights, write_weights
from torchmetrics_rl2.weights.loading import lend

LENDER = "histology@2"
CARD = {key: histology_flow.CARD[key] for key in ("license", "citation")} | {"recipe": "recipes/lung_and_colon.py"}
"""The backbone is made of the images of all sets, which have to be cited."""

TISSUES = {"lung-colon@4": ("lung", "colon"), "lung@3": ("lung",), "colon@3": ("colon",)}


def file_of(folder: Path, name: str) -> Path:
    """Where weights are written."""
    return folder / f"{name.replace('@', '-')}.safetensors"


def kinds_in(tissues: tuple[str, ...]) -> list[str]:
    """The classes of LC25000 that these tissues have."""
    return [kind for kind in KINDS if kind.startswith(tissues)]


def row_of(name: str, file: Path, tissues: tuple[str, ...]) -> CatalogEntry:
    """Row of the catalog for a file with the backbone of the lender."""
    return entry_of(name, file, f"{read_weights(file, lend).card['summary']}; backbone of {LENDER}", ", ".join(tissues))


def fit(folder: Path, tissues: tuple[str, ...], out: Path) -> None:
    """Fit with every file of the fit tiles, and one file a tile of the others, which are to be independent."""
    kinds = kinds_in(tissues)
    split = Split(
        fit=locate(folder, tiles(["fit"], kinds)),
        stop=locate(folder, tiles(["stop"], kinds, [0])),
        reference=locate(folder, tiles(["reference"], kinds, [0])),
    )
    counts = [len({tile.source_tile_id for tile in tiles([name], kinds)}) for name in ("fit", "stop", "reference")]
    card = CARD | {
        "summary": f"H&E, {' and '.join(tissues)} (LC25000), {PX} px",
        "data": f"LC25000 (Borkowski et al.): {counts[0]} tiles of {' and '.join(tissues)} fitted the flow, "
        f"{counts[1]} stopped it, {counts[2]} are the reference; the backbone is that of {LENDER}",
    }
    labels = kinds_of(folder, tiles(["fit", "stop", "reference"], kinds))
    with TemporaryDirectory(dir=out.parent) as beside:
        own = Path(beside, out.name)
        print(fit_split(split, own, backbone=LENDER, kinds=labels, card=card))
        write_weights(replace(read_weights(own), backbone_of=LENDER), out, lend)


def main() -> None:
    """Fit what is not there, and print the rows of the catalog."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the LC25000 images, in any folder layout")
    parser.add_argument("out", type=Path, help="the folder that the files are written to")
    arguments = parser.parse_args()
    rows = []
    for name, tissues in TISSUES.items():
        out = file_of(arguments.out, name)
        if not out.exists():
            fit(arguments.folder, tissues, out)
        rows.append(row_of(name, out, tissues))
    print(json.dumps([asdict(row) for row in rows], indent=2))


if __name__ == "__main__":
    main()
