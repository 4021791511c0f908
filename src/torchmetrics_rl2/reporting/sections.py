"""What a page says of a score: sentences, charts and tables, and why something is not there."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from torchmetrics_rl2.distance.details import is_foreign, kind_sentences, part_text, why_no_interval
from torchmetrics_rl2.distance.explanation import Explanation, ImageShare, share_text
from torchmetrics_rl2.distance.result import RL2Result
from torchmetrics_rl2.distance.statistics import REFERENCE
from torchmetrics_rl2.distance.strata_result import strata_sentence
from torchmetrics_rl2.distance.text import NO_DIFFERENCE, percent, range_text, three_digits, times
from torchmetrics_rl2.explaining.matching import matches
from torchmetrics_rl2.reporting import charts
from torchmetrics_rl2.reporting.charts import SIDES
from torchmetrics_rl2.reporting.layout import Section, Table
from torchmetrics_rl2.reporting.pictures import Picture
from torchmetrics_rl2.reporting.plane import plane_of
from torchmetrics_rl2.scoring.comparability import MIN_IMAGES
from torchmetrics_rl2.scoring.scored import Scored

__all__ = ["Pair", "cause", "kinds", "parts", "plane", "sides"]

COMPARED = 4
NAMED = 3
REALS_NOT_SHOWN = "Real images are not shown: there are only sums of them."


@dataclass(frozen=True)
class Pair:
    """A generated image beside the nearest real one.

    Args:
        text: What it holds of RL2.
        name: Of the generated image.
        picture: Of it, as a data URI; empty where it cannot be read any more.
        nearest: Name of the real image.
        nearest_picture: The same of that.
        places: The generated image with what lies furthest from real ones in color; empty where that is not known.

    """

    text: str
    name: str
    picture: str
    nearest: str = ""
    nearest_picture: str = ""
    places: str = ""


def parts(result: RL2Result) -> Section:
    """How far the whole, look and content lie."""
    found = charts.parts_of(result)
    rows = []
    for name, part in found.items():
        interval = "unknown" if part.interval is None else range_text(part.interval)
        debiased = three_digits(part.debiased) if math.isfinite(part.debiased) else "unknown"
        numbers = [three_digits(part.value), debiased, interval]
        numbers += ["unknown" if part.baseline is None else three_digits(part.baseline)]
        numbers += ["unknown" if part.baseline_multiple is None else f"{times(part.baseline_multiple)}x"]
        limit = getattr(part, "limit", None)
        rows.append([name, *numbers, "none" if limit is None else three_digits(limit)])
    head = ["Part", "As measured", "Debiased", "95 % interval", "Baseline", "Times the baseline", "Limit"]
    sentences = [
        "Content is which tissue is shown, look is how it is shown; their squares add up to that of RL2. A part "
        "differs where its interval lies above its limit, as far as the other part may move it. Content may differ "
        "below it, too: a missing kind of tissue moves it little, but in a direction in which chance hardly does."
    ]
    one = result.content is None
    return Section(
        "How far" if one else "Content and look",
        [] if one else sentences,
        charts.parts_chart(result),
        "; ".join(part_text(name, part) for name, part in found.items()),  # type: ignore[arg-type]
        [
            ("dot fake", "debiased, with 95 % interval"),
            ("ring fake", "as measured; small samples add to it"),
            ("tick", "baseline: two random samples of the real images"),
            *([] if one else [("block", "limit: what the other part may move it by")]),
        ],
        [Table("Distances in latent space", head, rows)],
        withheld="RL2 has no parts: these weights have one kind of tissue." if one else "",
    )


def cause(scored: Scored) -> Section:
    """Known damage that explains look."""
    result, found = scored.result, scored.result.explanation or Explanation()
    title, sentences = "What explains look", found.cause_sentences()
    named = found.causes or ([found.closest] if found.closest else [])
    if not named or scored.signatures is None:
        return Section(title, withheld=_sentences(sentences))
    every = matches(scored.sides["real"], scored.sides["fake"], scored.signatures)
    first = [match for cause in named for match in every if match.damage == cause.damage]
    shown = [*first, *(match for match in every if match not in first)][:COMPARED]
    causes = Table(
        "Damage that explains look" if found.causes else "The closest damage, which does not explain look",
        ["Damage", "Amount", "95 % interval", "Unit", "Share explained"],
        [
            [one.damage, three_digits(one.amount), range_text(one.interval), one.unit, share_text(one.share)]
            for one in named
        ],
    )
    all_of_them = Table(
        "Each kind of damage by itself, at the amount that explains most",
        ["Damage", "Best amount", "Share explained"],
        [[match.damage, match.amount, share_text(match.share) if match.share > 0 else "none"] for match in every],
    )
    note = "A line for each damage by itself: how much of look it explains as it gets more severe."
    note += " The other lines go as far along their own scale." if len(shown) > 1 else ""
    if result.look is None:
        note += " These weights have no parts, so look is all of RL2."
    return Section(
        title,
        [*sentences, note],
        charts.match_chart(shown, len(first)),
        "; ".join(f"{match.amount} explains {share_text(match.share)}" for match in shown),
        [(f"line line{i}", match.damage) for i, match in enumerate(shown)],
        [causes, all_of_them],
    )


def kinds(result: RL2Result) -> Section:
    """Which tissue both sides show."""
    title = "Kinds of tissue"
    strata = strata_sentence(result)
    if not result.kinds:
        return Section(title, strata, withheld="These weights have one kind of tissue, so there are no shares.")
    told, is_judged, rows = _kinds_told(result), result.is_judged("content") and not is_foreign(result), []
    for kind in result.kinds:
        ends = [f"{percent(share)} ({percent(*end)})" for share, end in _both(kind)]
        differs = ("yes" if kind.differs else "no") if is_judged else "not judged"
        rows.append([kind.name, *ends, differs])
    return Section(
        title,
        [*told, *strata],
        charts.kinds_chart(result.kinds),
        "; ".join(f"{kind.name}: {percent(kind.fake)} generated, {percent(kind.real)} real" for kind in result.kinds),
        [("box fake", "generated"), ("box real", "real"), ("whisker", "95 % interval")],
        [Table("Images most like each kind, with 95 % intervals", ["Kind", "Generated", "Real", "Differs"], rows)],
    )


def plane(scored: Scored, pictures: dict[str, dict[str, Picture]], short: dict[str, dict[str, str]]) -> Section:
    """Both sets in two dimensions."""
    title = "Both sets at a glance"
    seen = scored.seen.get("fake")
    if seen is None or len(seen.names) != scored.result.n_fake:
        return Section(title, withheld="The generated side is not images alone, so there are no points to show.")
    if not math.isfinite(scored.result.value):
        return Section(title, withheld="There are NaN latents, so there are no points to show.")
    found = plane_of(scored, {side: list(named) for side, named in pictures.items()})
    rows, counts = [], []
    for side, places in found.places.items():
        points = torch.from_numpy(places)
        numbers = map(_mean_text, points.unbind(1))
        rows.append([SIDES[side], str(len(places)), *numbers])
        total = len(scored.seen[side].names)
        counts += [f"{len(places):,} of {total:,} {SIDES[side].lower()} images"] if len(places) < total else []
    sentences = [found.sentence, "Point at an image, or tap on it, to see it."]
    sentences += [f"Shown: {' and '.join(counts)}, evenly spread."] if counts else []
    few = sum(map(len, pictures.values())) < sum(map(len, found.names.values()))
    sentences += ["Large points have a picture, small ones only a name."] if few else []
    with_real = "real" in found.places
    sums = scored.result.n_real - len(scored.seen["real"].names if with_real else ())
    told = f"{sums:,} real images are not shown: there are only sums of them." if with_real else REALS_NOT_SHOWN
    return Section(
        title,
        sentences,
        charts.plane_chart(found, pictures, short),
        "Points of both sides. The table has their means and standard deviations.",
        [("triangle fake", "generated"), *([("dot real", "real")] if with_real else [])],
        [Table("Mean of each side, and standard deviation of its images", ["Side", "Images", *found.axes], rows)],
        withheld=told if sums else "",
    )


def sides(scored: Scored) -> Section:
    """What makes the sides differ beside their tissue."""
    result = scored.result
    rows = []
    for side, name in SIDES.items():
        statistics, formats = scored.sides[side], dict(scored.formats.get(side, {}))
        every = [f"{height} x {width}" for height, width in statistics.settings.get("px") or []]
        more = f" and {len(every) - NAMED} more sizes" if len(every) > NAMED else ""
        px = f"{', '.join(every[:NAMED])}{more}" or "unknown"
        named = ", ".join(f"{kind} ({count:,})" for kind, count in formats.items()) or "unknown"
        groups = getattr(result, f"groups_{side}")
        source = (
            f"reference data of the weights, {result.data}" if statistics.source == REFERENCE else statistics.source
        )
        rows.append([name, f"{len(statistics):,}", "none" if groups is None else str(groups), px, named, source])
    told = list(result.warnings)
    if any(sum(scored.formats.get(side, {}).values()) < len(scored.sides[side]) for side in SIDES):
        told.append("Formats, sharpness and stain are compared where both sides are images.")
    elif min(result.n_real, result.n_fake) < MIN_IMAGES:
        told.append(f"Sharpness and stain are compared from {MIN_IMAGES} images a side on.")
    told = told or ["Nothing was found: the sides do not differ in size, format, sharpness or stain."]
    head = ["Side", "Images", "Groups", "Size, px", "Format of files", "Source"]
    return Section("What differs beside the tissue", told, tables=[Table("Both sides", head, rows)], folded=False)


def _kinds_told(result: RL2Result) -> list[str]:
    if result.interval is None:
        return [f"Content is not judged: {why_no_interval(result)}."]
    if not result.is_judged("content"):
        return ["Content cannot be judged here: so large a change of look makes images look like other kinds, too."]
    if is_foreign(result):
        assert result.between_groups is not None
        return [
            "The generated images lie further away than real images of any of "
            f"{result.between_groups.count} {result.between_groups.units}, so their tissue may be of none of these "
            "kinds. The shares say only which kind each image is most like."
        ]
    differing = [kind for kind in result.kinds if kind.differs]
    few = sorted(differing, key=lambda kind: -abs(kind.fake - kind.real))[:NAMED]
    more = [f"{len(differing)} kinds differ, see the table."] if len(differing) > NAMED else []
    return [*kind_sentences(few), *more] or ["No share differs beyond chance."]


def image_text(image: ImageShare, result: RL2Result) -> str:
    """What an image holds of RL2, and of the parts that differ."""
    parts = {"look": image.look, "content": image.content}
    of_parts = [f"{name} {times_of(part)}" for name, part in parts.items() if part and name in result.verdict]
    return f"{times_of(image.share)} of the average image" + (f" ({', '.join(of_parts)})" if of_parts else "")


def times_of(share: float) -> str:
    """A share of an image as a multiple of the average one."""
    return f"{three_digits(share)}x"


def images_note(result: RL2Result) -> str:
    """How far to trust the order of images."""
    if result.verdict == NO_DIFFERENCE:
        return "The sides do not differ beyond chance, so the order of images says little."
    return ""


def _mean_text(values: Tensor) -> str:
    """Mean and standard deviation; a mean that is 0 but for rounding is 0."""
    if len(values) == 1:
        return three_digits(float(values))
    middle, spread = float(values.mean()), float(values.std())
    return f"{three_digits(middle if abs(middle) > 1e-9 * spread else 0.0)} (SD {three_digits(spread)})"


def _both(kind: Any) -> list[tuple[float, tuple[float, float]]]:
    return [(kind.fake, kind.fake_interval), (kind.real, kind.real_interval)]


def _sentences(lines: Sequence[str]) -> str:
    return " ".join(line if line.endswith(".") else f"{line}." for line in lines)
