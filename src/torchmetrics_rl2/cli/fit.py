"""``rl2 fit``."""

import dataclasses
import json as json_
import logging
import os
import sys
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

from torchmetrics_rl2.cli.options import Scale, SkipUnreadable, Tile, Workers, complete_weights
from torchmetrics_rl2.cli.output import errors, print_json, print_unreadable, progress_bars
from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.fitting.split import split_images
from torchmetrics_rl2.images.groups import groups_of

FEW = 64


class Train(str, Enum):
    """What is trained."""

    flow = "flow"
    joint = "joint"


def fit(
    images: Annotated[str, Argument(help="Real patches: a folder, a glob in quotes, or a text file of paths.")],
    out: Annotated[Path, Option("-o", "--out", help="The weights file to write, .safetensors.")],
    backbone: Annotated[
        str,
        Option(
            help="The backbone: that of named weights or of a weights file, 'imagenet' (torchvision downloads it), or the "
            "path of a ResNet-18 state dict, torchvision's or TIAToolbox's.",
            autocompletion=complete_weights,
        ),
    ] = "lung-colon",
    groups: Annotated[
        str | None,
        Option(
            metavar="CSV|parent|file",
            help="Keep the patches of a slide, patient or source image on one side of the split: a CSV with columns "
            "path (relative to IMAGES) and group, 'parent' for the folder it is in, or 'file'.",
        ),
    ] = None,
    tile: Tile = None,
    scale: Scale = None,
    mpp: Annotated[float | None, Option(help="Resolution of the patches in um/px, kept in the file.")] = None,
    card: Annotated[
        Path | None, Option(help="A JSON file with what people should know: data, license, citation.")
    ] = None,
    train: Annotated[
        Train, Option(help="'flow' leaves the backbone as it is; 'joint' trains backbone and flow together first.")
    ] = Train.flow,
    joint_epochs: Annotated[int, Option(help="Epochs of joint training, at most.")] = 10,
    rank_share: Annotated[
        float, Option(help="Joint training stops before the effective rank of features falls below this share.")
    ] = 0.9,
    probe_share: Annotated[
        float,
        Option(
            help="The same of how well the features tell hand-crafted statistics of an image, R^2 of a linear probe."
        ),
    ] = 0.9,
    layers: Annotated[int, Option(help="Couplings of the flow; 0 fits one Gaussian.")] = 4,
    hidden: Annotated[int, Option(help="Width of the couplings' networks.")] = 128,
    scale_bound: Annotated[float, Option(help="Bound of the log-scale of a coupling.")] = 0.2,
    diagonal: Annotated[
        bool, Option("--diagonal", help="Only standardize features before the couplings, and keep correlations.")
    ] = False,
    max_epochs: Annotated[int, Option(help="Epochs, at most.")] = 500,
    patience: Annotated[int, Option(help="Epochs without a better held-out likelihood before the fit stops.")] = 20,
    seed: Annotated[int, Option(help="Of the split, the initial flow and the order of the data.")] = 0,
    batch_size: Annotated[int, Option(help="Images a batch while features are computed, and of joint training.")] = 64,
    workers: Workers = None,
    accelerator: Annotated[str, Option(help="cpu, gpu, mps or auto, as of a Lightning Trainer.")] = "auto",
    devices: Annotated[int, Option(help="Devices a machine, as of a Lightning Trainer.")] = 1,
    nodes: Annotated[int, Option(help="Machines, as of a Lightning Trainer.")] = 1,
    resume: Annotated[bool, Option("--resume", help="Go on with an interrupted run.")] = False,
    skip_unreadable: SkipUnreadable = False,
    json: Annotated[bool, Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Fit a flow to your own real patches, and write weights that score and load like the ones that ship.

    70 % of the patches fit the flow, 10 % stop it, 20 % become the reference inside the file. A thousand patches take
    a minute or so on two CPU cores. Interrupted with Ctrl-C, the same command with --resume goes on.

    rl2 fit our_patches/ -o ours.safetensors --groups parent
    """
    try:
        from torchmetrics_rl2.fitting import run as fitting
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "lightning":
            raise
        raise RL2Error("rl2 fit needs Lightning: pip install 'torchmetrics-rl2[fit]'") from error
    from lightning_utilities.core.rank_zero import rank_zero_only

    from torchmetrics_rl2.fitting.settings import FitSettings, JointSettings
    from torchmetrics_rl2.images.find import find_images
    from torchmetrics_rl2.images.reader import ImageReader
    from torchmetrics_rl2.runtime import default_workers

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
    )
    joint = JointSettings(max_epochs=joint_epochs, rank_share=rank_share, probe_share=probe_share)
    paths = find_images(images)
    grouped = groups_of(groups, paths, Path(images) if Path(images).is_dir() else Path()) if groups else None
    if grouped is None and "LOCAL_RANK" not in os.environ:  # one process says so
        errors.print(
            "Warning: without --groups, patches of one slide may be on two sides of the split, and the held-out "
            "likelihood then flatters the flow."
        )
    split = split_images(paths, grouped, seed)
    device = fitting.feature_device(accelerator)
    reader = ImageReader(tile, scale, batch_size, default_workers(workers, device), skip_unreadable)
    try:
        with progress_bars() as report:
            result = fitting.fit(
                split,
                out,
                backbone=backbone,
                groups=grouped,
                settings=settings,
                joint=joint if train is Train.joint else None,
                card=_card(card),
                reader=reader,
                mpp=mpp,
                accelerator=accelerator,
                devices=devices,
                num_nodes=nodes,
                resume=resume,
                progress=report,
            )
    except KeyboardInterrupt:
        done = f"{out} is written" if out.exists() else "The same command with --resume goes on from here"
        errors.print(f"Interrupted. {done}.")
        sys.exit(130)
    if getattr(rank_zero_only, "rank", 0):
        return
    if json:
        print_json(dataclasses.asdict(result))
        return
    typer.echo(
        f"Wrote {result.out} ({result.weights_id[:12]}): {result.n_fit} patches to fit the flow, "
        f"{result.n_stop} to stop it (after {result.epochs} epochs), {result.n_reference} as reference. "
        f"Log-likelihood of those that stopped it {result.held_out:.1f} nats a patch, "
        f"{result.gaussian:.1f} without couplings."
    )
    if result.joint:
        typer.echo(_joint_sentence(result.joint))
    if result.n_fit < FEW:
        errors.print(f"Warning: {result.n_fit} patches are few to fit a flow to; a few hundred make it dependable.")
    print_unreadable(result.unreadable)


def _joint_sentence(joint: dict[str, Any]) -> str:
    start, end = joint["trace"][0], joint["trace"][joint["epochs"]]
    why = {
        "effective_rank": "before the effective rank fell below its share",
        "probe": "before the linear probe fell below its share",
        "epochs": "all that were asked for",
    }[joint["stopped_by"]]
    return (
        f"Backbone trained for {joint['epochs']} epochs, {why}: effective rank {start['effective_rank']:.1f} to "
        f"{end['effective_rank']:.1f}, R^2 of the probe {start['probe']:.3f} to {end['probe']:.3f}."
    )


def _card(path: Path | None) -> dict[str, object]:
    if path is None:
        return {}
    try:
        card = json_.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise RL2Error(f"The card {path} is no JSON file that can be read: {error}") from error
    if not isinstance(card, dict):
        raise RL2Error(
            f"The card {path} holds a {type(card).__name__}; expected an object with data, license, citation."
        )
    return card
