"""RL2 of every z-level of a focus stack: it should rise with the distance from the plane in focus.

    python benchmarks/paper/blur_by_z_level.py STACK [--levels FILE] [--focus LEVEL] [--real SOURCE]
    python benchmarks/paper/blur_by_z_level.py CLEAN --simulate [--asymmetry 1.2] [--real SOURCE]

STACK is a folder with one subfolder a z-level, whose names end in the level (-8 ... 7, z-8 ... z7, level_0 ...), or,
with ``--levels``, a folder of images: FILE is a CSV with the columns ``path`` and ``level``, or one of FocusLiteNN's
lists for FocusPath, which have no header, a name first and the level last, with commas or a space between. Names are
matched without their ending, as those lists say .tif of files that are .png.

``--simulate`` needs no download: clean patches are blurred with a disc whose radius grows by ``--radius`` px a level,
at 16 levels, -8 to 7, as many as FocusPath has. With ``--asymmetry 1.2`` the blur below focus is 1.2 times that
above.

Printed are RL2 of every level, Spearman's rho of RL2 against the distance from focus, and, of single patches, that of
the negative log-likelihood. Paper: RL2 rises monotonically with blur; it gives no rho.
"""

import csv
import json
import re
from argparse import Namespace
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import torch
from experiment import described, encode, load, load_encoder, options, progress, reference_of, rl2, run
from scipy.stats import spearmanr
from torch import Tensor

from torchmetrics_rl2 import RL2Error
from torchmetrics_rl2.images import find_images
from torchmetrics_rl2.pixels import LADDERS, degrade

PAPER = "rises with blur (abstract); no rho given"
LEVELS = range(-8, 8)
LADDER = "defocus disc"


def levels_of_folders(stack: Path) -> dict[float, list[Path]]:
    """Files of each subfolder by the number its name ends in."""
    found = defaultdict(list)
    for folder in sorted(path for path in stack.iterdir() if path.is_dir() and not path.name.startswith(".")):
        level = re.search(r"[-+]?\d+(\.\d+)?$", folder.name)
        if level is None:
            raise RL2Error(
                f"The name of the folder {folder} ends in no z-level; expected -3, z-3, level_3 or the like. "
                "Leave in STACK the folders of levels only, or give --levels."
            )
        found[float(level[0])] += find_images(folder)
    if not found:
        raise RL2Error(f"{stack} has no subfolders of z-levels. Give --levels, or --simulate for clean patches.")
    return dict(found)


def levels_of_file(stack: Path, file: Path) -> dict[float, list[Path]]:
    """Files of each level that a CSV, or a list of FocusLiteNN, assigns to them."""
    by_name = {name: path for path in find_images(stack) for name in (_name(path.relative_to(stack)), path.stem)}
    with file.open(newline="", encoding="utf-8-sig") as lines:
        rows = [row if len(row) > 1 else row[0].rsplit(None, 1) for row in csv.reader(lines) if row]
    columns = (0, -1)
    if rows and {"path", "level"} <= set(rows[0]):
        columns = (rows[0].index("path"), rows[0].index("level"))
        del rows[0]
    found = defaultdict(list)
    for row in rows:
        try:
            name, level = row[columns[0]], float(row[columns[1]])
        except (ValueError, IndexError) as error:
            raise RL2Error(f"A line of {file} is {','.join(row)!r}; expected a name first and a level last.") from error
        path = by_name.get(_name(Path(name)), by_name.get(name))
        if path is None:
            raise RL2Error(f"{file} names {name}, but {stack} has no image of that name.")
        found[level].append(path)
    return dict(found)


def _name(path: Path) -> str:
    return path.with_suffix("").as_posix()


def simulated(clean: Tensor, level: float, arguments: Namespace) -> Tensor:
    """Clean patches as they would look so many levels out of focus."""
    radius = abs(level) * arguments.radius * (arguments.asymmetry if level < 0 else 1)
    most = LADDERS[LADDER].amount(1)
    if radius > most:
        raise RL2Error(
            f"Level {level} has a disc of {radius:g} px, but at most {most:g} px can be simulated. "
            "Give a smaller --radius or --asymmetry."
        )
    return degrade(clean, LADDER, radius / most, arguments.seed)


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = options(__doc__)
    parser.add_argument("stack", type=Path, metavar="STACK")
    parser.add_argument("--levels", type=Path, metavar="FILE")
    parser.add_argument("--focus", type=float, default=0, metavar="LEVEL", help="the level in focus, 0 by default")
    parser.add_argument("--simulate", action="store_true")
    parser.add_argument("--radius", type=float, default=0.6, metavar="PX")
    parser.add_argument("--asymmetry", type=float, default=1)
    arguments = parser.parse_args(argv)
    encoder = load_encoder(arguments)
    if arguments.simulate:
        clean = load(arguments.stack, arguments)
        sets: dict[float, list[Path]] = {float(level): [] for level in LEVELS}
    elif arguments.levels is not None:
        sets = levels_of_file(arguments.stack, arguments.levels)
    else:
        sets = levels_of_folders(arguments.stack)
    reference = reference_of(encoder, load(arguments.real, arguments) if arguments.real else None)
    rows, distances, surprise = [], [], []
    for level in progress(sorted(sets), "levels"):
        images = simulated(clean, level, arguments) if arguments.simulate else load(sets[level], arguments)
        found = encode(encoder, images, f"level {level:g}")
        value, debiased = rl2(reference, found.latents)
        rows.append({"level": level, "n": len(images), "rl2": value, "debiased": debiased})
        distances += [abs(level - arguments.focus)] * len(images)
        surprise.append(-found.likelihood)
    away = [abs(row["level"] - arguments.focus) for row in rows]
    rho = float(spearmanr(away, [row["rl2"] for row in rows]).statistic)
    rho_patches = float(spearmanr(distances, torch.cat(surprise).numpy()).statistic)
    about = described(encoder, reference, arguments) | {"simulated": arguments.simulate}
    if arguments.json:
        print(json.dumps(about | {"rows": rows, "rho": rho, "rho_patches": rho_patches, "paper": PAPER}))
        return
    print(f"{encoder.name} ({encoder.weights_id[:12]}), {len(reference)} real, levels of {arguments.stack}")
    print(f"{'level':>8}{'n':>7}{'RL2':>11}{'debiased':>11}")
    for row in rows:
        print(f"{row['level']:8g}{row['n']:7}{row['rl2']:11.2f}{row['debiased']:11.2f}")
    print(
        f"Spearman's rho with the distance from focus: RL2 {rho:.3f}; single patches, -log-likelihood {rho_patches:.3f}"
    )
    print(f"paper: {PAPER}")


if __name__ == "__main__":
    run(main)
