"""Memory and speed of ``rl2 stats`` from a thousand images to a million.

    python benchmarks/many_images.py [--n 1000 10000 100000 1000000] [--px 32] [--json]

Images are noise of ``--px``, JPEG files in tar files of 1,000, all different. Small ones keep the network from hiding
what reading, names and sums take; larger ones add to the seconds of an image, and not to what grows with their number.
Memory is the peak of the process that computes.
"""

import argparse
import io
import json
import shutil
import sys
import tarfile
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torchvision.io import encode_jpeg

from commands import taken

sys.path.insert(0, str(Path(__file__).parent / "paper"))

from experiment import progress, run

SHARD = 1000


def write_shard(path: Path, px: int, seed: int) -> None:
    """A tar file of so many images."""
    noise = torch.randint(256, (SHARD, 3, px, px), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    with tarfile.open(path, "w") as archive:
        for i, image in enumerate(noise):
            data = encode_jpeg(image, quality=50).numpy().tobytes()
            member = tarfile.TarInfo(f"{i:04}.jpg")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def main() -> None:
    """Print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--n",
        type=int,
        nargs="+",
        default=[1_000, 10_000, 100_000, 1_000_000],
        help="of images, rounded up to thousands",
    )
    parser.add_argument("--px", type=int, default=32, help="side (default: %(default)s)")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found, rl2 = [], shutil.which("rl2") or "rl2"
    with TemporaryDirectory() as name:
        folder = Path(name)
        for number in progress(range(-(-max(arguments.n) // SHARD)), "tar files"):
            write_shard(folder / f"{number:06}.tar", arguments.px, number)
        for n in sorted(arguments.n):
            listed = folder / "shards.txt"
            shards = -(-n // SHARD)
            images = shards * SHARD
            listed.write_text("\n".join(str(folder / f"{number:06}.tar") for number in range(shards)))
            command = [rl2, "stats", str(listed), "-o", str(folder / f"{n}.safetensors")]
            found.append(taken(f"{images:,} images", images, command))
    if arguments.json:
        print(json.dumps([asdict(one) for one in found]))
        return
    for one in found:
        rate = one.images / one.seconds
        print(f"{one.command:20}{one.seconds:9.1f} s{rate:9.1f} images/s{one.megabytes:8.0f} MB")


if __name__ == "__main__":
    run(main)
