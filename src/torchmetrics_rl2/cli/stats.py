"""``rl2 stats``."""

import filecmp
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from torchmetrics_rl2.cli.devices import on_devices, prints, progress_of
from torchmetrics_rl2.cli.options import (
    BatchSize,
    Device,
    Devices,
    Nodes,
    Resume,
    Scale,
    SkipUnreadable,
    Tile,
    WeightsName,
    Workers,
)
from torchmetrics_rl2.cli.output import print_json, print_unreadable
from torchmetrics_rl2.errors import RL2Error

if TYPE_CHECKING:
    from torchmetrics_rl2.distance import Statistics


def stats(
    images: Annotated[
        list[str],
        Argument(
            help="Patches: folders, globs in quotes, text files of paths, tar or Parquet files, or files of "
            "rl2 stats, merged."
        ),
    ],
    out: Annotated[Path, Option("-o", "--out", help="The statistics file to write, .safetensors.")],
    weights: WeightsName = "histology",
    groups: Annotated[
        str | None,
        Option(
            metavar="CSV|parent|file",
            help="Which patches belong together: 'parent', the folder a patch is in, such as a slide; 'file'; or a CSV "
            "with the columns path (relative to the image folder, or to the current folder) and group; or "
            "'column:slide', a column of Parquet files. The file keeps "
            "the names of groups; groups of one name merge.",
        ),
    ] = None,
    classes: Annotated[
        str | None,
        Option(
            metavar="CSV|parent",
            help="Also keep the statistics of each class, such as tissue, stain or label, to score class by class "
            "later: 'parent', the name of the folder a patch is in; or a CSV with the columns path (as above) and "
            "class; or 'column:label'. A class takes 2 MB, or with --groups 4 kB for each group of it. At most 100; "
            "classes of one name merge.",
        ),
    ] = None,
    tile: Tile = None,
    scale: Scale = None,
    batch_size: BatchSize = 64,
    workers: Workers = None,
    device: Device = None,
    devices: Devices = 1,
    nodes: Nodes = 1,
    resume: Resume = None,
    skip_unreadable: SkipUnreadable = False,
    json: Annotated[bool, Option("--json", help="Print what was written as JSON.")] = False,
) -> None:
    """Write the statistics of patches, to score against later without the patches; several sources merge into one file.

    The file holds sums over latents and no patch: 2 MB, or 4 kB for each group; with --classes as much again for each
    class. It belongs to the weights that made it; using it with others is an error. With --groups file, the sum of a
    group may be the latent of a single patch, beside its file name.

    rl2 stats slides/ --groups parent -o real.safetensors

    rl2 stats classes/ --classes parent -o real.safetensors

    rl2 stats shard-0.safetensors shard-1.safetensors -o real.safetensors

    rl2 stats slides/ -o real.safetensors --resume run

    rl2 score generated/ --real real.safetensors

    rl2 score generated/ --real real.safetensors --fake-classes parent
    """
    from torchmetrics_rl2.files import check_writable

    if resume is None or not out.is_file():
        check_writable(out)
    options: dict[str, Any] = {
        **{"groups": groups, "classes": classes, "weights": weights, "tile": tile, "scale": scale},
        **{"batch_size": batch_size, "workers": workers, "skip_unreadable": skip_unreadable, "resume": resume},
    }
    on_devices(partial(_stats, images, out, json, options), device, devices, nodes, resume)


def _stats(
    images: list[str], out: Path, json: bool, options: dict[str, Any], device: str | None, distributed: bool
) -> None:
    from torchmetrics_rl2.scoring import compute_statistics

    with progress_of(distributed) as report:
        statistics = compute_statistics(images, **options, device=device, distributed=distributed, progress=report)
    if not prints(distributed):
        return
    before = out.exists()
    if before and not _is_of(out, statistics):
        raise RL2Error(f"{out} exists, and is not what this run gives. Choose another name, or remove it first.")
    if not before:
        statistics.save(out)
    if json:
        print_json({"out": str(out), **statistics.described()})
        return
    named = {"groups": statistics.group_names, "classes": statistics.classes}
    counts = " and ".join(f"{len(names)} {of}" for of, names in named.items() if names)
    said = f"{out} has these already" if before else f"Wrote {out}"
    typer.echo(
        f"{said}: {len(statistics)} images{f' in {counts}' if counts else ''} of {statistics.source}, "
        f"weights {statistics.weights} ({(statistics.weights_id or '')[:12]})"
    )
    print_unreadable(statistics.unreadable)


def _is_of(path: Path, statistics: "Statistics") -> bool:
    """Whether a file is what statistics would be written as."""
    with TemporaryDirectory() as folder:
        statistics.save(written := Path(folder, "same.safetensors"))
        return filecmp.cmp(written, path, shallow=False)
