"""Draw where each laboratory of the reference data lies from all others, content across and look up.

    python benchmarks/where_laboratories_lie.py [--also NAME=SOURCE ...] -o laboratories.png

Distances are debiased, as `rl2 score` prints them beside a value without real patches; those of ``--also`` are of other
images, cut into tiles of 224 px, from all of the reference. Needs matplotlib.
"""

import argparse
from pathlib import Path

from torchmetrics_rl2 import LatentEncoder, compare, compute_statistics
from torchmetrics_rl2.distance.between_groups import MIN_IMAGES, group_distances

NAMES = (
    *("BCSS, breast", "BreaKHis, breast, 400x", "BreCaHAD, breast", "CAMELYON, lymph node", "Heidelberg, colorectum"),
    *("EBHI-Seg, colorectum", "OCDC, mouth", "oral OSCC, mouth", "osteosarcoma, bone", "TNBC, breast"),
    "LC25000, lung and colon",
)
"""Laboratories of histology, in the order of its reference; a file has no names."""

LABELS = {NAMES[0]: -14, NAMES[3]: -14, NAMES[8]: -14, NAMES[10]: 12}
"""How far above their points the labels of neighbors are, in points."""


def main() -> None:
    """Draw, and print the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--also", action="append", default=[], metavar="NAME=SOURCE", help="images of elsewhere")
    parser.add_argument("-o", "--out", type=Path, required=True)
    arguments = parser.parse_args()
    encoder = LatentEncoder.load("histology")
    reference = encoder.reference_statistics
    groups = reference.groups
    assert groups is not None
    names = [name for name, n in zip(NAMES, groups.count.tolist(), strict=True) if n >= MIN_IMAGES]
    parts = [group_distances(reference.part(name)) for name in ("content", "look")]
    points = {name: (x, y, "tab:blue") for name, x, y in zip(names, *parts, strict=True)}
    for one in arguments.also:
        name, _, source = one.partition("=")
        result = compare(reference, compute_statistics(source, weights=encoder, tile=224))
        assert result.content
        assert result.look
        points[name] = result.content.debiased, result.look.debiased, "tab:red"
    draw(points, arguments.out)


def draw(points: dict[str, tuple[float, float, str]], out: Path) -> None:
    """A point with a name for each."""
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(8, 5.5), layout="constrained")
    for name, (x, y, color) in points.items():
        print(f"{name}: content {x:.1f}, look {y:.1f}")
        axis.plot(x, y, "o", color=color)
        axis.annotate(name, (x, y), xytext=(7, LABELS.get(name, 3)), textcoords="offset points", fontsize=9)
    axis.set(
        xlabel="content: which tissue is shown",
        ylabel="look: how it is shown",
        xlim=(0, 1.3 * max(x for x, _, _ in points.values())),
        ylim=(0, None),
    )
    figure.savefig(out, dpi=130)


if __name__ == "__main__":
    main()
