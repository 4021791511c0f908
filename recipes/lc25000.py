"""The LC25000 tiles the shipped weights are made from, and their split by source tile.

LC25000 (Borkowski et al., arXiv 1912.12142) is 1,250 original tiles expanded by rotation and flips, without a record
of which file comes from which tile. ``lc25000_tiles.csv`` has that record for 3,670 of the files, so that no tile is on
two sides of the split.
"""

import argparse
import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

TILES = Path(__file__).with_name("lc25000_tiles.csv")
KINDS = ("colon_aca", "colon_n", "lung_aca", "lung_n", "lung_scc")
NAMES = dict(
    zip(
        KINDS,
        (
            "colon adenocarcinoma",
            "normal colon",
            "lung adenocarcinoma",
            "normal lung",
            "lung squamous cell carcinoma",
        ),
        strict=True,
    )
)
PX = 224


@dataclass(frozen=True)
class Tile:
    """One file: its name, tissue kind, the original tile it was made from, and the side of the split."""

    name: str
    kind: str
    source_tile_id: str
    variant: int
    split: str


def tiles(splits: Sequence[str], kinds: Sequence[str] = KINDS, variants: Sequence[int] = (0, 1, 2, 3)) -> list[Tile]:
    """Rows of ``lc25000_tiles.csv``; splits are ``fit``, ``stop``, ``reference`` and ``report``."""
    with TILES.open(newline="") as file:
        rows = [
            Tile(row["name"], row["kind"], row["source_tile_id"], int(row["variant"]), row["split"])
            for row in csv.DictReader(file)
        ]
    return [row for row in rows if row.split in splits and row.kind in kinds and row.variant in variants]


def locate(folder: Path, wanted: Sequence[Tile]) -> list[Path]:
    """Paths of the wanted files, wherever they lie below the folder of the data set."""
    found = {path.name: path for path in folder.rglob("*.jpeg")}
    missing = [tile.name for tile in wanted if tile.name not in found]
    if missing:
        raise SystemExit(f"{len(missing)} of {len(wanted)} LC25000 files are not under {folder}, {missing[0]} for one.")
    return [found[tile.name] for tile in wanted]


def kinds_of(folder: Path, wanted: Sequence[Tile]) -> dict[Path, str]:
    """The tissue kind of each of the wanted files, in words."""
    return {path: NAMES[tile.kind] for path, tile in zip(locate(folder, wanted), wanted, strict=True)}


def read(path: Path) -> Tensor:
    """A uint8 tile ``(3, 224, 224)``; the public 768 px files are resized and compressed once more, at quality 75."""
    return pil_to_tensor(Image.open(io.BytesIO(at_224_px(path))).convert("RGB"))


def at_224_px(path: Path) -> bytes:
    """The file, if it is 224 px, else a JPEG of it at 224 px and quality 75."""
    with Image.open(path) as image:
        if image.size == (PX, PX):
            return path.read_bytes()
        buffer = io.BytesIO()
        image.convert("RGB").resize((PX, PX), Image.Resampling.LANCZOS).save(buffer, "JPEG", quality=75)
    return buffer.getvalue()


def read_all(folder: Path, wanted: Sequence[Tile]) -> Tensor:
    """All wanted tiles as one uint8 tensor ``(N, 3, 224, 224)``."""
    return torch.stack([read(path) for path in locate(folder, wanted)])


def main() -> None:
    """Print the paths of one side of the split, one file a tile: a list for ``rl2 score`` and ``rl2 fit``.

    With ``--resize``, write all files at 224 px into a folder first, which is then what the other recipes take.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the LC25000 images, in any folder layout")
    parser.add_argument("split", choices=("fit", "stop", "reference", "report"), nargs="?")
    parser.add_argument("--resize", type=Path, metavar="OUT", help="write the files here at 224 px, and print nothing")
    parser.add_argument("--kind", choices=KINDS, action="append", help="tissue kinds, all by default")
    arguments = parser.parse_args()
    if arguments.resize:
        arguments.resize.mkdir(parents=True, exist_ok=True)
        for path in locate(arguments.folder, tiles(["fit", "stop", "reference", "report"])):
            (arguments.resize / path.name).write_bytes(at_224_px(path))
        return
    if not arguments.split:
        parser.error("a split is needed, or --resize")
    for path in locate(arguments.folder, tiles([arguments.split], arguments.kind or KINDS, variants=[0])):
        print(path.resolve())


if __name__ == "__main__":
    main()
