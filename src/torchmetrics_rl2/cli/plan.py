"""``rl2 plan``."""

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from torchmetrics_rl2.cli.options import BatchSize, Device, Scale, SkipUnreadable, Tile, WeightsName, Workers
from torchmetrics_rl2.cli.output import print_json, progress_bars


def plan(
    real: Annotated[
        list[str],
        Argument(
            help="The pilot, a few dozen real patches: a folder, a glob in quotes, a text file of paths, tar or "
            "Parquet files, or a file of "
            "rl2 stats; several are one set."
        ),
    ],
    find: Annotated[
        list[str] | None,
        Option(
            metavar="NAME=VALUE",
            help="What is to be found: 'distance=10'; damage with an amount, such as 'gaussian blur=0.5' (names and "
            "units are those of rl2 audit); or 'missing=KIND', a kind of tissue that a generator leaves out.",
        ),
    ] = None,
    fake: Annotated[
        list[str] | None,
        Option(help="Generated patches of a generator, given twice: how many of each tell the two apart."),
    ] = None,
    count: Annotated[
        list[int] | None,
        Option(help="Say how small a difference this many patches, or groups, can show. Repeatable."),
    ] = None,
    power: Annotated[float, Option(help="Share of draws in which a difference is found.")] = 0.8,
    weights: WeightsName = "histology",
    groups: Annotated[
        str | None,
        Option(
            metavar="CSV|parent|file",
            help="Which real patches belong together, such as a slide: see rl2 score. The plan then counts groups.",
        ),
    ] = None,
    tile: Tile = None,
    scale: Scale = None,
    batch_size: BatchSize = 64,
    workers: Workers = None,
    device: Device = None,
    skip_unreadable: SkipUnreadable = False,
    plot: Annotated[
        Path | None, Option(metavar="PNG|PDF", help="Draw what is found against the number of patches.")
    ] = None,
    json: Annotated[bool, Option("--json", help="Print the plan as JSON.")] = False,
) -> None:
    """Print how many patches, or slides, it takes to find a difference, and how small a difference a number can show.

    A pilot of real patches says how far chance moves RL2. The plan takes generated patches to vary as real ones do, and
    as many of them as of real ones. Damage is found by look, and a kind of tissue that is missing by content. With
    --groups the numbers are of slides as large as those of the pilot.

    rl2 plan slides/ --groups parent

    rl2 plan real.safetensors --find 'gaussian blur=0.5' --find distance=10

    rl2 plan real/ --fake epoch10/ --fake epoch20/
    """
    from torchmetrics_rl2.planning import plan as run

    if plot:
        from torchmetrics_rl2.auditing import check_plot

        check_plot(plot)
    with progress_bars() as report:
        found = run(
            real,
            find=find or (),
            fakes=fake or (),
            counts=count or (),
            power=power,
            weights=weights,
            groups=groups,
            tile=tile,
            scale=scale,
            batch_size=batch_size,
            workers=workers,
            device=device,
            skip_unreadable=skip_unreadable,
            progress=report,
        )
    if json:
        print_json(found.to_dict())
    else:
        typer.echo(str(found))
    if plot:
        from matplotlib.figure import Figure

        figure, _ = found.plot(Figure(layout="constrained").subplots())
        figure.savefig(plot, dpi=110)
