"""Real H&E images of many laboratories, and their split: what the weights for all tissues are made from.

``many_labs.csv`` lists every image: its data set, organ, kind of tissue, the patient, slide or region that it is from
where that is known, its size in pixels, and its side of the split. Groups are never divided; images without a group
are split in the order of their names, where neighbors are alike. Images are looked for by name below a folder that has
one folder for each data set, named as in the CSV:

- ``bcss_tiles``: tiles of 512 px of BCSS (TCGA-BRCA; CC0), called by region and corner
- ``breakhis_400x_a``: BreaKHis at 400x (CC BY 4.0)
- ``brecahad``: BreCaHAD (CC BY 4.0)
- ``camelyon16_resampled``, ``camelyon_srgan_real``: tiles of CAMELYON at some 1 and 0.25 um/px (CC0)
- ``crc_val_he_7k_jpg``, ``nct_crc_he_100k_tif``: CRC-VAL-HE-7K and NCT-CRC-HE-100K, zenodo 1214456 (CC BY 4.0)
- ``ebhi_seg``: EBHI-Seg, figshare 21540159 (CC BY 4.0)
- ``kather_texture_2016``: textures of colorectal cancer, Kather et al. 2016 (CC BY 4.0)
- ``ocdc``: Mendeley 9bsc36jyrt (CC BY 4.0)
- ``openslide_OS-1_crop``: a part of OS-1 of the OpenSlide test data
- ``oral_oscc_224``: Rahman et al., Mendeley ftmp4cvtmb (CC BY 4.0), at 224 px
- ``osteosarcoma_utsw``: Osteosarcoma Tumor Assessment, TCIA (CC BY 3.0)
- ``tnbc``: zenodo 3552674 (CC BY 4.0)
"""

import argparse
import csv
import re
from collections import Counter
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

import lc25000
from torchmetrics_rl2 import RL2Error

ROWS = Path(__file__).with_name("many_labs.csv")
ENDS = {".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp"}
LC25000 = "lc25000"
MIN_OF_CLASS = 4


@dataclass(frozen=True)
class LabImage:
    """One image: its name, data set, organ, kind and group, its size in pixels, and the side of the split."""

    name: str
    set: str
    organ: str
    kind: str
    group: str
    width: int
    height: int
    split: str


def lab_images(splits: Collection[str], without: Collection[str] = ()) -> list[LabImage]:
    """Rows of ``many_labs.csv`` on these sides of the split, but for some sets.

    Raises:
        RL2Error: If a set to leave out is not in the CSV.

    """
    with ROWS.open(newline="") as file:
        rows = [
            LabImage(**row | {"width": int(row["width"]), "height": int(row["height"])}) for row in csv.DictReader(file)
        ]
    sets = sorted({row.set for row in rows})
    if unknown := set(without) - set(sets):
        raise RL2Error(f"There is no set {', '.join(sorted(unknown))}; known are {', '.join(sets)}.")
    return [row for row in rows if row.split in splits and row.set not in without]


def names_of(path: Path) -> list[str]:
    """What an image may be called in its data set: some copies put the class in front and a number behind."""
    name = path.stem.rpartition("___")[2]
    return [name, re.sub(r"_1\d\d$", "", name)]


def locate(folder: Path, wanted: Sequence[LabImage]) -> list[Path]:
    """Paths of the wanted images.

    Raises:
        RL2Error: If some are missing, found twice, or not of the size that the split was made for.

    """
    keys = {(image.set, image.name) for image in wanted}
    found: dict[tuple[str, str], Path] = {}
    for of_set in sorted({image.set for image in wanted}):
        for path in sorted(path for path in (folder / of_set).rglob("*") if path.suffix.lower() in ENDS):
            key = next(((of_set, name) for name in names_of(path) if (of_set, name) in keys), None)
            if key and found.setdefault(key, path) != path:
                raise RL2Error(f"{path} and {found[key]} have one name; expected one of the two.")
    missing = [f"{image.set}/{image.name}" for image in wanted if (image.set, image.name) not in found]
    if missing:
        raise RL2Error(
            f"{len(missing)} of {len(wanted)} images are not under {folder}, {missing[0]} for one. Put each data set "
            "into a folder of its name, see recipes/many_labs.csv."
        )
    paths = [found[image.set, image.name] for image in wanted]
    for path, image in zip(paths, wanted, strict=True):
        with Image.open(path) as opened:
            if opened.size != (image.width, image.height):
                raise RL2Error(
                    f"{path} is {opened.width} x {opened.height} px; expected {image.width} x {image.height}. The "
                    "split is of the images as they were published; do not resize them."
                )
    return paths


def read(path: Path) -> Tensor:
    """A uint8 image ``(3, H, W)``."""
    with Image.open(path) as opened:
        return pil_to_tensor(opened.convert("RGB"))


@dataclass(frozen=True)
class Corpus:
    """Images to train on, in one buffer.

    Args:
        pixels: Of all images, one after the other, uint8 ``(P, 3)``.
        starts: Where each begins, ``(N,)``.
        heights: Theirs, ``(N,)``.
        widths: Theirs, ``(N,)``.
        domains: Laboratory of each, ``(N,)``; lung and colon of LC25000 are two.
        classes: Label of each, ``(N,)``, -1 where there is none.
        names: Of the domains.
        labels: Domain of each class, ``(C,)``.

    """

    pixels: Tensor
    starts: Tensor
    heights: Tensor
    widths: Tensor
    domains: Tensor
    classes: Tensor
    names: tuple[str, ...]
    labels: Tensor


def corpus(many_labs: Path, lc25000_folder: Path, splits: Collection[str], without: Collection[str]) -> Corpus:
    """All images of some sides of the split; of LC25000 one file a tile."""
    wanted = lab_images(splits, without)
    rows = list(zip(locate(many_labs, wanted), [(i.set, i.kind) for i in wanted], strict=True))
    tiles = lc25000.tiles(sorted(splits), variants=[0])
    kinds = [(f"{LC25000} {tile.kind.partition('_')[0]}", tile.kind) for tile in tiles]
    with ThreadPoolExecutor() as pool:
        images = [*pool.map(read, (path for path, _ in rows))]
        images += pool.map(lc25000.read, lc25000.locate(lc25000_folder, tiles))
    described = [about for _, about in rows] + kinds
    names = tuple(sorted({domain for domain, _ in described}))
    counts = Counter(described)
    classes = sorted(about for about, count in counts.items() if about[1] and count >= MIN_OF_CLASS)
    sizes = torch.tensor([image.shape[1:] for image in images])
    areas = sizes.prod(1)
    return Corpus(
        torch.cat([image.flatten(1).T for image in images]),
        areas.cumsum(0) - areas,
        sizes[:, 0],
        sizes[:, 1],
        torch.tensor([names.index(domain) for domain, _ in described]),
        torch.tensor([classes.index(about) if about in classes else -1 for about in described]),
        names,
        torch.tensor([names.index(domain) for domain, _ in classes]),
    )


def main() -> None:
    """Print the paths of one side of the split: a list for ``rl2 score`` and ``rl2 fit``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the folder with a folder for each data set")
    parser.add_argument("split", choices=("fit", "stop", "reference"))
    parser.add_argument("--organ", help="of one organ alone")
    arguments = parser.parse_args()
    wanted = [row for row in lab_images([arguments.split]) if arguments.organ in (None, row.organ)]
    for path in locate(arguments.folder, wanted):
        print(path.resolve())


if __name__ == "__main__":
    main()
