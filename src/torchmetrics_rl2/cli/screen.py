"""``rl2 screen``."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from torchmetrics_rl2.cli.options import BatchSize, Device, Scale, SkipUnreadable, WeightsName, Workers
from torchmetrics_rl2.cli.output import errors, print_json, progress_bars
from torchmetrics_rl2.errors import RL2Error

SHARE = "RL2_SCREEN_SHARE"


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
            help="Good patches of your own: a folder, a glob or a list; 64 to 128 of 20 slides or more.",
        ),
    ] = None,
    calibrate_groups: Annotated[
        str | None,
        Option(metavar="CSV|parent|file", help="Slides these are of: 'parent', 'file', or a CSV with path and group."),
    ] = None,
    calibration: Annotated[
        Path | None, Option(metavar="FILE", help="A calibration of before, OUT/calibration.safetensors.")
    ] = None,
    max_false_rejection: Annotated[
        float, Option(help="Share of good patches that may be lost; 0 ranks, and cuts nothing by its score.")
    ] = 0.01,
    min_tissue: Annotated[float, Option(help="Share of a patch that has to be tissue.")] = 0.2,
    mpp: Annotated[
        float | None,
        Option(help="Resolution of the slides in um/px, in place of what they say; of patches, for the record."),
    ] = None,
    mpps: Annotated[
        Path | None, Option(metavar="CSV", help="The same slide by slide: columns slide (name or path) and mpp.")
    ] = None,
    target_mpp: Annotated[
        float | None,
        Option(
            help="Resolution to read slides at, and of the patches of --calibrate. By default that of the calibration "
            "or weights, or 0.5."
        ),
    ] = None,
    tile: Annotated[int | None, Option(metavar="PX", help="Side of a patch; patches from files are cut to it.")] = None,
    scale: Scale = None,
    preview: Annotated[
        int | None, Option(metavar="N", help="Screen N patches of each, draw OUT/preview.png, and write nothing else.")
    ] = None,
    tiles: Annotated[bool, Option("--tiles", help="A polygon for each patch in GeoJSON, not for each region.")] = False,
    export_patches: Annotated[bool, Option("--export-patches", help="Write kept patches as PNG files.")] = False,
    overwrite: Annotated[
        bool, Option("--overwrite", help="Replace what was screened there with other settings or another calibration.")
    ] = False,
    warn_rejected: Annotated[
        float, Option(help="Warn of a slide that loses more than this share of its tissue.")
    ] = 0.3,
    devices: Annotated[int, Option(help="Processes of this machine that share out the slides, one a GPU.")] = 1,
    nodes: Annotated[int, Option(help="Machines that do; each runs this command, and knows its NODE_RANK.")] = 1,
    workers: Workers = None,
    batch_size: BatchSize = 64,
    device: Device = None,
    skip_unreadable: SkipUnreadable = False,
    json: Annotated[bool, Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Find doubtful patches, and say why: blurred, inked, blank, badly exposed, or unlike good ones. Deletes nothing.

    A patch without tissue is background; one with the colors of ink is pen; the rest gets a percentile among good
    patches, of the domain of the weights or your own, and is cut where fewer than --max-false-rejection of these score lower.
    Stain, scanner and tissue are another question, answered for each slide. Every slide gets a folder with a table
    (Parquet, CSV), GeoJSON for QuPath, a heatmap, a contact sheet, and coordinates for CLAM and TRIDENT; slides.csv
    has a row for each. Run it again, and what is finished is skipped. Exit code 1 says that a slide failed.

    rl2 screen slide.svs

    rl2 screen slides/ --calibrate good_patches/ --calibrate-groups parent --max-false-rejection 0.02 -o screened/

    rl2 screen next_month/ --calibration screened/calibration.safetensors --max-false-rejection 0.02 -o screened/
    """
    share = _share(devices, nodes)
    if share is None:
        # They share out the slides; what is left, and the result, is this process's.
        _launch(devices, nodes)
        share = 0, 1
    from torchmetrics_rl2.images.slide import read_mpps
    from torchmetrics_rl2.screening.jobs import Outputs
    from torchmetrics_rl2.screening.run import screen as run

    try:
        with progress_bars() as report:
            result = run(
                sources,
                out,
                weights=weights,
                calibration=calibration,
                good=calibrate,
                good_groups=calibrate_groups,
                max_false_rejection=max_false_rejection or None,
                min_tissue=min_tissue,
                mpp=mpp,
                mpps=read_mpps(mpps) if mpps else None,
                target_mpp=target_mpp,
                tile=tile,
                scale=scale,
                warn_rejected=warn_rejected,
                outputs=Outputs(tiles, export_patches),
                overwrite=overwrite,
                preview=preview,
                batch_size=batch_size,
                workers=workers,
                device=device or _own_device(devices),
                skip_unreadable=skip_unreadable,
                share=share,
                progress=report,
            )
    except KeyboardInterrupt:
        errors.print("Interrupted. The same command goes on with the slides that are not finished.")
        sys.exit(130)
    if share[0] == 0 and SHARE not in os.environ:
        if json:
            print_json(result.to_dict())
        else:
            typer.echo(str(result))
        for sentence in result.warnings:
            errors.print(f"Warning: {sentence}")
    sys.exit(1 if result.failed else 0)


def _share(devices: int, nodes: int) -> tuple[int, int] | None:
    """Which of how many processes this is; ``None`` for the one that starts them."""
    if devices < 1 or nodes < 1:
        raise RL2Error(f"A screen needs at least one device and one node, but got {devices} and {nodes}.")
    if devices * nodes == 1:
        return 0, 1
    if SHARE in os.environ:
        rank, _, processes = os.environ[SHARE].partition("/")
        return int(rank), int(processes)
    for rank_name, size_name in (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_NTASKS")):  # torchrun, srun
        if int(os.environ.get(size_name, 1)) == devices * nodes:
            return int(os.environ[rank_name]), devices * nodes
    return None


def _launch(devices: int, nodes: int) -> None:
    """Run this command once for each device of this machine, and wait."""
    named = os.environ.get("NODE_RANK", os.environ.get("SLURM_NODEID"))
    if nodes > 1 and named is None:
        raise RL2Error("Each of several machines has to know which it is: set NODE_RANK to 0, 1, ... on them.")
    ranks = range(int(named or 0) * devices, (int(named or 0) + 1) * devices)
    command = [sys.executable, "-c", "from torchmetrics_rl2.cli import main; main()", *sys.argv[1:]]
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    started = [
        subprocess.Popen(command, env={**os.environ, SHARE: f"{rank}/{devices * nodes}"}, stdout=subprocess.DEVNULL)
        for rank in ranks
    ]
    try:
        for process in started:
            process.wait()
    finally:
        for process in started:
            process.terminate()
            process.wait()


def _own_device(devices: int) -> str | None:
    import torch

    if devices == 1 or not torch.cuda.is_available() or SHARE not in os.environ:
        return None
    return f"cuda:{int(os.environ[SHARE].partition('/')[0]) % torch.cuda.device_count()}"
