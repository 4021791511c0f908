"""Fit the flow of ``lung-colon@1`` on the trunk of ``lung_colon_trunk.py``, and write the weights file.

    python recipes/lung_colon_flow.py LC25000 trunk.safetensors lung-colon-1.safetensors

The LC25000 files have to be 224 px, see ``lc25000.py --resize``. A minute and a half on two CPU cores, of which 8
seconds are the flow's.
"""

import argparse
import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from PIL import Image

from lc25000 import PX, locate, tiles
from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.fitting import fit
from torchmetrics_rl2.splitting import Split
from torchmetrics_rl2.weights import CatalogEntry

CARD = {
    "summary": "H&E, lung and colon (LC25000), 224 px",
    "data": "LC25000 (Borkowski et al.): 540 tiles fitted trunk and flow, 99 stopped the flow, 197 are the reference",
    "licence": "Apache-2.0; the images are 'freely available for download to be used by AI researchers in any way they "
    "see fit'",
    "citation": "Borkowski et al., Lung and Colon Cancer Histopathological Image Dataset (LC25000), arXiv:1912.12142",
    "recipe": "recipes/lung_colon_trunk.py, recipes/lung_colon_flow.py",
}


def main() -> None:
    """Fit with every file of the fit tiles, and one file a tile of the others, which are to be independent."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the LC25000 images, in any folder layout")
    parser.add_argument("trunk", type=Path, help="what lung_colon_trunk.py wrote")
    parser.add_argument("out", type=Path, help="the weights file")
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted run")
    arguments = parser.parse_args()
    split = Split(
        fit=locate(arguments.folder, tiles(["fit"])),
        stop=locate(arguments.folder, tiles(["stop"], variants=[0])),
        reference=locate(arguments.folder, tiles(["reference"], variants=[0])),
    )
    with Image.open(split.fit[0]) as image:
        if image.size != (PX, PX):
            raise RL2Error(f"Expected LC25000 files of {PX} px, got {image.size}; see lc25000.py --resize.")
    print(fit(split, arguments.out, backbone=arguments.trunk, card=CARD, resume=arguments.resume))
    raw = arguments.out.read_bytes()
    digest = hashlib.sha256(raw).hexdigest()
    entry = CatalogEntry("lung-colon@1", arguments.out.name, digest, len(raw), CARD["summary"], CARD["licence"])
    print("entry of the catalog:", json.dumps([asdict(entry)], indent=2))


if __name__ == "__main__":
    main()
