"""The page of a score."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from torchmetrics_rl2.distance.copies_result import CopyPair
from torchmetrics_rl2.distance.details import interval_units, why_no_interval
from torchmetrics_rl2.distance.explanation import Explanation, ImageShare
from torchmetrics_rl2.distance.result import RL2Result
from torchmetrics_rl2.distance.text import identity_text, three_digits, times
from torchmetrics_rl2.images.sampling import evenly
from torchmetrics_rl2.reporting import sections
from torchmetrics_rl2.reporting.citing import citation_of
from torchmetrics_rl2.reporting.heat import OTHER_SIZES, heat_of, why_no_heat
from torchmetrics_rl2.reporting.layout import page_from, settings_table
from torchmetrics_rl2.reporting.pictures import Picture, pictures_of
from torchmetrics_rl2.reporting.sections import Pair
from torchmetrics_rl2.scoring.scored import Scored

__all__ = ["page_of_score"]

PICTURES = 200
"""Images of a side that have a picture on hover, at most."""

MAX_NAME = 80
CLOSEST = 12
SHOWN = 6
"""Images of a list that are not folded away."""


def page_of_score(scored: Scored) -> str:
    """All of a page, as HTML.

    Args:
        scored: A result, explained, with what it was found from.

    """
    result, pictures = scored.result, _pictures(scored)
    short = {side: _short(scored.seen[side].names) if side in scored.seen else {} for side in pictures}
    found = result.explanation or Explanation()
    no_heat = why_no_heat(scored)
    heat = {} if no_heat or not found.images else heat_of(scored, [image.image for image in found.images])
    worst = [replace(_pair(one, result, pictures, short), places=heat.get(one.image, "")) for one in found.images]
    groups = [
        ("Generated images that hold most of RL2", worst),
        ("Typical generated images", [_pair(image, result, pictures, short) for image in found.typical]),
    ]
    if result.copies:
        closest = result.copies.pairs[:CLOSEST]
        groups.append(
            ("Generated images closest to a training image", [_close(pair, pictures, short) for pair in closest])
        )
    shown = {
        "parts": sections.parts(result),
        "cause": sections.cause(scored),
        "kinds": sections.kinds(result),
        "plane": sections.plane(scored, pictures, short),
        "sides": sections.sides(scored),
    }
    headline = str(result).splitlines()[0]
    made = {
        "Weights": f"{result.weights} ({identity_text(result.weights_id)})",
        "Data of the weights": result.reference_data or "unknown",
    }
    return page_from(
        "score.html",
        shown,
        title=f"{headline} (RL2 {three_digits(result.value)})",
        subject=f"RL2 of {result.fake} against {result.real}",
        headline=headline,
        facts=_facts(result),
        sentences=_sentences(result),
        groups=groups,
        shown=SHOWN,
        images_withheld=found.withheld.get("images", ""),
        images_note=sections.images_note(result),
        has_places=bool(heat),
        places_withheld=no_heat or ("" if heat else OTHER_SIZES),
        details=result.details().splitlines(),
        settings=settings_table(made, result.settings, result.versions),
        citation=citation_of(result),
    )


def _sentences(result: RL2Result) -> list[str]:
    """What the text says after its first line, without what has a section of its own."""
    return str(replace(result, explanation=None, kinds=[], strata_by="")).splitlines()[1:]


def _facts(result: RL2Result) -> list[tuple[str, str, str]]:
    """The numbers of the head: name, value and what it is."""
    facts = [("RL2", three_digits(result.value), "lower is closer")]
    if result.baseline_multiple is not None:
        facts.append(
            ("Times the baseline", f"{times(result.baseline_multiple)}x", "1x: two random samples of the real images")
        )
    if result.interval is None:
        facts.append(("95 % interval", "none", why_no_interval(result)))
    else:
        low, high = map(three_digits, result.interval)
        debiased = f"of the debiased value, {three_digits(result.debiased)}, {interval_units(result)}"
        facts.append(("95 % interval", f"{low} to {high}", debiased))
    facts.append(("Images", f"{result.n_fake:,} against {result.n_real:,}", "generated against real"))
    return facts


def _pictures(scored: Scored) -> dict[str, dict[str, Picture]]:
    """Of each side: the worst and typical images with their nearest, and others, evenly spread."""
    found = scored.result.explanation or Explanation()
    images: list[ImageShare | CopyPair] = [*found.images, *found.typical]
    images += scored.result.copies.pairs[:CLOSEST] if scored.result.copies else []
    close = {"fake": [image.image for image in images], "real": [image.nearest for image in images if image.nearest]}
    pictures: dict[str, dict[str, Picture]] = {"real": {}, "fake": {}}
    for side, seen in scored.seen.items():
        large = set(close[side])
        names = large | set(evenly(seen.names, max(0, PICTURES - len(large))))
        pictures[side] = pictures_of(names, large, seen, scored.reader)
    return pictures


def _pair(
    image: ImageShare,
    result: RL2Result,
    pictures: Mapping[str, Mapping[str, Picture]],
    short: Mapping[str, Mapping[str, str]],
) -> Pair:
    return _beside(sections.image_text(image, result), image, pictures, short)


def _close(
    pair: CopyPair, pictures: Mapping[str, Mapping[str, Picture]], short: Mapping[str, Mapping[str, str]]
) -> Pair:
    copy = ", a copy" if pair.is_copy else ""
    text = f"{pair.relative_distance:.2f} of the distance of the median held-out image{copy}"
    return _beside(text, pair, pictures, short)


def _beside(
    text: str,
    image: ImageShare | CopyPair,
    pictures: Mapping[str, Mapping[str, Picture]],
    short: Mapping[str, Mapping[str, str]],
) -> Pair:
    def large(side: str, name: str) -> str:
        return pictures[side][name].large if name in pictures[side] else ""

    return Pair(
        text,
        short["fake"].get(image.image, image.image),
        large("fake", image.image),
        short["real"].get(image.nearest, image.nearest),
        large("real", image.nearest),
    )


def _short(names: Sequence[str]) -> dict[str, str]:
    """Names without the folder that all of them are in."""
    folders = {str(Path(name).parent) for name in names}
    try:
        common = os.path.commonpath(folders) if folders else ""
    except ValueError:  # on two drives, or absolute and relative
        common = ""
    short = {name: os.path.relpath(name, common) if common else name for name in names}
    return {name: one if len(one) <= MAX_NAME else f"...{one[-MAX_NAME:]}" for name, one in short.items()}
