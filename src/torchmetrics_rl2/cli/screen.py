"""``rl2 screen``."""

import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

from torchmetrics_rl2.cli.devices import on_devices, prints, progress_of
from torchmetrics_rl2.cli.options import BatchSize, Device, Scale, SkipUnreadable, WeightsName, Workers
from torchmetrics_rl2.cli.output import errors, print_json


def screen(
    sources: Annotated[
        list[str],
        Argument(help="Slides, folders of slides, or folders, globs in quotes or lists of patches."),
    ],
    out: Annotated[Path, Option("-o", "--out", help="Folder for tables and pictures.")] = Path("rl2-screen"),
    weights: WeightsName = "lung-colon",
    calibrate: Annotated[
        str | None,
        Option(
            metavar="PATCHES",
            help="Good patches of your own: a folder, a glob or a list; 64 to 128 patches of 20 slides or more.",
        ),
    ] = None,
    calibrate_groups: Annotated[
        str | None,
        Option(
            metavar="CSV|parent|file",
            help="Slide of each good patch: 'parent' for its folder, 'file', or a CSV with the columns path and group.",
        ),
    ] = None,
    calibration: Annotated[
        Path | None, Option(metavar="FILE", help="Calibration of an earlier screen, OUT/calibration.safetensors.")
    ] = None,
    max_false_rejection: Annotated[
        float, Option(help="Share of good patches that may be rejected; 0 ranks, and rejects none by its score.")
    ] = 0.01,
    min_tissue: Annotated[float, Option(help="Share of a patch that has to be tissue.")] = 0.2,
    mpp: Annotated[
        float | None,
        Option(help="Resolution of the slides in um/px, instead of what their files say."),
    ] = None,
    mpps: Annotated[
        Path | None, Option(metavar="CSV", help="Resolution per slide: a CSV with the columns slide and mpp.")
    ] = None,
    target_mpp: Annotated[
        float | None,
        Option(
            help="Resolution to read slides at, in um/px; that of the patches of --calibrate. By default that of the "
            "calibration, of the weights, or 0.5."
        ),
    ] = None,
    tile: Annotated[
        int | None, Option(metavar="PX", help="Side of a patch in pixels; patches from files are cut to it.")
    ] = None,
    scale: Scale = None,
    preview: Annotated[
        int | None, Option(metavar="N", help="Screen N patches of each, draw OUT/preview.png, and write nothing else.")
    ] = None,
    tiles: Annotated[
        bool, Option("--tiles", help="GeoJSON has a polygon for each patch instead of one for each region.")
    ] = False,
    export_patches: Annotated[bool, Option("--export-patches", help="Write kept patches as PNG files.")] = False,
    overwrite: Annotated[
        bool, Option("--overwrite", help="Replace an earlier screen with other settings or another calibration.")
    ] = False,
    warn_rejected: Annotated[
        float, Option(help="Warn if more than this share of the tissue of a slide is rejected.")
    ] = 0.3,
    devices: Annotated[
        int, Option(help="Devices of each machine that share the slides; each takes the largest that is left.")
    ] = 1,
    nodes: Annotated[int, Option(help="Machines that share the slides, through an --out that all see.")] = 1,
    workers: Workers = None,
    batch_size: BatchSize = 64,
    device: Device = None,
    skip_unreadable: SkipUnreadable = False,
    json: Annotated[bool, Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Find doubtful patches and say why: blurred, inked, blank, badly exposed, or unlike good ones. Deletes nothing.

    A patch without tissue is background; one with ink is pen. Every other patch gets a percentile among good patches,
    those of the weights or your own, and is rejected if at most --max-false-rejection of these score as low. Stain,
    scanner and tissue are judged apart, for each slide. Every slide gets a folder with a table (Parquet, CSV), GeoJSON
    for QuPath, a heatmap, a contact sheet, and coordinates for CLAM and TRIDENT; slides.csv has a row for each. Run the
    same command again, and finished slides are skipped. Exit code 1 means that a slide failed.

    rl2 screen slide.svs

    rl2 screen slides/ --calibrate good_patches/ --calibrate-groups parent --max-false-rejection 0.02 -o screened/

    rl2 screen next_month/ --calibration screened/calibration.safetensors --max-false-rejection 0.02 -o screened/
    """
    from torchmetrics_rl2.errors import RL2Error
    from torchmetrics_rl2.images.slide import read_mpps
    from torchmetrics_rl2.screening.options import GoodPatches, Outputs, Tiling

    if calibrate is not None and calibration is not None:
        raise RL2Error("Give good patches, with --calibrate, or a calibration, with --calibration, but not both.")
    if preview is not None:
        devices = nodes = 1
    options: dict[str, Any] = {
        **{"weights": weights, "max_false_rejection": max_false_rejection or None, "min_tissue": min_tissue},
        "calibration": calibration if calibrate is None else GoodPatches(calibrate, calibrate_groups),
        "tiling": Tiling(tile, scale, mpp, read_mpps(mpps) if mpps else {}, target_mpp),
        "outputs": Outputs(tiles, export_patches),
        **{"warn_rejected": warn_rejected, "overwrite": overwrite, "preview": preview, "batch_size": batch_size},
        **{"workers": workers, "skip_unreadable": skip_unreadable},
    }
    on_devices(partial(_screen, sources, out, json, options), device, devices, nodes, out)


def _screen(
    sources: list[str], out: Path, json: bool, options: dict[str, Any], device: str | None, distributed: bool
) -> None:
    from torchmetrics_rl2.screening.run import screen as run

    with progress_of(distributed) as report:
        result = run(sources, out, **options, device=device, distributed=distributed, progress=report)
    if not prints(distributed):
        return
    if json:
        print_json(result.to_dict())
    else:
        typer.echo(str(result))
    for sentence in result.warnings:
        errors.print(f"Warning: {sentence}")
    if result.failed:
        sys.exit(1)
