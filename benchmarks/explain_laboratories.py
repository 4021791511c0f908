"""How often real tissue of another laboratory is called damage by ``--explain``.

    python benchmarks/explain_laboratories.py LAB LAB ... [--tile 224] [--limit 48] [--weights histology] [--json]

Each LAB is a source of ``rl2 score`` of real images of one laboratory. Of each as many tiles are drawn, and all ordered
pairs are scored and explained. Damage may truly be there, as laboratories save JPEG files of other qualities and have
other scanners, so look at the pairs, and not at the rate alone.
"""

import argparse
import json
import random
import sys
from collections.abc import Sequence
from itertools import permutations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torchvision.io import write_png

sys.path.insert(0, str(Path(__file__).parent / "paper"))

from experiment import progress, run

from torchmetrics_rl2 import LatentEncoder, RL2Error, RL2Result, score
from torchmetrics_rl2.images import ImageReader, find_images


def copy_tiles(source: str, tile: int, limit: int, to: Path) -> int:
    """Write tiles of a source as PNG files, and return how many."""
    reader, wanted = ImageReader(tile=tile), random.Random(0)
    tiles = [image for batch in reader.read(find_images(source)) for image in batch.images]
    drawn = sorted(wanted.sample(range(len(tiles)), min(limit, len(tiles))))
    to.mkdir()
    for i in drawn:
        write_png(tiles[i], str(to / f"{i}.png"))
    return len(drawn)


def row_of(real: str, fake: str, result: RL2Result) -> dict[str, Any]:
    """What was said of a pair."""
    found = result.explanation
    assert found is not None
    named = " and ".join(f"{cause.damage} {cause.amount:.3g} {cause.unit}" for cause in found.causes)
    return {
        "real": real,
        "other": fake,
        "domain shift": result.domain_shift,
        "look": None if result.look is None else result.look.debiased,
        "explained": found.explained,
        "named": named,
        "closest": "" if found.closest is None else f"{found.closest.damage} {found.closest.amount:.3g}",
        "withheld": found.withheld.get("causes", ""),
    }


def lines(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The table, and the share of pairs in which damage is named."""
    columns = list(rows[0])
    found = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    for row in rows:
        cells = [f"{value:.2f}" if isinstance(value, float) else str(value or "") for value in row.values()]
        found.append(f"| {' | '.join(cells)} |")
    named = sum(bool(row["named"]) for row in rows)
    return [*found, f"damage named in {named} of {len(rows)} pairs"]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("laboratories", nargs="+", metavar="LAB")
    parser.add_argument("--tile", type=int, default=224, help="side in pixels (default: %(default)s)")
    parser.add_argument("--limit", type=int, default=48, help="tiles of each laboratory (default: %(default)s)")
    parser.add_argument("--weights", default="histology")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    names = [Path(source).stem for source in arguments.laboratories]
    if len(set(names)) < max(2, len(names)):
        raise RL2Error(f"Give at least two laboratories with different names; got {', '.join(names)}.")
    encoder, rows = LatentEncoder.load(arguments.weights), []
    with TemporaryDirectory() as folder:
        for name, source in zip(names, arguments.laboratories, strict=True):
            count = copy_tiles(source, arguments.tile, arguments.limit, Path(folder, name))
            print(f"{name}: {count} tiles", file=sys.stderr)
        for real, fake in progress(list(permutations(names, 2)), "pairs"):
            result = score(f"{folder}/{fake}", f"{folder}/{real}", weights=encoder, explain=True, progress=False)
            rows.append(row_of(real, fake, result))
    print(json.dumps(rows, indent=2) if arguments.json else "\n".join(lines(rows)))


if __name__ == "__main__":
    run(main)
