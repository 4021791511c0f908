"""ROC AUC of the log-likelihood, clean patches against artifacts, beside two Gaussians that need no flow.

    python benchmarks/paper/artifacts_by_likelihood.py CLEAN ARTIFACTS [--real SOURCE]
    python benchmarks/paper/artifacts_by_likelihood.py FOLDER --clean NAME [NAME ...] [--artifacts NAME ...]
    python benchmarks/paper/artifacts_by_likelihood.py CLEAN --simulate [--per-patch 1]

CLEAN and ARTIFACTS are sources of ``rl2 score``. FOLDER has one subfolder a class, as HistoROI's patches do; those
named after ``--clean`` are clean, and those after ``--artifacts``, all others by default, are not.

``--simulate`` needs no download: each clean patch is damaged by one of the twenty ladders in turn, at the weakest
severity that is clearly visible; ``--per-patch 20`` damages each by all.

The baselines are Gaussians with a shrunk (Ledoit-Wolf) covariance, one of the 512 features and one of fifteen
hand-crafted statistics. They are fitted to the patches of ``--real``, or, without it, to a seeded half of the clean
patches, which then takes no part in any of the three AUCs, nor in the simulated artifacts. Fitting to 512 features
takes some hundreds of patches. Paper: .76, on 474 clean and 474 artifact patches of HistoROI.
"""

import json
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import torch
from experiment import encode, load, load_encoder, options, progress, run
from torch import Generator, Tensor

from torchmetrics_rl2 import RL2Error
from torchmetrics_rl2.auditing import auroc
from torchmetrics_rl2.images import find_images
from torchmetrics_rl2.networks import Gaussian
from torchmetrics_rl2.pixels import LADDERS, degrade, handcrafted_statistics

PAPER = {"auc": 0.76, "clean": 474, "artifacts": 474}


def classes(folder: Path, clean: Sequence[str], artifacts: Sequence[str] | None) -> tuple[list[Path], list[Path]]:
    """Files of the clean classes and of the others."""
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    others = [name for name in names if name not in clean] if artifacts is None else list(artifacts)
    wrong = [name for name in (*clean, *others) if name not in names]
    if wrong or not others or set(clean) & set(others):
        raise RL2Error(
            f"{folder} has the classes {', '.join(names) or 'none'}, but asked for are {', '.join(clean)} as clean and "
            f"{', '.join(others) or 'none'} as artifacts. Expected names of subfolders, none of them on both sides."
        )
    first, second = ([path for name in side for path in find_images(folder / name)] for side in (clean, others))
    return first, second


def simulated(clean: Tensor, per_patch: int, seed: int) -> tuple[Tensor, list[str]]:
    """Damaged patches, and the ladder of each."""
    ladders = list(LADDERS.values())
    chosen = [(i, ladders[(i * per_patch + j) % len(ladders)]) for i in range(len(clean)) for j in range(per_patch)]
    damaged = [degrade(clean[i : i + 1], one.name, one.visible, seed) for i, one in progress(chosen, "damaged")]
    return torch.cat(damaged), [one.name for _, one in chosen]


def _handmade(images: Tensor) -> Tensor:
    return torch.cat([handcrafted_statistics(batch.float() / 255) for batch in images.split(32)])


def _load(arguments: Namespace) -> tuple[Tensor, Tensor | None]:
    """Clean patches and artifacts, if there are any."""
    given = [arguments.artifacts_source is not None, bool(arguments.clean), arguments.simulate]
    if sum(given) != 1:
        raise RL2Error("Artifacts come from one of ARTIFACTS, --clean NAME and --simulate; give exactly one.")
    if arguments.simulate:
        return load(arguments.source, arguments), None
    if arguments.clean:
        clean, artifacts = classes(Path(arguments.source), arguments.clean, arguments.artifacts)
        return load(clean, arguments), load(artifacts, arguments)
    return load(arguments.source, arguments), load(arguments.artifacts_source, arguments)


def main(argv: Sequence[str] | None = None) -> None:
    """Print the three AUCs."""
    parser = options(__doc__)
    parser.add_argument("source", metavar="CLEAN")
    parser.add_argument("artifacts_source", nargs="?", metavar="ARTIFACTS")
    parser.add_argument("--clean", nargs="+", metavar="NAME")
    parser.add_argument("--artifacts", nargs="+", metavar="NAME")
    parser.add_argument("--simulate", action="store_true")
    parser.add_argument("--per-patch", type=int, default=1, choices=range(1, len(LADDERS) + 1), metavar="N")
    arguments = parser.parse_args(argv)
    encoder = load_encoder(arguments)
    clean, artifacts = _load(arguments)
    if arguments.real:
        fitted = load(arguments.real, arguments)
    else:
        order = torch.randperm(len(clean), generator=Generator().manual_seed(arguments.seed))
        half = len(clean) // 2
        fitted, clean = clean[order[:half]], clean[order[half:]]
    kinds: list[str] = []
    if artifacts is None:
        artifacts, kinds = simulated(clean, arguments.per_patch, arguments.seed)
    if len(fitted) < 2:
        raise RL2Error(f"The baselines have {len(fitted)} patch to be fitted to; expected two at least. Give --real.")
    names = ("fitted", "clean", "artifacts")
    sets = {
        name: (images, encode(encoder, images, name))
        for name, images in zip(names, (fitted, clean, artifacts), strict=True)
    }
    features, handcrafted = (
        {name: Gaussian(values["fitted"]).log_prob(value) for name, value in values.items()}
        for values in (
            {name: found.features for name, (_, found) in sets.items()},
            {name: _handmade(images) for name, (images, _) in sets.items()},
        )
    )
    scores = {
        "log-likelihood": {name: found.likelihood for name, (_, found) in sets.items()},
        "Gaussian of features": features,
        "Gaussian of hand-crafted": handcrafted,
    }
    areas = {name: auroc(score["clean"], score["artifacts"]) for name, score in scores.items()}
    rows = {
        kind: {name: auroc(score["clean"], score["artifacts"][_of(kinds, kind)]) for name, score in scores.items()}
        for kind in dict.fromkeys(kinds)
    }
    counts = {name: len(images) for name, (images, _) in sets.items()}
    if arguments.json:
        about = {"weights": encoder.name, "weights_id": encoder.weights_id[:12], "seed": arguments.seed, "n": counts}
        print(json.dumps(about | {"simulated": arguments.simulate, "auc": areas, "ladders": rows, "paper": PAPER}))
        return
    print(f"{encoder.name} ({encoder.weights_id[:12]}), " + ", ".join(f"{n} {name}" for name, n in counts.items()))
    print(f"{'ROC AUC':20}" + "".join(f"{name:>24}" for name in scores))
    for kind, row in {"all": areas, **rows}.items():
        print(f"{kind:20}" + "".join(f"{value:24.3f}" for value in row.values()))
    print("paper: .76 with 474 clean and 474 artifact patches of HistoROI, by the log-likelihood")


def _of(kinds: Sequence[str], kind: str) -> Tensor:
    return torch.tensor([one == kind for one in kinds])


if __name__ == "__main__":
    run(main)
