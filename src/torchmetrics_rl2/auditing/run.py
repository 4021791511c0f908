"""What a set of weights can and cannot detect, measured on images it has not met."""

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from torchmetrics_rl2.auditing.checks import OutlierImages, read_outliers
from torchmetrics_rl2.auditing.measuring import measured
from torchmetrics_rl2.auditing.result import AuditResult
from torchmetrics_rl2.auditing.subject import MIN_IMAGES, Subject
from torchmetrics_rl2.encoder.encoder import LatentEncoder
from torchmetrics_rl2.encoder.own import OwnEncoder
from torchmetrics_rl2.encoder.sharing import any_encoder_of, identity_of
from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.images.find import text_of
from torchmetrics_rl2.images.hub_datasets import ImageDataset
from torchmetrics_rl2.images.reader import ImageReader
from torchmetrics_rl2.pixels.degradations import LADDERS
from torchmetrics_rl2.progress import reports_progress
from torchmetrics_rl2.ranks import Ranks
from torchmetrics_rl2.runtime import Progress, default_workers, versions

__all__ = ["audit"]


@reports_progress
def audit(
    weights: str | Path | nn.Module,
    images: str | Path | ImageDataset,
    *,
    groups: str | Path | None = None,
    kinds: str | Path | None = None,
    outliers: str | Path | None = None,
    ladders: Sequence[str] | None = None,
    limit: int = 120,
    tile: int | None = None,
    scale: float | None = None,
    seed: int = 0,
    workers: int | None = None,
    device: str | torch.device | None = None,
    skip_unreadable: bool = False,
    distributed: bool = False,
    progress: Progress | bool | None = None,
) -> AuditResult:
    """Damage clean images in rising severity, and see what the weights make of it.

    The images are split into two halves that share no unit. RL2 and its test compare the damaged second half with the
    clean first one, as a user compares generated with real images. The AUC compares the likelihoods of all damaged with
    all clean images; the two simpler models beside it are fitted to the half that they do not judge.

    If the weights have kinds of tissue, damage is judged by look, since chance in content drowns weak damage in the
    whole of RL2. Sets of another composition are then drawn from the images too, to see which content detects, and how
    much damage moves content and composition look.

    Args:
        weights: Name or path of weights, an encoder that has them, or a module of your own, which has no flow: a
            Gaussian of its latents stands in for it.
        images: Clean real images that neither fitted nor stopped the weights: a folder, a glob, a text file of
            paths, tar or Parquet files, or a ``datasets.Dataset``.
        groups: What is independent of what: ``"parent"``, ``"file"`` or a CSV with the columns ``path`` and ``group``;
            by default files are.
        kinds: The kind of tissue of each image, for sets of another composition: ``"parent"``, the names of the folders
            that images are in, or a CSV with the columns ``path`` and ``kind``; by default the most probable kind under
            the weights.
        outliers: Images that do not belong, to mix in; without it, the images themselves under the widest pen stroke.
        ladders: Names of :data:`~torchmetrics_rl2.pixels.LADDERS`, all by default.
        limit: Images to use at most, drawn by ``seed``.
        tile: Cut images into tiles of this side, in pixels; larger images give fields for coarser magnification too.
        scale: Resize by this factor before, antialiased.
        seed: Of the draw, the halves and the damage.
        workers: Processes that read ahead.
        device: Where to compute; by default a GPU if there is one.
        skip_unreadable: Leave out files that cannot be read.
        distributed: Whether all processes of the initialized ``torch.distributed`` call this together and share out
            the ladders. The first reads the images and sends them; all return the result that one process would.
        progress: ``True`` for bars and ``False`` for none; by default bars in a terminal and in a notebook. Or a
            function, called with what is being done, how much is done, how much there is, and images encoded since.

    Raises:
        RL2Error: If there are fewer than 8 images or two units, the images differ in size, or a ladder is unknown.

    Example:
        >>> from torchmetrics_rl2 import audit
        >>> found = audit("lung-colon", "examples/cmu/reference", ladders=["salt and pepper"], limit=16)
        >>> found.ladders[0].name, found.ladders[0].verdict
        ('salt and pepper', 'detects')

    """
    assert not isinstance(progress, bool)  # which @reports_progress takes
    ranks = Ranks(distributed)

    def prepare() -> tuple[list[str], LatentEncoder | OwnEncoder]:
        names = _known(ladders)
        if limit < MIN_IMAGES:
            raise RL2Error(f"An audit needs at least {MIN_IMAGES} images, but got a limit of {limit}.")
        return names, any_encoder_of(weights, device)

    names, encoder = ranks.all(prepare)
    ranks.agree({"weights": identity_of(encoder), "ladders": ", ".join(names), "seed": str(seed), **versions()})

    def read() -> tuple[Subject, OutlierImages | None]:
        readers = default_workers(workers, encoder.device)
        reader = ImageReader(tile, scale, workers=readers, skip_unreadable=skip_unreadable)
        found = Subject.read(images, groups, reader, limit, seed, kinds)
        encoder.warn_of_other_px(found.images)
        return found, None if outliers is None else read_outliers(outliers, reader, limit)

    subject, mixed_in = ranks.first(read)
    found = measured(encoder, subject, mixed_in, names, seed, ranks, progress)
    return ranks.first(
        lambda: AuditResult(
            weights=encoder.name,
            weights_id=encoder.weights_id,
            images=text_of(images),
            n=len(subject.images),
            units=len(set(subject.units)),
            px=subject.px,
            unreadable=subject.unreadable,
            left_out=subject.left_out,
            settings={
                "kinds": None if kinds is None else os.fspath(kinds),
                "limit": limit,
                "tile": tile,
                "scale": scale,
                "seed": seed,
                "device": str(encoder.device),
            },
            versions=versions(),
            **found,
        )
    )


def _known(ladders: Sequence[str] | None) -> list[str]:
    """Names of ladders, each once."""
    names = list(LADDERS if ladders is None else dict.fromkeys(ladders))
    unknown = [name for name in names if name not in LADDERS]
    if unknown or not names:
        raise RL2Error(
            f"There is no ladder {', '.join(map(repr, unknown)) or 'to climb'}; known are {', '.join(LADDERS)}."
        )
    return names
