"""Make images of lung and colon by many generators, good and bad ones, of which ``judge.py`` asks what metrics predict.

    python benchmarks/generators/make.py LC25000 OUT --only trained [--minutes 5] [--tar]     # a GPU helps
    python benchmarks/generators/make.py LC25000 OUT --only simulated [--many-labs MANY_LABS]

All learn from, or copy, tiles of the split ``fit`` of ``recipes/lc25000.py``. Each is asked for ``--n`` images of each
of the five kinds of tissue and writes ``OUT/NAME/KIND/I.jpg`` at its own size; a CSV says what each is. Trained are
flow matching at four ages, a variational autoencoder and a GAN at two; the others are real tiles of which is known what
is wrong with them. ``--tar`` writes archives of less than 16 MB instead of folders: ``tar -xf`` them into one folder.
"""

import argparse
import csv
import io
import sys
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[2] / "recipes"))

from training import MAKERS, Budget, Tiles

from lc25000 import KINDS, locate, tiles

SPLIT = "fit"
LIMIT = 15 * 2**20
COLUMNS = ("name", "about", "px", "images", "steps", "seconds")


class Writer:
    """Writes JPEG files into folders, or into archives of limited size, and a table of what they are."""

    def __init__(self, out: Path, name: str, quality: int, tar: bool) -> None:
        self.out, self.name, self.quality, self.tar = out, name, quality, tar
        self.archives = 0
        self.archive: tarfile.TarFile | None = None
        self.rows: list[dict[str, object]] = []
        out.mkdir(parents=True, exist_ok=True)

    def add(self, name: str, about: str, by_kind: dict[str, Tensor], steps: int = 0, seconds: float = 0.0) -> None:
        """All images of a generator."""
        for kind, images in by_kind.items():
            for i, image in enumerate(images):
                self._write(f"{name}/{kind}/{i}.jpg", image)
        side, count = next(iter(by_kind.values())).shape[-1], sum(map(len, by_kind.values()))
        self.rows.append(dict(zip(COLUMNS, (name, about, side, count, steps, round(seconds, 1)), strict=True)))
        print(f"{name}: {count} images of {side} px, {about}", flush=True)

    def _write(self, path: str, image: Tensor) -> None:
        buffer = io.BytesIO()
        to_pil_image(image).save(buffer, "JPEG", quality=self.quality, subsampling=0)
        if not self.tar:
            (self.out / path).parent.mkdir(parents=True, exist_ok=True)
            (self.out / path).write_bytes(buffer.getvalue())
            return
        if self.archive is None or self.archive.offset > LIMIT:
            self._next_archive()
        about = tarfile.TarInfo(path)
        about.size = buffer.tell()
        buffer.seek(0)
        assert self.archive is not None
        self.archive.addfile(about, buffer)

    def _next_archive(self) -> None:
        if self.archive is not None:
            self.archive.close()
        self.archives += 1
        self.archive = tarfile.open(self.out / f"{self.name}_{self.archives}.tar", "w")  # noqa: SIM115

    def close(self) -> None:
        """End the archive and write the table."""
        if self.archive is not None:
            self.archive.close()
        with (self.out / f"{self.name}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(self.rows)


def read_at(path: Path, px: int) -> Tensor:
    """A tile ``(3, px, px)``, uint8."""
    with Image.open(path) as image:
        return pil_to_tensor(image.convert("RGB").resize((px, px), Image.Resampling.LANCZOS))


def read_tiles(folder: Path, px: int, variants: int, per_kind: int | None) -> tuple[Tensor, Tensor]:
    """Tiles to learn from, uint8 ``(N, 3, px, px)``, first one file of each tile, and the number of their kinds."""
    wanted = sorted(tiles([SPLIT], variants=range(variants)), key=lambda tile: tile.variant)
    rows = {kind: [tile for tile in wanted if tile.kind == kind][:per_kind] for kind in KINDS}
    wanted = [tile for kind in KINDS for tile in rows[kind]]
    with ThreadPoolExecutor() as pool:
        images = list(pool.map(lambda path: read_at(path, px), locate(folder, wanted)))
    return torch.stack(images), torch.tensor([KINDS.index(tile.kind) for tile in wanted])


def asked(n: int) -> Tensor:
    """The kinds that are asked for, n times each."""
    return torch.arange(len(KINDS)).repeat_interleave(n)


def train(arguments: argparse.Namespace, writer: Writer) -> None:
    """Train each generator for its share of the time, and sample it at its ages."""
    device = torch.device(arguments.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    images, kinds = read_tiles(arguments.lc25000, arguments.px, arguments.variants, arguments.tiles)
    learned = Tiles(images.to(device), kinds.to(device))
    print(f"{len(images)} files of {arguments.px} px, on {device}", flush=True)
    for name in arguments.names or MAKERS:
        maker, share = MAKERS[name]
        torch.manual_seed(arguments.seed)
        budget = Budget(60 * arguments.minutes * share, arguments.steps)
        for age in maker(learned, len(KINDS), budget, arguments.batch, arguments.widths):
            found = age.sample(asked(arguments.n)).split(arguments.n)
            writer.add(age.name, age.about, dict(zip(KINDS, found, strict=True)), age.steps, age.seconds)


def simulate(arguments: argparse.Namespace) -> Iterator[tuple[str, str, dict[str, Tensor]]]:
    """Copies of tiles with known faults."""
    from simulated import GENERATORS, elsewhere  # it needs the package, which training does not

    images, kinds = read_tiles(arguments.lc25000, 224, arguments.variants, arguments.tiles)
    real = {kind: images[kinds == k] for k, kind in enumerate(KINDS)}
    for name, (about, make) in GENERATORS.items():
        if not arguments.names or name in arguments.names:
            yield name, about, make(real, arguments.n)
    if arguments.many_labs and (not arguments.names or "elsewhere" in arguments.names):
        yield (
            "elsewhere",
            "colon of other laboratories, copies of lung",
            elsewhere(real, arguments.n, arguments.many_labs),
        )


def main() -> None:
    """Make all that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lc25000", type=Path, help="the LC25000 images, in any folder layout")
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", choices=("trained", "simulated"), required=True)
    parser.add_argument("--names", nargs="+", help="of trained ones flow, vae and gan; all by default")
    parser.add_argument("--many-labs", type=Path, help="adds colon of other laboratories, see recipes/many_labs.py")
    parser.add_argument("--n", type=int, default=100, help="images of each kind (default: %(default)s)")
    parser.add_argument("--px", type=int, default=112, help="side at which is trained, a multiple of 16")
    parser.add_argument("--variants", type=int, default=4, help="files of each tile to learn from (default: all four)")
    parser.add_argument("--tiles", type=int, help="files of each kind to learn from (default: all)")
    parser.add_argument("--minutes", type=float, default=5.0, help="of training, all generators (default: %(default)s)")
    parser.add_argument("--steps", type=int, help="of training each, instead of minutes")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--widths", type=int, nargs=4, default=(96, 192, 384, 512), help="channels of the U-Net")
    parser.add_argument("--device", help="by default a GPU if there is one")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quality", type=int, default=95, help="of the JPEG files (default: %(default)s)")
    parser.add_argument("--tar", action="store_true", help="write archives of less than 16 MB")
    arguments = parser.parse_args()
    writer = Writer(arguments.out, arguments.only, arguments.quality, arguments.tar)
    try:
        if arguments.only == "trained":
            train(arguments, writer)
        else:
            for found in simulate(arguments):
                writer.add(*found)
    finally:
        writer.close()


if __name__ == "__main__":
    main()
