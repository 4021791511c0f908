"""RL2, FID and KID of the same patches under the paper's five kinds of damage, severity by severity.

    python benchmarks/paper/ladders.py CLEAN [--real SOURCE | --halves] [--fid] [--resize 100] [--magnification 40]

CLEAN is a source of ``rl2 score``: a folder, a glob, a list of paths. The kinds are Gaussian noise, salt and pepper,
rectangles, Gaussian blur and the forward process of a diffusion model. With ``--fid`` all three distances are from
the same real patches; those inside the weights will not do, as weights hold latents only. How to get the network of
FID: ``inception.py``.

The paper degrades BreaKHis at 100 x 100 px. This does, with half of its patients as real patches:

    python benchmarks/paper/ladders.py BreaKHis_v1 --magnification 40 --resize 100 --halves --fid

Printed are the values, the ROC AUC of the log-likelihood of single patches, and Spearman's rho of each distance with
the severity, clean patches being severity 0. Paper: RL2 rises monotonically on all five; its curves are figures, not
a table.
"""

import json
from collections.abc import Sequence
from typing import Any

from experiment import add_sides, described, encode, load_encoder, options, progress, reference_of, rl2, run, sides
from inception import frechet_distance, inception_of, kernel_distance
from scipy.stats import spearmanr

from torchmetrics_rl2.auditing import auroc
from torchmetrics_rl2.pixels import LADDERS, degrade

PAPER = "RL2 rises monotonically on every ladder (abstract)"
PAPERS = ("gaussian noise", "salt and pepper", "rectangles", "gaussian blur", "diffusion")


def _rho(rows: list[dict[str, Any]], ladder: str, key: str) -> float:
    climb = [row for row in rows if row["ladder"] in ("clean", ladder)]
    return float(spearmanr([row["severity"] for row in climb], [row[key] for row in climb]).statistic)


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = options(__doc__)
    add_sides(parser)
    parser.add_argument("--ladders", nargs="+", choices=LADDERS, default=PAPERS, metavar="NAME")
    arguments = parser.parse_args(argv)
    encoder = load_encoder(arguments)
    inception = inception_of(arguments, encoder.device)
    clean, real = sides(arguments.clean, arguments)
    reference = reference_of(encoder, real)
    real_features = inception(real, "real") if inception and real is not None else None
    likelihood = None
    rows: list[dict[str, Any]] = []
    severities = [
        ("clean", 0.0),
        *((name, severity) for name in arguments.ladders for severity in LADDERS[name].severities),
    ]
    for name, severity in progress(severities, "severities"):
        images = clean if name == "clean" else degrade(clean, name, severity, arguments.seed)
        found = encode(encoder, images, name)
        likelihood = found.likelihood if likelihood is None else likelihood
        amount = 0.0 if name == "clean" else LADDERS[name].amount(severity)
        row: dict[str, Any] = {"ladder": name, "severity": severity, "amount": amount}
        row |= dict(zip(("rl2", "debiased"), rl2(reference, found.latents), strict=True))
        if inception and real_features is not None:
            features = inception(images, name)
            row |= {"fid": frechet_distance(real_features, features), "kid": kernel_distance(real_features, features)}
        rows.append(row | {"auc": auroc(likelihood, found.likelihood)})
    keys = ("rl2", "debiased", *(("fid", "kid") if arguments.fid else ()))
    rho = {name: {key: _rho(rows, name, key) for key in keys} for name in arguments.ladders}
    if arguments.json:
        about = described(encoder, reference, arguments) | {"n": len(clean)}
        print(json.dumps(about | {"rows": rows, "rho": rho, "paper": PAPER}))
        return
    print(f"{encoder.name} ({encoder.weights_id[:12]}), {len(clean)} patches against {len(reference)}")
    print(f"{'ladder':18}{'amount':>9} {'unit':16}{'AUC':>6}" + "".join(f"{key:>11}" for key in keys))
    for row in rows:
        unit = "" if row["ladder"] == "clean" else LADDERS[row["ladder"]].unit
        values = "".join(f"{row[key]:11.4g}" for key in keys)
        print(f"{row['ladder']:18}{row['amount']:9g} {unit:16}{row['auc']:6.2f}{values}")
    for name, found_rho in rho.items():
        print(f"{name:18}{'rho with severity':32}" + "".join(f"{found_rho[key]:11.2f}" for key in keys))
    print(f"paper: {PAPER}")


if __name__ == "__main__":
    run(main)
