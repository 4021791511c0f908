"""``rl2 audit``."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from torchmetrics_rl2.cli.devices import on_devices, prints, progress_of
from torchmetrics_rl2.cli.options import Device, Scale, SkipUnreadable, Tile, Workers, complete_weights
from torchmetrics_rl2.cli.output import print_json, print_unreadable
from torchmetrics_rl2.errors import RL2Error

if TYPE_CHECKING:
    from collections.abc import Callable

    from torchmetrics_rl2.auditing import AuditResult
    from torchmetrics_rl2.runtime import Progress


def audit(
    weights: Annotated[
        list[str],
        Argument(
            help="Name of weights, such as lung-colon, or the path of a file; several are set side by side.",
            autocompletion=complete_weights,
        ),
    ],
    images: Annotated[
        str,
        Option(
            help="Clean real patches that took no part in making the weights: a folder, a glob, a list, tar or "
            "Parquet files."
        ),
    ],
    groups: Annotated[
        str | None,
        Option(
            metavar="CSV|parent|file",
            help="Which patches belong together: 'parent', the folder a patch is in, such as a slide; 'file' "
            "(default); or a CSV with the columns path and group.",
        ),
    ] = None,
    kinds: Annotated[
        str | None,
        Option(
            metavar="parent|CSV",
            help="Kind of tissue of each patch, to test whether content sees a kind that is missing or too frequent: "
            "'parent', the name of the folder a patch is in, such as a class; or a CSV with the columns path and kind. "
            "By default the kind that is most probable under the weights.",
        ),
    ] = None,
    outliers: Annotated[
        str | None, Option(help="Patches that do not belong, mixed in at 1 %; by default patches with ink.")
    ] = None,
    ladder: Annotated[
        list[str] | None, Option(help="Test this ladder of damage alone, such as 'gaussian blur'; may be repeated.")
    ] = None,
    limit: Annotated[int, Option(help="Patches to use, at most.")] = 120,
    tile: Tile = None,
    scale: Scale = None,
    seed: Annotated[int, Option(help="Seed of the choice of patches, the halves and the damage.")] = 0,
    workers: Workers = None,
    device: Device = None,
    devices: Annotated[
        int, Option(help="Devices of each machine that share the ladders; the result is that of one.")
    ] = 1,
    nodes: Annotated[int, Option(help="Machines that share the ladders; the first reads the patches.")] = 1,
    skip_unreadable: SkipUnreadable = False,
    plot: Annotated[Path | None, Option(metavar="PNG|PDF", help="Draw the audit on one page.")] = None,
    report: Annotated[
        Path | None,
        Option(metavar="HTML", help="Also write the audit as one HTML file to look at and to send: charts and tables."),
    ] = None,
    save: Annotated[bool, Option("--save", help="Write a summary into the card of the weights file.")] = False,
    json: Annotated[bool, Option("--json", help="Print all numbers as JSON.")] = False,
) -> None:
    """Show what weights can and cannot detect, by damaging clean patches in twenty ways of rising severity.

    Each way of damage, a ladder, gets a verdict: 'detects' if RL2 rises with severity; 'saturates' if it stops rising;
    'blind' if even the strongest damage is within chance; 'inverts' if worse damage scores better. Two simpler models
    stand beside the flow: one Gaussian on the same features, and one on fifteen hand-crafted image statistics. 100
    patches take about five minutes on two CPU cores.

    With weights that have kinds of tissue, damage is judged by look, and sets of another composition are drawn from the
    patches: a kind missing, another mixture, one kind only, few images repeated. A matrix says how often look and
    content differ for each, and for each damage: what should move one part, and what it moves in the other.

    rl2 audit lung-colon --images held_out/

    rl2 audit lung-colon --images classes/ --kinds parent

    rl2 audit ours.safetensors --images slides/ --groups parent --tile 224 --plot audit.png --save

    rl2 audit ours.safetensors lung-colon --images held_out/
    """
    from torchmetrics_rl2.auditing import check_can_save, check_plot

    if len(weights) > 1 and (plot or report or save):
        raise RL2Error("--plot, --report and --save are for one set of weights. Audit each by itself for these.")
    write = None
    if report:
        from torchmetrics_rl2.reporting import report_to

        write = report_to(report)
    if plot:
        check_plot(plot)
    if save:
        check_can_save(weights[0])
    options: dict[str, Any] = {
        **{"images": images, "groups": groups, "kinds": kinds, "outliers": outliers, "ladders": ladder, "limit": limit},
        **{"tile": tile, "scale": scale, "seed": seed, "workers": workers, "skip_unreadable": skip_unreadable},
    }
    verb = partial(_audit, weights, options, plot, write, save, json)
    on_devices(verb, device, devices, nodes, resume=None, can_resume=False)


def _audit(
    weights: list[str],
    options: dict[str, Any],
    plot: Path | None,
    write: "Callable[[AuditResult], None] | None",
    save: bool,
    json: bool,
    device: str | None,
    distributed: bool,
) -> None:
    from torchmetrics_rl2.auditing import audit as run
    from torchmetrics_rl2.auditing import plot_audit, save_audit, side_by_side

    with progress_of(distributed) as bars:
        results = [
            run(
                one,
                **options,
                device=device,
                distributed=distributed,
                progress=partial(_named, bars, one) if bars and len(weights) > 1 else bars,
            )
            for one in weights
        ]
    if not prints(distributed):
        return
    result = results[0]
    if json:
        print_json(result.to_dict() if len(results) == 1 else [one.to_dict() for one in results])
    else:
        typer.echo(str(result) if len(results) == 1 else side_by_side(results))
        print_unreadable(result.unreadable)
    if plot:
        plot_audit(result, plot)
    if write:
        write(result)
    if save:
        save_audit(result, weights[0])


def _named(report: "Progress", name: str, what: str, done: int, total: int, images: int) -> None:
    report(f"{what} of {name}", done, total, images)
