"""Two sides compared: what a score is made of, once their images are found."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from torchmetrics_rl2.distance.comparing import compare, domain_shift
from torchmetrics_rl2.distance.details import MAX_DOMAIN_SHIFT
from torchmetrics_rl2.distance.result import RL2Result
from torchmetrics_rl2.distance.statistics import Statistics
from torchmetrics_rl2.encoder.encoder import LatentEncoder
from torchmetrics_rl2.encoder.own import OwnEncoder
from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.explaining.images import SeenImages
from torchmetrics_rl2.images.reader import ImageReader
from torchmetrics_rl2.runtime import Progress, versions
from torchmetrics_rl2.scoring.comparability import Appearance, asymmetries, different_px, same_groups
from torchmetrics_rl2.scoring.copies import CopySearch
from torchmetrics_rl2.scoring.diversity import Thumbnails, add_diversity
from torchmetrics_rl2.scoring.duplicates import copied_sentences
from torchmetrics_rl2.scoring.encoding import Encoding
from torchmetrics_rl2.scoring.measuring import Watch, measure, sentences_on, settings_of
from torchmetrics_rl2.scoring.outliers import Outliers
from torchmetrics_rl2.scoring.scored import Scored
from torchmetrics_rl2.scoring.sources import ImageSource, images_of
from torchmetrics_rl2.scoring.strata import Strata, add_strata
from torchmetrics_rl2.weights.signatures import Signatures

__all__ = ["Sides", "scored_of"]

NAMES = {"real": "real", "fake": "generated"}


@dataclass(frozen=True)
class Sides:
    """What is to be compared, and how.

    Args:
        found: Images and statistics of ``real``, if there are any, and ``fake``.
        how: How images become latents.
        by: What strata are by, or empty.
        strata: Of each side, if these are asked for.
        copies: What searches for copies, if held-out images are given.
        explain: Whether to say why.

    """

    found: Mapping[str, Sequence[Statistics | ImageSource]]
    how: Encoding
    by: str
    strata: Mapping[str, Strata]
    copies: CopySearch | None
    explain: bool

    @property
    def images(self) -> dict[str, list[ImageSource]]:
        """The images of each side, with those that are held out."""
        held_out = {"held-out": self.copies.held_out} if self.copies else {}
        return images_of({**self.found, **held_out})


def scored_of(asked: Sides, progress: Progress | None, report: Callable[[Scored], None] | None) -> RL2Result:
    """The distance between two sides, with all that was asked for.

    Args:
        asked: The sides.
        progress: Told of each batch.
        report: Given the result, and what it was found from.

    Raises:
        RL2Error: If a side has fewer than two images.

    """
    encoder, reader, copies = asked.how.encoder, asked.how.reader, asked.copies
    tiled = reader.tile is not None
    sides = {} if "real" in asked.found or not encoder else {"real": encoder.reference_statistics}
    appearances, outliers, seen = {"real": Appearance(), "fake": Appearance()}, None, None
    shown = {side: SeenImages(tiled) for side in asked.found} if asked.explain else {}
    thumbnails = {side: Thumbnails(parts, tiled) for side, parts in asked.found.items()}
    for side, parts in asked.found.items():
        watch: list[Watch] = [appearances[side].see, thumbnails[side].see]
        watch += [asked.strata[side].see] if asked.strata else []
        watch += [shown[side].see] if asked.explain else []
        watch += [partial(copies.see, side)] if copies else []
        if copies and side == "fake" and seen:
            copies.read_held_out(seen, progress)
        if side == "fake" and all(isinstance(one, ImageSource) for one in parts):
            outliers = Outliers(sides["real"].sums.sum / sides["real"].sums.count, tiled)
            watch.append(outliers.see)
        sides[side], seen = measure(parts, asked.how, progress, side, watch, seen)
        _check_several(sides[side], NAMES[side])
    copied = seen.copied if seen else []
    told = [
        *different_px(sides["real"], sides["fake"]),
        *same_groups(sides["real"], sides["fake"]),
        *asymmetries(appearances["real"], appearances["fake"]),
        *copied_sentences(copied, len(sides["fake"])),
        *(copies.warnings(sides["fake"]) if copies else []),
        *(sentence for side, name in NAMES.items() for sentence in sentences_on(sides[side], name)),
    ]
    result = compare(sides["real"], sides["fake"])
    if asked.strata:
        result = add_strata(result, asked.by, **asked.strata)
    if outliers:
        result = outliers.add_to(result, sides["real"].sums, sides["fake"].sums)
    if encoder and encoder.reference:
        shift = domain_shift(encoder.reference_statistics, sides["real"]) if "real" in asked.found else None
        result = replace(result, reference_data=encoder.reference_data, domain_shift=shift)
    signatures = None
    if asked.explain and encoder:
        files = [path for one in asked.images.get("real", []) for path in one.paths]
        result, signatures = _explain(result, sides, encoder, files, reader, shown)
    result = add_diversity(result, thumbnails["fake"], thumbnails.get("real"))
    if copies:
        result = replace(result, copies=copies.result())
    settings = settings_of(reader, encoder)
    result = replace(result, warnings=told, copied=copied, settings=settings, versions=versions())
    if report:
        formats = {side: appearance.formats for side, appearance in appearances.items()}
        report(Scored(result, sides, shown, formats, signatures, reader, encoder))
    return result


def _check_several(statistics: Statistics, side: str) -> None:
    if len(statistics) < 2:
        raise RL2Error(
            f"RL2 compares sets of images, but {statistics.source} gave {len(statistics)} {side} image(s) "
            f"({len(statistics.unreadable)} could not be read, {len(statistics.left_out)} other files were left "
            "out); expected at least 2 on each side."
        )


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
