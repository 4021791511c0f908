"""``rl2 fit``."""

import logging
import sys
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from torchmetrics_rl2.cli.options import Scale, SkipUnreadable, Tile, Workers, complete_weights
from torchmetrics_rl2.cli.output import errors, print_json, print_unreadable, progress_bars


class Train(str, Enum):
    """What is trained."""

    flow = "flow"
    joint = "joint"


def fit(
    images: Annotated[
        str, Argument(help="Real patches: a folder, a glob in quotes, a text file of paths, tar or Parquet files.")
    ],
    out: Annotated[Path, Option("-o", "--out", help="The weights file to write, .safetensors.")],
    backbone: Annotated[
        str,
        Option(
            help="ResNet-18 to fit on: name or path of weights, 'imagenet' (torchvision downloads it), or the path of "
            "a ResNet-18 state dict, torchvision's or TIAToolbox's.",
            autocompletion=complete_weights,
        ),
    ] = "histology",
    groups: Annotated[
        str | None,
        Option(
            metavar="CSV|parent|file",
            help="Keep the patches of a slide, patient or source image on one side of the split: a CSV with columns "
            "path (relative to IMAGES) and group, 'parent' for the folder it is in, or 'file'.",
        ),
    ] = None,
    within_groups: Annotated[
        bool,
        Option(
            "--within-groups",
            help="Take the mean of its group off each patch first, as of its laboratory: stain and scanner then count "
            "neither as spread nor as a kind of tissue. Patches of a group fit, stop and become reference data.",
        ),
    ] = False,
    kinds: Annotated[
        str | None,
        Option(
            metavar="parent|CSV|N",
            help="Kinds of tissue, by which RL2 is split into content and look: 'parent', the names of the folders "
            "that patches are in, such as classes; a CSV with the columns path and kind; or how many to look for, 1 "
            "for none. By default they are found.",
        ),
    ] = None,
    tile: Tile = None,
    scale: Scale = None,
    mpp: Annotated[float | None, Option(help="Resolution of the patches in um/px, stored in the file.")] = None,
    card: Annotated[
        Path | None, Option(help="A JSON file with what people should know: data, license, citation.")
    ] = None,
    train: Annotated[
        Train, Option(help="'flow' leaves the backbone as it is; 'joint' first trains backbone and flow together.")
    ] = Train.flow,
    joint_epochs: Annotated[int, Option(help="Epochs of joint training, at most.")] = 10,
    rank_share: Annotated[
        float,
        Option(
            help="Joint training stops before the effective rank of the features falls below this share of its start."
        ),
    ] = 0.9,
    probe_share: Annotated[
        float,
        Option(help="Likewise for the R^2 with which features predict hand-crafted image statistics (linear probe)."),
    ] = 0.9,
    layers: Annotated[int, Option(help="Coupling layers of the flow; 0 fits one Gaussian.")] = 4,
    hidden: Annotated[int, Option(help="Width of the networks in the coupling layers.")] = 128,
    scale_bound: Annotated[float, Option(help="Bound of the log-scale of a coupling layer.")] = 0.2,
    diagonal: Annotated[bool, Option("--diagonal", help="Standardize the features without whitening them.")] = False,
    max_epochs: Annotated[int, Option(help="Epochs, at most.")] = 500,
    patience: Annotated[int, Option(help="Epochs without a better held-out likelihood before training stops.")] = 20,
    seed: Annotated[int, Option(help="Seed of the split, the initial flow and the order of the data.")] = 0,
    batch_size: Annotated[int, Option(help="Images per batch for features and for joint training.")] = 64,
    workers: Workers = None,
    accelerator: Annotated[str, Option(help="cpu, gpu, mps or auto, as in a Lightning Trainer.")] = "auto",
    devices: Annotated[int, Option(help="Devices per machine, as in a Lightning Trainer.")] = 1,
    nodes: Annotated[int, Option(help="Machines, as in a Lightning Trainer.")] = 1,
    resume: Annotated[bool, Option("--resume", help="Continue an interrupted run.")] = False,
    skip_unreadable: SkipUnreadable = False,
    json: Annotated[bool, Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Fit a flow to your own real patches, and write weights that score and load like the ones that ship.

    70 % of the patches fit the flow, 10 % stop its training, and 20 % become the reference data inside the file. A
    thousand patches take about three minutes on two CPU cores. After Ctrl-C, the same command with --resume continues.

    rl2 fit our_patches/ -o ours.safetensors --groups parent
    """
    from torchmetrics_rl2.fitting import FitSettings, JointSettings, Machine
    from torchmetrics_rl2.fitting import fit as run
    from torchmetrics_rl2.rank_zero import is_rank_zero

    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    settings = FitSettings(
        layers=layers,
        hidden=hidden,
        scale_bound=scale_bound,
        linear="diagonal" if diagonal else "whitening",
        max_epochs=max_epochs,
        patience=patience,
        seed=seed,
        within_groups=within_groups,
    )
    joint = JointSettings(max_epochs=joint_epochs, rank_share=rank_share, probe_share=probe_share)
    try:
        with progress_bars() as report:
            result = run(
                images,
                out,
                groups=groups,
                kinds=int(kinds) if kinds and kinds.isdecimal() else kinds,
                backbone=backbone,
                tile=tile,
                scale=scale,
                mpp=mpp,
                card=card,
                settings=settings,
                joint=joint if train is Train.joint else None,
                batch_size=batch_size,
                workers=workers,
                machine=Machine(accelerator, devices, nodes),
                skip_unreadable=skip_unreadable,
                resume=resume,
                progress=report,
            )
    except KeyboardInterrupt:
        done = f"{out} is written" if out.exists() else "The same command with --resume goes on from here"
        errors.print(f"Interrupted. {done}.")
        sys.exit(130)
    if not is_rank_zero():
        return
    if json:
        print_json(result.to_dict())
        return
    typer.echo(str(result))
    print_unreadable(result.unreadable)
