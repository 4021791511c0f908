"""Fit the flow of ``histology@2`` on the backbone of ``histology_backbone.py``, and write the weights file.

    python recipes/histology_flow.py MANY_LABS LC25000 backbone.safetensors histology-2.safetensors

The LC25000 files have to be 224 px, see ``lc25000.py --resize``. Ten minutes on two CPU cores.

Images are cut into tiles of 224 px. Covariance and kinds of tissue are those within laboratories, so that neither knows
stain or scanner; the reference has much the same number of tiles of each laboratory.
"""

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import lc25000
from histology_backbone import FOLDS
from many_labs import lab_images, locate
from torchmetrics_rl2 import CatalogEntry
from torchmetrics_rl2.files import sha256_of
from torchmetrics_rl2.fitting import FitSettings, Split, fit_split
from torchmetrics_rl2.images import ImageReader
from torchmetrics_rl2.images.sampling import evenly

PX = 224
TILES = 48
LC25000 = "LC25000"
OTHER = "other tissue"
LABS = {
    "crc_val_he_7k_jpg": "Heidelberg",
    "nct_crc_he_100k_tif": "Heidelberg",
    "camelyon16_resampled": "CAMELYON",
    "camelyon_srgan_real": "CAMELYON",
}
"""Laboratories of more than one set; the others are called as their set."""
LABELED_AS = {"nct_crc_he_100k_tif": "crc_val_he_7k_jpg"}
LEFT_OUT = ("kather_texture_2016", "openslide_OS-1_crop")
"""Too small for a tile, and of an organ that is not known."""
KINDS = {
    ("crc_val_he_7k_jpg", "TUM"): "colorectal adenocarcinoma",
    ("crc_val_he_7k_jpg", "NORM"): "normal colon",
    ("ebhi_seg", "Adenocarcinoma"): "colorectal adenocarcinoma",
    ("ebhi_seg", "Normal"): "normal colon",
    ("oral_oscc_224", "Normal"): "normal oral mucosa",
    ("oral_oscc_224", "OSCC"): "oral squamous cell carcinoma",
    (LC25000, "colon_aca"): "colorectal adenocarcinoma",
    (LC25000, "colon_n"): "normal colon",
    (LC25000, "lung_aca"): "lung adenocarcinoma",
    (LC25000, "lung_n"): "normal lung",
    (LC25000, "lung_scc"): "lung squamous cell carcinoma",
}
"""Kinds that are known from enough images and lie apart from others of their laboratory; the rest is one more kind."""

CITED = (
    "LC25000: Borkowski et al., arXiv:1912.12142",
    "EBHI-Seg: figshare 21540159 (CC BY 4.0)",
    "Oral OSCC: Rahman et al., Mendeley ftmp4cvtmb (CC BY 4.0)",
    "OCDC: Mendeley 9bsc36jyrt (CC BY 4.0)",
    "Osteosarcoma: Leavey et al., TCIA (CC BY 3.0)",
    "BreaKHis: Spanhol et al. (CC BY 4.0)",
    "BreCaHAD: Aksac et al. (CC BY 4.0)",
    "BCSS: Amgad et al. (CC0)",
    "CAMELYON: Litjens et al. (CC0)",
    "NCT-CRC-HE: Kather et al., zenodo 1214456 (CC BY 4.0)",
    "Textures of colorectal cancer: Kather et al. 2016, zenodo 53169 (CC BY 4.0)",
    "TNBC: Naylor et al., zenodo 3552674 (CC BY 4.0)",
    "OS-1: OpenSlide test data (free to use and distribute)",
)
CARD = {
    "summary": "H&E, many organs and laboratories, 224 px",
    "license": "Apache-2.0; made from images under CC0, CC BY 3.0, CC BY 4.0, and 'freely available for download to be "
    "used by AI researchers in any way they see fit' (LC25000)",
    "citation": "; ".join(CITED),
    "recipe": "recipes/histology_backbone.py, recipes/histology_flow.py",
    "groups": "laboratories",
}


@dataclass(frozen=True)
class Patches:
    """Images of one side of the split, with laboratory and kind."""

    lab: str
    kind: str
    path: Path
    tiles: int


def side(many_labs: Path, lc25000_folder: Path, split: str, without: Sequence[str] = ()) -> list[Patches]:
    """All images of a side that give a tile, but for some sets."""
    rows = lab_images([split], {*LEFT_OUT, *without})
    found = [
        Patches(
            LABS.get(row.set, row.set),
            KINDS.get((LABELED_AS.get(row.set, row.set), row.kind), OTHER),
            path,
            (row.width // PX) * (row.height // PX),
        )
        for row, path in zip(rows, locate(many_labs, rows), strict=True)
    ]
    tiles = lc25000.tiles([split], variants=[0])
    paths = lc25000.locate(lc25000_folder, tiles)
    return found + [Patches(LC25000, KINDS[LC25000, t.kind], path, 1) for t, path in zip(tiles, paths, strict=True)]


def even(patches: Sequence[Patches], tiles: int) -> list[Patches]:
    """Images of each laboratory, spread evenly over those that there are, of about so many tiles."""
    chosen = []
    for lab in dict.fromkeys(one.lab for one in patches):
        own = [one for one in patches if one.lab == lab]
        count = max(1, round(tiles * len(own) / sum(one.tiles for one in own)))
        chosen += evenly(own, count)
    return chosen


def entry_of(name: str, file: Path, summary: str, tissue: str) -> CatalogEntry:
    """Row of the catalog for a file."""
    return CatalogEntry(name, file.name, sha256_of(file), file.stat().st_size, summary, "Apache-2.0", tissue, PX)


def main() -> None:
    """Fit, and print the row of the catalog."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("many_labs", type=Path, help="a folder with a folder for each set of many_labs.csv")
    parser.add_argument("lc25000", type=Path, help="the LC25000 images, in any folder layout")
    parser.add_argument("backbone", type=Path, help="what histology_backbone.py wrote")
    parser.add_argument("out", type=Path, help="the weights file")
    parser.add_argument("--fold", type=int, choices=(1, 2), help="keep a half of the sets out, as of the backbone")
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted run")
    arguments = parser.parse_args()
    without = FOLDS[arguments.fold - 1] if arguments.fold else ()
    sides = {name: side(arguments.many_labs, arguments.lc25000, name, without) for name in ("fit", "stop", "reference")}
    sides["reference"] = even(sides["reference"], TILES)
    everything = [one for patches in sides.values() for one in patches]
    count = {name: sum(one.tiles for one in patches) for name, patches in sides.items()}
    sets = 1 + len({row.set for row in lab_images(["fit"], {*LEFT_OUT, *without})})
    labs = Counter(one.lab for one in sides["reference"])
    data = (
        f"{sets} sets of {len(labs)} laboratories: {count['fit']} tiles fitted the flow, {count['stop']} stopped it, "
        f"{count['reference']} are the reference"
    )
    found = fit_split(
        Split(**{name: [one.path for one in patches] for name, patches in sides.items()}),
        arguments.out,
        backbone=arguments.backbone,
        groups={one.path: one.lab for one in everything},
        kinds={one.path: one.kind for one in everything},
        settings=FitSettings(layers=0, within_groups=True),
        card=CARD | {"data": data},
        reader=ImageReader(tile=PX),
        resume=arguments.resume,
    )
    print(found)
    for sentence in found.warnings:
        print(sentence)
    entry = entry_of("histology@2", arguments.out, CARD["summary"], "many")
    print("entry of the catalog:", json.dumps([asdict(entry)], indent=2))


if __name__ == "__main__":
    main()
