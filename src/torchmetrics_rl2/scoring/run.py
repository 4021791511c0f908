"""Statistics of images, and RL2 between two sets of them: what ``rl2 stats`` and ``rl2 score`` do, from Python."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from torchmetrics_rl2.distance.result import RL2Result
from torchmetrics_rl2.distance.statistics import Statistics
from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.progress import reports_progress
from torchmetrics_rl2.ranks import Ranks
from torchmetrics_rl2.runtime import Progress
from torchmetrics_rl2.scoring.copies import copy_search
from torchmetrics_rl2.scoring.encoding import Encoding
from torchmetrics_rl2.scoring.keeping import kept_in
from torchmetrics_rl2.scoring.measuring import encoder_for, image_reader, measure, sentences_on
from torchmetrics_rl2.scoring.scored import Scored
from torchmetrics_rl2.scoring.sides import Sides, scored_of
from torchmetrics_rl2.scoring.sources import ImageSource, Source, find_sources, images_of
from torchmetrics_rl2.scoring.strata import Strata, check_strata, classes_of, strata_of

__all__ = ["compute_statistics", "score"]


@reports_progress
def compute_statistics(
    source: Source | Sequence[Source],
    *,
    groups: str | Path | None = None,
    classes: str | Path | None = None,
    weights: str | Path | nn.Module = "histology",
    tile: int | None = None,
    scale: float | None = None,
    batch_size: int = 64,
    workers: int | None = None,
    device: str | torch.device | None = None,
    skip_unreadable: bool = False,
    resume: str | Path | None = None,
    distributed: bool = False,
    progress: Progress | bool | None = None,
) -> Statistics:
    """Statistics of images, to save, merge and compare.

    Args:
        source: A folder, a glob, a text file of paths, one image, tar, Parquet or Arrow files, a ``Dataset`` or
            ``IterableDataset`` of Hugging Face, a file of statistics, or several of these, which are merged.
        groups: What is independent of what: ``"parent"`` for the folders that images are in, such as slides,
            ``"file"`` for the files, whose tiles stay together, or a CSV with the columns ``path`` and ``group``.
            ``None`` takes all images as independent.
        classes: The class of each image, such as tissue, stain or label, to compare class by class later: ``"parent"``
            for the name of the folder an image is in, or a CSV with the columns ``path`` and ``class``. The statistics
            of each class are kept beside those of all images: 2.1 MB a class, or 4 kB for each group of it. At most 100
            classes.
        weights: Name or path of weights, an encoder that has them, or a module of your own with ``num_features``, see
            :class:`ResNetL2`; statistics alone bring their own.
        tile: Cut images into tiles of this side, in pixels.
        scale: Resize by this factor before, antialiased.
        batch_size: Images a batch.
        workers: Processes that read ahead; by default none on a CPU, else up to 8.
        device: Where to compute; by default a GPU if there is one.
        skip_unreadable: Leave out files that cannot be read, and say so in the statistics.
        resume: A folder, new or of the same run before, in which what was computed is kept as work goes on, 2 kB an
            image. After whatever ended the run, the same call goes on from there, and gives the
            same. The folder stays when the run is done.
        distributed: Whether all processes of the initialized ``torch.distributed`` call this together and share out
            the files. All get the statistics that one process would get. On several machines, ``resume`` is
            a folder that all see.
        progress: ``True`` for bars and ``False`` for none; by default bars in a terminal and in a notebook. Or a
            function, called with ``"images"``, files read, files in all (0 if nobody knows), and
            images since the last call.

    Raises:
        RL2Error: If a source has no images, one cannot be read, statistics are of other weights, or some sources have
            classes and some not.

    Example:
        >>> from torchmetrics_rl2 import compute_statistics
        >>> real = compute_statistics("examples/cmu/reference")
        >>> len(real), real.weights
        (40, 'histology@2')

        With the name of its folder as the class of each image:

        >>> both = compute_statistics(["examples/cmu/clean", "examples/cmu/reference"], classes="parent")
        >>> {name: len(one) for name, one in both.classes.items()}
        {'clean': 40, 'reference': 40}

    """
    assert not isinstance(progress, bool)  # which @reports_progress takes
    ranks = Ranks(distributed)

    def prepare() -> tuple[list[Statistics | ImageSource], Encoding, Strata | None]:
        found = find_sources(source, groups, classes)
        reader = image_reader(tile, scale, batch_size, workers, device, skip_unreadable, ranks.local)
        encoder = encoder_for(found, weights, device)
        return found, Encoding(encoder, reader), classes_of(found, encoder)

    def measured() -> Statistics:
        statistics, _ = measure(found, how, told, "images", [by_class.see] if by_class else [])
        return replace(statistics, classes=by_class.statistics) if by_class else statistics

    found, how, by_class = ranks.all(prepare)
    with kept_in(resume, how, images_of({"images": found}), ranks, progress) as told:
        statistics = ranks.first(measured)
    for sentence in sentences_on(statistics) if ranks.rank == 0 else []:
        warnings.warn(sentence, stacklevel=3)
    return statistics


@reports_progress
def score(
    fake: Source | Sequence[Source],
    real: Source | Sequence[Source] | None = None,
    *,
    held_out: Source | Sequence[Source] | None = None,
    weights: str | Path | nn.Module = "histology",
    real_groups: str | Path | None = None,
    fake_groups: str | Path | None = None,
    by: str | None = None,
    real_classes: str | Path | None = None,
    fake_classes: str | Path | None = None,
    explain: bool = False,
    tile: int | None = None,
    scale: float | None = None,
    batch_size: int = 64,
    workers: int | None = None,
    device: str | torch.device | None = None,
    skip_unreadable: bool = False,
    resume: str | Path | None = None,
    distributed: bool = False,
    report: Callable[[Scored], None] | None = None,
    progress: Progress | bool | None = None,
) -> RL2Result:
    r"""RL2 between generated and real images, with its uncertainty.

    .. math:: \mathrm{RL2} = \lVert \bar z_r - \bar z_g \rVert_2

    Args:
        fake: Generated images: a folder, a glob, a text file of paths, one file, tar, Parquet or Arrow files, a
            ``Dataset`` or ``IterableDataset`` of Hugging Face, a file of statistics, or several of these, which are
            merged.
        real: Real images in the same forms, or ``None`` for the reference inside the weights.
        held_out: Real images that the generator was not given, from the same source as ``real``, which then has to be
            those it was trained on: also say whether generated images are copies of these, see
            :func:`~torchmetrics_rl2.distance.find_copies`. At least 20; ``real_groups`` are theirs too. Each image is
            encoded twice, and 4 kB of it are kept.
        weights: Name or path of weights, an encoder that has them, or a module of your own with ``num_features``, see
            :class:`ResNetL2`.
        real_groups: What is independent among real images: ``"parent"`` for the folders that they are in, such as
            slides, ``"file"`` for the files, or a CSV with the columns ``path`` and ``group``. ``None`` takes all
            patches as independent, which patches of one slide are not.
        fake_groups: The same for generated images; ``"file"`` if each was generated by itself.
        by: ``"kinds"`` also compares both sides within each kind of tissue of the weights, of which each image has its
            most probable one. Images between two kinds pass from one to the other if the shares of kinds differ, or if
            damage changes what they look like; a kind that a side has few images of is the first to differ so.
            ``"classes"`` compares them within each class, where both sides are statistics that have classes.
        real_classes: Also compare both sides within each class, of a conditional generator: ``"parent"`` for the name
            of the folder an image is in, or a CSV with the columns ``path`` and ``class``. Statistics have their own.
        fake_classes: The same for generated images: the class that each was asked to be of.
        explain: Also say which known damage look is explained by and how much of it, and which generated images hold
            most of RL2. Keeps the latents of all images, 2 kB each.
        tile: Cut images into tiles of this side, in pixels.
        scale: Resize by this factor before, antialiased.
        batch_size: Images a batch; the value depends on it by rounding alone.
        workers: Processes that read ahead; by default none on a CPU, else up to 8.
        device: Where to compute; by default a GPU if there is one.
        skip_unreadable: Leave out files that cannot be read, and say so in the result.
        resume: A folder, new or of the same run before, in which what was computed is kept as work goes on, 2 kB an
            image, and 4 kB with ``held_out``. After whatever ended the run, the same call goes on from there, and gives
            the same. The folder stays when the run is done.
        distributed: Whether all processes of the initialized ``torch.distributed`` call this together and share out
            the files. All get the result that one process would get. On several machines, ``resume`` is
            a folder that all see.
        report: Given the result and what it was found from, such as
            :func:`report_to("out.html") <torchmetrics_rl2.reporting.report_to>`. With it, ``explain`` is ``True``.
        progress: ``True`` for bars and ``False`` for none; by default bars in a terminal and in a notebook. Or a
            function, called with ``"real"``, ``"held-out"`` or ``"fake"``, files read, files in all, and images since
            the last call.

    Returns:
        The distance, how many times that of real images it is, how far to trust it, which images lie furthest from the
        real ones, and how it was measured. What makes the sides differ before any network sees them is also warned of.

    Raises:
        RL2Error: If a source has fewer than two images, one cannot be read, or the weights are not what they should be.

    Example:
        >>> from torchmetrics_rl2 import score
        >>> result = score("examples/cmu/clean", "examples/cmu/reference")
        >>> result.n_fake, result.weights, 2 < result.baseline_multiple < 4
        (40, 'histology@2', True)

    """
    assert not isinstance(progress, bool)  # which @reports_progress takes
    ranks = Ranks(distributed)

    def prepare() -> Sides:
        strata_by = check_strata(by, real, real_classes, fake_classes)
        found = {} if real is None else {"real": find_sources(real, real_groups, real_classes)}
        if real is None and real_groups is not None:
            raise RL2Error(
                "The groups of the reference inside the weights are those it was made with; give real images."
            )
        found["fake"] = find_sources(fake, fake_groups, fake_classes)
        reader = image_reader(tile, scale, batch_size, workers, device, skip_unreadable, ranks.local)
        every, explained = [one for parts in found.values() for one in parts], explain or report is not None
        how = Encoding(encoder_for(every, weights, device, always=real is None or explained), reader)
        strata, copies = strata_of(found, strata_by, how.encoder), copy_search(held_out, found, real_groups, how)
        how.soft = copies is not None
        return Sides(found, how, strata_by, strata, copies, explained)

    sides = ranks.all(prepare)
    with kept_in(resume, sides.how, sides.images, ranks, progress) as told:
        result = ranks.first(lambda: scored_of(sides, told, report))
    for sentence in result.warnings if ranks.rank == 0 else []:
        warnings.warn(sentence, stacklevel=3)
    return result
