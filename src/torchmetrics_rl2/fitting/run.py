"""A flow fitted to real patches: found, split by group, turned into features once, and fitted by Lightning."""

import math
import os
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from torchmetrics_rl2.encoder.encoder import reference_of
from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.explaining.measuring import PAIRS, measure_signatures
from torchmetrics_rl2.fitting.card import read_card
from torchmetrics_rl2.fitting.features import feature_device, features_of_split, names_of
from torchmetrics_rl2.fitting.fitted_flow import fit_flow
from torchmetrics_rl2.fitting.kinds import confused_kinds, kinds_of_fit
from torchmetrics_rl2.fitting.kinds_picture import draw_kinds, kinds_picture
from torchmetrics_rl2.fitting.leaks import check_apart_within, leak_sentences, measure_leaks
from torchmetrics_rl2.fitting.result import FitResult
from torchmetrics_rl2.fitting.run_folder import describe, kept_for_resume, open_run, remove_run
from torchmetrics_rl2.fitting.settings import FitSettings, JointSettings, Machine
from torchmetrics_rl2.fitting.split import Split, split_images
from torchmetrics_rl2.images.find import base_of, find, left_out_sentence
from torchmetrics_rl2.images.groups import groups_of, labels_of
from torchmetrics_rl2.images.hub_datasets import ImageDataset
from torchmetrics_rl2.images.reader import ImageReader
from torchmetrics_rl2.networks.extractor import FeatureExtractor
from torchmetrics_rl2.progress import reports_progress
from torchmetrics_rl2.quality.calibrating import beside, calibrate
from torchmetrics_rl2.rank_zero import is_rank_zero
from torchmetrics_rl2.runtime import Progress, default_workers, require_lightning, versions
from torchmetrics_rl2.weights.backbone import load_backbone
from torchmetrics_rl2.weights.file import Weights, write_weights

__all__ = ["fit", "fit_split"]

FEW = 64
NO_GROUPS = (
    "Without groups (--groups), patches of one slide may fall on both sides of the split, which makes the held-out "
    "likelihood look too good."
)


@reports_progress
def fit(
    images: str | Path | ImageDataset,
    out: str | Path,
    *,
    groups: str | Path | None = None,
    kinds: str | Path | int | None = None,
    backbone: str | Path = "histology",
    tile: int | None = None,
    scale: float | None = None,
    mpp: float | None = None,
    card: Mapping[str, Any] | str | Path | None = None,
    settings: FitSettings = FitSettings(),  # noqa: B008
    joint: JointSettings | None = None,
    batch_size: int = 64,
    workers: int | None = None,
    machine: Machine = Machine(),  # noqa: B008
    skip_unreadable: bool = False,
    resume: bool = False,
    progress: Progress | bool | None = None,
) -> FitResult:
    """Fit a flow to your own real patches and write weights that load and score like those that ship.

    70 % of the patches fit the flow, 10 % stop its training, and 20 % become the reference data inside the file. The
    backbone stays as it is, unless ``joint`` has it trained first. Features are computed once and kept, with
    checkpoints, in a folder beside the output, so that an interrupted run goes on with ``resume=True``; it is removed
    when the weights are written. The patches of the reference are also written as a calibration of screens, and the
    most typical patches of each kind of tissue as a picture, both beside the weights.

    Args:
        images: Real patches: a folder, a glob, a text file of paths, tar or Parquet files, or a ``datasets.Dataset``.
        out: The weights file to write, ``.safetensors``.
        groups: What stays on one side of the split: ``"parent"`` for the folders that patches are in, such as slides,
            ``"file"``, or a CSV with the columns ``path`` and ``group``.
        kinds: Kinds of tissue, by which RL2 is split into content and look: ``None`` finds them; ``"parent"`` takes the
            names of the folders that patches are in, such as classes; a CSV has the columns ``path`` and ``kind``; a
            number looks for so many, and 1 for none, as in the paper.
        backbone: Name or path of weights, ``imagenet``, or the path of a ResNet-18 state dict.
        tile: Cut images into tiles of this side, in pixels.
        scale: Resize by this factor before, antialiased.
        mpp: Resolution of the patches in um/px, to be kept on record.
        card: What people should know: ``data``, ``license``, ``citation``; or a JSON file of it.
        settings: How the flow is built and trained.
        joint: Train the backbone too, this way.
        batch_size: Images a batch while features are computed, and of joint training.
        workers: Processes that read ahead; by default none on a CPU, else up to 8.
        machine: Where to train, as of a Lightning Trainer.
        skip_unreadable: Leave out files that cannot be read, and say so in the result.
        resume: Go on with an interrupted run of the same images, backbone and settings.
        progress: ``True`` for bars and ``False`` for none; by default bars in a terminal and in a notebook. Or a
            function, called with what is being done, how much is done, how much there is, and images read since.

    Raises:
        RL2Error: If the output exists, an image cannot be read, there are too few images or groups, Lightning is
            missing, or there is nothing, or something else, to resume.
        KeyboardInterrupt: On Ctrl-C; the run can be resumed.

    Example:
        >>> import tempfile
        >>> from torchmetrics_rl2 import fit
        >>> from torchmetrics_rl2.fitting import FitSettings
        >>> out = f"{tempfile.mkdtemp()}/ours.safetensors"
        >>> result = fit("examples/cmu/clean", out, groups="file", tile=96, settings=FitSettings(layers=0))
        >>> result.n_fit, result.n_stop, result.n_reference
        (112, 16, 32)

    """
    assert not isinstance(progress, bool)  # which @reports_progress takes
    paths, left_out, base = (source := find(images)).paths, source.left_out, base_of(images)
    named = groups_of(groups, paths, base) if groups else None
    labeled = kinds if kinds is None or isinstance(kinds, int) else labels_of(kinds, paths, base, "kind")
    said = [] if named else [NO_GROUPS]
    said += [left_out_sentence(images, left_out)] if left_out else []
    first = "LOCAL_RANK" not in os.environ  # of the processes that Lightning starts, one warns
    for sentence in said if first else []:
        warnings.warn(sentence, stacklevel=3)
    workers = default_workers(workers, feature_device(machine.accelerator))
    found = fit_split(
        # Of each laboratory some fit and some are the reference.
        split_images(paths, None if settings.within_groups else named, settings.seed),
        out,
        backbone=backbone,
        groups=named,
        kinds=labeled,
        settings=settings,
        joint=joint,
        card=card,
        reader=ImageReader(tile, scale, batch_size, workers, skip_unreadable),
        mpp=mpp,
        machine=machine,
        resume=resume,
        progress=progress,
    )
    if found.n_fit < FEW:
        said.append(f"{found.n_fit} patches are few to fit a flow to; a few hundred make it dependable.")
        if first:
            warnings.warn(said[-1], stacklevel=3)
    for sentence in found.warnings if first else []:
        warnings.warn(sentence, stacklevel=3)
    return replace(found, warnings=[*said, *found.warnings], left_out=[os.fspath(path) for path in left_out])


def fit_split(
    split: Split,
    out: str | Path,
    *,
    backbone: str | Path = "histology",
    groups: Mapping[Path, str] | None = None,
    kinds: Mapping[Path, str] | int | None = None,
    settings: FitSettings = FitSettings(),  # noqa: B008
    joint: JointSettings | None = None,
    card: Mapping[str, Any] | str | Path | None = None,
    reader: ImageReader = ImageReader(),  # noqa: B008
    mpp: float | None = None,
    machine: Machine = Machine(),  # noqa: B008
    resume: bool = False,
    progress: Progress | None = None,
) -> FitResult:
    """Fit a flow to patches that were split already; see :func:`fit` for the rest.

    Args:
        split: Patches that fit the flow, stop it, and become its reference.
        out: The weights file to write.
        backbone: As of :func:`fit`.
        groups: Slide, patient or source image of each patch, the units of the reference.
        kinds: The kind of tissue of each patch, or how many kinds to look for; ``None`` finds them.
        settings: As of :func:`fit`.
        joint: As of :func:`fit`.
        card: As of :func:`fit`.
        reader: How images are read, cut and scaled.
        mpp: As of :func:`fit`.
        machine: As of :func:`fit`.
        resume: As of :func:`fit`.
        progress: As of :func:`fit`.

    """
    out = Path(out)
    if mpp is not None and not 0 < mpp < math.inf:
        raise RL2Error(f"The mpp is a resolution above 0 um/px, but got {mpp}.")
    if isinstance(kinds, int) and kinds < 1:
        raise RL2Error(f"The number of kinds is a whole number from 1, but got {kinds}. Leave it out to find kinds.")
    if settings.within_groups and not groups:
        raise RL2Error("A fit within groups needs groups, such as laboratories: on the command line, give --groups.")
    require_lightning("A fit")
    described = read_card(card)
    start = load_backbone(backbone)
    run = open_run(out, resume, describe(split, start, settings, joint, reader, kinds, groups))
    extractor = FeatureExtractor(start.preprocessing, dict(start.state_dict))
    extractor.to(feature_device(machine.accelerator))
    trained: dict[str, Any] | None = None
    if joint:
        from torchmetrics_rl2.fitting.joint import train_joint

        with kept_for_resume(run, "*.ckpt", "trained"):
            start, trained = train_joint(
                start, extractor, split, reader, settings, joint, run=run, machine=machine, progress=progress
            )
    features = features_of_split(extractor, split, reader, run, progress)
    # Without the differences between groups, images are the units that are known.
    units = names_of(features.fit_files, None if settings.within_groups else groups)
    try:
        features = features.within(groups) if settings.within_groups and groups else features
        features.check_varies()
        found = kinds_of_fit(features.fit, features.fit_files, units, kinds, settings.seed, progress)
        if settings.within_groups:
            check_apart_within(found, names_of(features.fit_files, groups))
    except RL2Error:
        remove_run(run)
        raise
    fitted = fit_flow(features, found, settings, run, machine, progress)
    warned = features.warnings
    count = min(max(len(features.fit) // 60, 8), 32)  # about four times as many passes as features take
    files = features.fit_files
    signatures = measure_signatures(fitted.flow, extractor, files, reader, progress, count=count, pairs=PAIRS)
    if len(found) > 1:
        leaks = measure_leaks(fitted.flow, features.fit, found, units, signatures)
        fitted.flow.base.leaks.copy_(torch.tensor(leaks))
        warned += leak_sentences(*leaks)
    if isinstance(kinds, Mapping):
        labels = names_of(features.reference_files, kinds)
        warned += confused_kinds(fitted.flow, features.reference, labels, found.names)
    history = {
        "backbone": start.name,
        "n_fit": len(features.fit),
        "n_stop": len(features.stop),
        "n_unreadable": len(features.unreadable),
        "tile": reader.tile,
        "scale": reader.scale,
        "train": "joint" if joint else "flow",
        **({"joint": trained} if trained else {}),
        "settings": asdict(settings),
        "kinds": {"count": len(found), "prediction_strength": {str(k): v for k, v in found.strengths.items()}},
        "epochs": fitted.epochs,
        "gaussian_log_likelihood": fitted.gaussian,
        "held_out_log_likelihood": fitted.held_out,
        "versions": versions(),
    }
    weights = Weights(
        # The backbone's own px and mpp say nothing of these patches.
        replace(start.preprocessing, px=features.px, mpp=mpp),
        start.state_dict,
        fitted.flow.config,
        fitted.flow.state_dict(),
        reference_of(fitted.flow, features.reference, names_of(features.reference_files, groups) if groups else None),
        {**described, **({"kinds": fitted.kinds} if fitted.kinds else {}), "fit": history},
        signatures=signatures,
    )
    if is_rank_zero():
        write_weights(weights, out)
        remove_run(run)
        if fitted.kinds:
            with suppress(RL2Error, OSError):  # of images that are gone by now; the weights are written
                draw_kinds(fitted.kinds, fitted.typical, reader, kinds_picture(out))
        _calibrate_beside(split, out, groups, reader, mpp, extractor.device, progress)
    return FitResult(
        out=str(out),
        weights_id=weights.weights_id,
        n_fit=len(features.fit),
        n_stop=len(features.stop),
        n_reference=len(features.reference),
        epochs=fitted.epochs,
        gaussian=fitted.gaussian,
        held_out=fitted.held_out,
        unreadable=features.unreadable,
        kinds=fitted.kinds,
        joint=trained,
        warnings=warned,
    )


def _calibrate_beside(
    split: Split,
    out: Path,
    groups: Mapping[Path, str] | None,
    reader: ImageReader,
    mpp: float | None,
    device: torch.device,
    progress: Progress | None,
) -> None:
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
