"""Statistics of images, and RL2 between two sets of them: what ``rl2 stats`` and ``rl2 score`` do, from Python."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import nn

from torchmetrics_rl2.distance.comparing import compare, domain_shift
from torchmetrics_rl2.distance.details import MAX_DOMAIN_SHIFT
from torchmetrics_rl2.distance.result import RL2Result
from torchmetrics_rl2.distance.statistics import Statistics
from torchmetrics_rl2.encoder.encoder import LatentEncoder
from torchmetrics_rl2.encoder.own import OwnEncoder
from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.explaining.images import SeenImages
from torchmetrics_rl2.images.reader import ImageReader
from torchmetrics_rl2.progress import reports_progress
from torchmetrics_rl2.runtime import Progress, versions
from torchmetrics_rl2.scoring.comparability import Appearance, asymmetries, different_px
from torchmetrics_rl2.scoring.copies import copy_search
from torchmetrics_rl2.scoring.duplicates import copied_sentences
from torchmetrics_rl2.scoring.measuring import Watch, encoder_for, image_reader, measure, sentences_on, settings_of
from torchmetrics_rl2.scoring.outliers import Outliers
from torchmetrics_rl2.scoring.scored import Scored
from torchmetrics_rl2.scoring.sources import ImageSource, Source, find_sources
from torchmetrics_rl2.scoring.strata import add_strata, check_strata, strata_of
from torchmetrics_rl2.weights.signatures import Signatures

__all__ = ["compute_statistics", "score"]

NAMES = {"real": "real", "fake": "generated"}


@reports_progress
def compute_statistics(
    source: Source | Sequence[Source],
    *,
    groups: str | Path | None = None,
    weights: str | Path | nn.Module = "histology",
    tile: int | None = None,
    scale: float | None = None,
    batch_size: int = 64,
    workers: int | None = None,
    device: str | torch.device | None = None,
    skip_unreadable: bool = False,
    progress: Progress | bool | None = None,
) -> Statistics:
    """Statistics of images, to save, merge and compare.

    Args:
        source: A folder, a glob, a text file of paths, one image, tar, Parquet or Arrow files, a ``Dataset`` or
            ``IterableDataset`` of Hugging Face, a file of statistics, or several of these, which are merged.
        groups: What is independent of what: ``"parent"`` for the folders that images are in, such as slides,
            ``"file"`` for the files, whose tiles stay together, or a CSV with the columns ``path`` and ``group``.
            ``None`` takes all images as independent.
        weights: Name or path of weights, an encoder that has them, or a module of your own with ``num_features``, see
            :class:`ResNetL2`; statistics alone bring their own.
        tile: Cut images into tiles of this side, in pixels.
        scale: Resize by this factor before, antialiased.
        batch_size: Images a batch.
        workers: Processes that read ahead; by default none on a CPU, else up to 8.
        device: Where to compute; by default a GPU if there is one.
        skip_unreadable: Leave out files that cannot be read, and say so in the statistics.
        progress: ``True`` for bars and ``False`` for none; by default bars in a terminal and in a notebook. Or a
            function, called with ``"images"``, files read, files in all (0 if nobody knows), and
            images since the last call.

    Raises:
        RL2Error: If a source has no images, one cannot be read, or statistics are of other weights.

    Example:
        >>> from torchmetrics_rl2 import compute_statistics
        >>> real = compute_statistics("examples/cmu/reference")
        >>> len(real), real.weights
        (40, 'histology@2')

    """
    assert not isinstance(progress, bool)  # which @reports_progress takes
    found = find_sources(source, groups)
    reader = image_reader(tile, scale, batch_size, workers, device, skip_unreadable)
    statistics, _ = measure(found, encoder_for(found, weights, device), reader, progress, "images")
    for sentence in sentences_on(statistics):
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
        real_classes: Also compare both sides within each class, of a conditional generator: ``"parent"`` for the name
            of the folder an image is in, or a CSV with the columns ``path`` and ``class``.
        fake_classes: The same for generated images: the class that each was asked to be of.
        explain: Also say which known damage look is explained by and how much of it, and which generated images hold
            most of RL2. Keeps the latents of all images, 2 kB each.
        tile: Cut images into tiles of this side, in pixels.
        scale: Resize by this factor before, antialiased.
        batch_size: Images a batch; the value does not depend on it.
        workers: Processes that read ahead; by default none on a CPU, else up to 8.
        device: Where to compute; by default a GPU if there is one.
        skip_unreadable: Leave out files that cannot be read, and say so in the result.
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
    explain = explain or report is not None
    strata_by = check_strata(by, real, real_classes, fake_classes)
    found = {} if real is None else {"real": find_sources(real, real_groups, real_classes)}
    if real is None and real_groups is not None:
        raise RL2Error("The groups of the reference inside the weights are those it was made with; give real images.")
    found["fake"] = find_sources(fake, fake_groups, fake_classes)
    reader = image_reader(tile, scale, batch_size, workers, device, skip_unreadable)
    encoder = encoder_for(
        [one for parts in found.values() for one in parts], weights, device, always=real is None or explain
    )
    sides = {"real": encoder.reference_statistics} if real is None and encoder else {}
    strata = strata_of(found, strata_by, encoder)
    copies = copy_search(held_out, found, real_groups, encoder, reader)
    appearances, outliers, seen = {"real": Appearance(), "fake": Appearance()}, None, None
    shown = {side: SeenImages(tile is not None) for side in found} if explain else {}
    for side, parts in found.items():
        watch: list[Watch] = [appearances[side].see, *([strata[side].see] if strata else [])]
        watch += [shown[side].see] if explain else []
        watch += [partial(copies.see, side)] if copies else []
        if copies and side == "fake" and seen:
            copies.read_held_out(seen, progress)
        if side == "fake" and all(isinstance(one, ImageSource) for one in parts):
            outliers = Outliers(sides["real"].sums.sum / sides["real"].sums.count, tiled=tile is not None)
            watch.append(outliers.see)
        sides[side], seen = measure(parts, encoder, reader, progress, side, watch, seen)
        statistics = sides[side]
        if len(statistics) < 2:
            raise RL2Error(
                f"RL2 compares sets of images, but {statistics.source} gave {len(statistics)} {NAMES[side]} image(s) "
                f"({len(statistics.unreadable)} could not be read, {len(statistics.left_out)} other files were left "
                "out); expected at least 2 on each side."
            )
    copied = seen.copied if seen else []
    told = [
        *different_px(sides["real"], sides["fake"]),
        *asymmetries(appearances["real"], appearances["fake"]),
        *copied_sentences(copied, len(sides["fake"])),
        *(copies.warnings(sides["fake"]) if copies else []),
        *(sentence for side, name in NAMES.items() for sentence in sentences_on(sides[side], name)),
    ]
    for sentence in told:
        warnings.warn(sentence, stacklevel=3)
    result = compare(sides["real"], sides["fake"])
    if strata:
        result = add_strata(result, strata_by, **strata)
    if outliers:
        result = outliers.add_to(result, sides["real"].sums, sides["fake"].sums)
    if encoder and encoder.reference:
        shift = None if real is None else domain_shift(encoder.reference_statistics, sides["real"])
        result = replace(result, reference_data=encoder.reference_data, domain_shift=shift)
    signatures = None
    if explain and encoder:
        files = [path for one in found.get("real", []) if isinstance(one, ImageSource) for path in one.paths]
        result, signatures = _explain(result, sides, encoder, files, reader, shown)
    settings = settings_of(reader, encoder)
    if copies:
        result = replace(result, copies=copies.result())
    result = replace(result, warnings=told, copied=copied, settings=settings, versions=versions())
    if report:
        formats = {side: appearance.formats for side, appearance in appearances.items()}
        report(Scored(result, sides, shown, formats, signatures, reader, encoder))
    return result


def _explain(
    result: RL2Result,
    sides: Mapping[str, Statistics],
    encoder: LatentEncoder | OwnEncoder,
    files: Sequence[Path],
    reader: ImageReader,
    shown: Mapping[str, SeenImages],
) -> tuple[RL2Result, Signatures | None]:
    """A result with its explanation, and the signatures behind that."""
    from torchmetrics_rl2.explaining.own import measure_of
    from torchmetrics_rl2.explaining.run import explain

    used = encoder.signatures
    own = measure_of(encoder, files, reader) if (result.domain_shift or 0.0) > MAX_DOMAIN_SHIFT else None

    def measured(steps: Sequence[tuple[str, float]], count: int) -> Signatures:
        nonlocal used
        assert own is not None
        used = own(steps, count)
        return used

    result = explain(result, sides["real"], sides["fake"], used, shown, measured if own else None)
    return result, used
