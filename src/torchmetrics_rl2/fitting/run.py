"""Fit a flow to real patches: features of a backbone, computed once, then maximum likelihood with Lightning."""

import hashlib
import json
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from lightning_utilities.core.rank_zero import rank_zero_only

from torchmetrics_rl2.encoder.encoder import reference_of
from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.fitting.features import feature_device, features_of
from torchmetrics_rl2.fitting.joint import train_joint
from torchmetrics_rl2.fitting.result import FitResult
from torchmetrics_rl2.fitting.run_folder import open_run, remove_run
from torchmetrics_rl2.fitting.settings import FitSettings, JointSettings
from torchmetrics_rl2.fitting.split import Split
from torchmetrics_rl2.fitting.training import FlowTraining, train_flow
from torchmetrics_rl2.images.reader import ImageReader
from torchmetrics_rl2.networks.extractor import FeatureExtractor
from torchmetrics_rl2.networks.flow import RealNVP
from torchmetrics_rl2.quality.calibrating import beside, calibrate
from torchmetrics_rl2.runtime import Progress, versions
from torchmetrics_rl2.weights.backbone import Backbone, load_backbone
from torchmetrics_rl2.weights.file import Weights, write_weights

__all__ = ["fit"]


def fit(
    split: Split,
    out: str | Path,
    *,
    backbone: str | Path = "lung-colon",
    groups: Mapping[Path, str] | None = None,
    settings: FitSettings | None = None,
    joint: JointSettings | None = None,
    card: Mapping[str, Any] | None = None,
    reader: ImageReader | None = None,
    mpp: float | None = None,
    accelerator: str = "auto",
    devices: int | str = 1,
    num_nodes: int = 1,
    resume: bool = False,
    progress: Progress | None = None,
) -> FitResult:
    """Fit a flow to real patches and write it as a weights file.

    The backbone stays as it is, unless ``joint`` has it trained first; its features are computed once and kept, with
    checkpoints, in a folder beside the output, so that an interrupted run goes on with ``resume=True``. The folder is
    removed when the weights are written. The patches of the reference are written as a calibration of screens too,
    beside the weights.

    Args:
        split: Patches that fit the flow, stop it, and become its reference, see
            :func:`~torchmetrics_rl2.splitting.split_images`.
        out: The weights file to write, ``.safetensors``.
        backbone: Name or path of weights, ``imagenet``, or the path of a torchvision ResNet-18 state dict.
        groups: Slide, patient or source image of each patch, the units of the reference.
        settings: How the flow is built and trained.
        joint: Train the backbone too, this way, see :class:`~torchmetrics_rl2.joint.JointTraining`.
        card: What a person should know of the data: ``data``, ``license``, ``citation``.
        reader: How images are read, cut and scaled.
        mpp: Resolution of the patches in um/px, if known.
        accelerator: As of a Lightning Trainer.
        devices: As of a Lightning Trainer.
        num_nodes: As of a Lightning Trainer.
        resume: Go on with an interrupted run of the same images, backbone and settings.
        progress: Called with what is being done, how much is done, how much there is, and images read since.

    Raises:
        RL2Error: If the output exists, an image cannot be read, or there is nothing, or something else, to resume.
        KeyboardInterrupt: On Ctrl-C; the run can be resumed.

    """
    out, settings, reader = Path(out), settings or FitSettings(), reader or ImageReader()
    if mpp is not None and not 0 < mpp < math.inf:
        raise RL2Error(f"The mpp is a resolution above 0 um/px, but got {mpp}.")
    if num_nodes < 1 or (isinstance(devices, int) and devices < 1):
        raise RL2Error(f"A fit needs at least one device and one node, but got {devices} and {num_nodes}.")
    backbone = load_backbone(backbone)
    run = open_run(out, resume, _description(split, backbone, settings, joint, reader))
    device = feature_device(accelerator)
    extractor = FeatureExtractor(backbone.preprocessing, dict(backbone.state_dict), backbone.readout).to(device)
    machine, trained = (accelerator, devices, num_nodes), None
    if joint:
        try:
            backbone, trained = train_joint(
                backbone, extractor, split, reader, settings, joint, run, progress, *machine
            )
        except RL2Error as error:
            if any(run.glob("*.ckpt")):
                raise RL2Error(f"{error} What was trained is kept; go on with --resume.") from error
            remove_run(run)
            raise
    features, files, sizes, unreadable = {}, {}, set(), []
    for side, paths in vars(split).items():
        try:
            shards = features_of(extractor, paths, reader, run / side, progress)
        except RL2Error as error:
            if any(run.glob("*.pt")):
                raise RL2Error(f"{error} What was computed is kept; go on with --resume.") from error
            remove_run(run)
            raise
        features[side] = torch.cat([shard["features"] for shard in shards])
        sizes |= {px for shard in shards for px in shard["px"]}
        unreadable += [reason for shard in shards for reason in shard["unreadable"]]
        files[side] = [file for shard in shards for file in shard["files"]]
        if len(features[side]) < 2:
            remove_run(run)
            raise RL2Error(f"Only {len(features[side])} patches could be read for {side}; expected at least 2.")

    flow = RealNVP(
        512, settings.layers, settings.hidden, settings.scale_bound, linear=settings.linear, seed=settings.seed
    )
    flow.linear.adapt(features["fit"])
    with torch.no_grad():
        gaussian = flow.log_prob(features["stop"]).mean().item()
    if not math.isfinite(gaussian):
        remove_run(run)
        raise RL2Error(
            f"The features of the {len(features['fit'])} patches that fit the flow do not vary or are not finite, and "
            "no flow fits them. Are the images all the same, and is the backbone sound?"
        )
    held_out, epochs = gaussian, 0
    if settings.layers:
        module = FlowTraining(flow, features["fit"], features["stop"], settings)
        held_out, epochs = train_flow(module, gaussian, run, progress, *machine)

    px = sizes.pop() if len(sizes) == 1 else None
    # The backbone's own scale says nothing of these patches.
    preprocessing = replace(backbone.preprocessing, px=px, mpp=mpp)
    history = {
        "backbone": backbone.name,
        "n_fit": len(features["fit"]),
        "n_stop": len(features["stop"]),
        "n_unreadable": len(unreadable),
        "tile": reader.tile,
        "scale": reader.scale,
        "train": "joint" if joint else "flow",
        **({"joint": trained} if trained else {}),
        "settings": asdict(settings),
        "epochs": epochs,
        "gaussian_log_likelihood": gaussian,
        "held_out_log_likelihood": held_out,
        "versions": versions(),
    }
    flow.requires_grad_(False)
    named = {str(path.resolve()): group for path, group in (groups or {}).items()}
    weights = Weights(
        preprocessing,
        backbone.state_dict,
        flow.config,
        flow.state_dict(),
        reference_of(flow, features["reference"], [named[file] for file in files["reference"]] if named else None),
        {**(card or {}), "fit": history},
        backbone.readout,
    )
    if getattr(rank_zero_only, "rank", 0) == 0:
        write_weights(weights, out)
        remove_run(run)
        with suppress(RL2Error):  # of too few patches, or of several sizes; a screen then asks for good ones
            good = calibrate(
                split.reference,
                out,
                groups=groups,
                tile=reader.tile,
                scale=reader.scale,
                mpp=mpp,
                workers=reader.workers,
                device=device,
                skip_unreadable=reader.skip_unreadable,
                progress=progress,
            )
            replace(good, of_weights=True, source=f"the reference of {out.name}").save(beside(out))
    return FitResult(
        out=str(out),
        weights_id=weights.weights_id,
        n_fit=len(features["fit"]),
        n_stop=len(features["stop"]),
        n_reference=len(features["reference"]),
        epochs=epochs,
        gaussian=gaussian,
        held_out=held_out,
        unreadable=unreadable,
        joint=trained,
    )


def _description(
    split: Split, backbone: Backbone, settings: FitSettings, joint: JointSettings | None, reader: ImageReader
) -> dict[str, Any]:
    listed = {
        side: [(str(path.resolve()), path.stat().st_size) for path in paths] for side, paths in vars(split).items()
    }
    return {
        "images": hashlib.sha256(json.dumps(listed).encode()).hexdigest(),
        "backbone": Weights(backbone.preprocessing, backbone.state_dict, {}, {}, readout=backbone.readout).backbone_id,
        "settings": asdict(settings),
        "joint training": joint and [asdict(joint), reader.batch_size],
        "tile and scale": [reader.tile, reader.scale],
    }
