"""Measure the signatures of damage of the weights that ship once more, and write them into the same files.

    python recipes/signatures.py MANY_LABS LC25000 src/torchmetrics_rl2/weights/bundled

The LC25000 files have to be 224 px, see ``lc25000.py --resize``. Four minutes a file on two CPU cores. ``rl2 fit``
writes such signatures into its weights, too; this makes them for weights that exist already. All else stays as it is,
the latents as well, so statistics and calibrations of them do. The rows of the catalog, which are printed, have new
checksums: ``histology@2`` comes last, as the others borrow its backbone from the file of the catalog.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import histology_flow
from histology_flow import entry_of
from lc25000 import locate, tiles
from lung_and_colon import LENDER, TISSUES, file_of, kinds_in, row_of
from torchmetrics_rl2 import LatentEncoder
from torchmetrics_rl2.explaining.measuring import PAIRS, measure_signatures
from torchmetrics_rl2.images import ImageReader
from torchmetrics_rl2.weights import read_weights, write_weights
from torchmetrics_rl2.weights.loading import lend


def measure(file: Path, images: Sequence[Path], reader: ImageReader) -> None:
    """Measure on images that fitted the flow, as a fit does, and write."""
    weights = read_weights(file, lend)
    encoder = LatentEncoder(weights)
    found = measure_signatures(encoder.flow, encoder.features, images, reader, print, pairs=PAIRS)
    write_weights(replace(weights, signatures=found), file, lend)


def main() -> None:
    """All that ship."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("many_labs", type=Path, help="a folder with a folder for each set of many_labs.csv")
    parser.add_argument("lc25000", type=Path, help="the LC25000 images, in any folder layout")
    parser.add_argument("out", type=Path, help="the folder of the weights files")
    arguments = parser.parse_args()
    rows = []
    for name, tissues in TISSUES.items():
        file = file_of(arguments.out, name)
        measure(file, locate(arguments.lc25000, tiles(["fit"], kinds_in(tissues))), ImageReader(batch_size=16))
        rows.append(row_of(name, file, tissues))
    images = [one.path for one in histology_flow.side(arguments.many_labs, arguments.lc25000, "fit")]
    file = file_of(arguments.out, LENDER)
    measure(file, images, ImageReader(histology_flow.PX, batch_size=16))
    rows.append(entry_of(LENDER, file, histology_flow.CARD["summary"], "many"))
    print(json.dumps([asdict(row) for row in rows], indent=2))


if __name__ == "__main__":
    main()
