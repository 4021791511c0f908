"""What is behind the verdict of a result, in sentences."""

import math
from html import escape
from typing import TYPE_CHECKING

from torchmetrics_rl2.distance.kinds import PARTS
from torchmetrics_rl2.distance.parts import KindShare, PartResult
from torchmetrics_rl2.distance.statistics import REFERENCE
from torchmetrics_rl2.distance.strata_result import strata_details, strata_sentence
from torchmetrics_rl2.distance.text import CLOSER, NO_DIFFERENCE, identity_text, p_text, percent, three_digits, times
from torchmetrics_rl2.distance.uncertainty import MIN_UNITS

if TYPE_CHECKING:
    from torchmetrics_rl2.distance.result import RL2Result

__all__ = [
    "MAX_DOMAIN_SHIFT",
    "PRINTED",
    "conclusion_of",
    "details_of",
    "html_of",
    "interval_units",
    "is_foreign",
    "kind_sentences",
    "printed_p_value",
    "text_of",
]

PRINTED = 3
MAX_DOMAIN_SHIFT = 0.5
NOT_JUDGED = {
    "content": "content cannot be judged, as so large a change of look moves it too",
    "look": "look cannot be judged, as so large a change of content moves it too",
}
NOT_INDEPENDENT = (
    "Groups that are classes, or slides that are on both sides, come out like this too: groups have to be independent"
)
# An outlier share nearer to 0 than this says nothing: 1 % of the images hold about 1 % of the distance.
MIN_OUTLIER_SHARE = 0.02


def text_of(result: "RL2Result") -> str:
    """The verdict in a few lines."""
    if result.baseline_multiple is None:
        why = result.withheld.get("baseline_multiple", "")
        return f"RL2 {three_digits(result.value)}: no multiple of the baseline, {why}"
    multiple = times(result.baseline_multiple)
    numbers = f"RL2 {three_digits(result.value)}: {multiple}x the real-against-real baseline at these sample sizes"
    if result.real == REFERENCE:
        numbers += f", against the reference data inside the weights, {result.data}"
    varies_less = (result.variance_ratio or 1) < 1
    if varies_less and result.verdict != NO_DIFFERENCE and "differ" in result.verdict and result.baseline_multiple < 1:
        numbers += ", below 1x because generated images vary less than real ones"
    if result.content is None or result.look is None:
        lines = [f"{numbers}: {_conclusion(result)}"]
    else:
        parts = f"{part_text('look', result.look)}; {part_text('content', result.content)}"
        lines = [conclusion_of(result), f"{numbers}; {parts}"]
        lines += kind_sentences(result.kinds) if "content" in result.verdict and not is_foreign(result) else []
    if result.verdict == CLOSER and not result.assumes_independence:
        lines.append(NOT_INDEPENDENT)
    lines += strata_sentence(result)
    lines += [str(result.diversity)] if result.diversity and result.diversity.is_lost else []
    lines += [str(result.copies)] if result.copies else []
    if result.explanation:
        # By chance some images lie further off than others, which says nothing.
        is_chance = result.verdict == NO_DIFFERENCE
        lines += result.explanation.cause_sentences() if is_chance else str(result.explanation).splitlines()
    if result.between_groups and math.isfinite(result.debiased):
        lines.append(result.between_groups.sentence(result.debiased))
    # Weights in a file are one's own, with one's own images inside.
    if result.real == REFERENCE and not result.weights.endswith(".safetensors"):
        lines.append(
            "Unless these are your own real images, this is no verdict on a generator: give your own with --real"
        )
    return "\n".join(lines)


def details_of(result: "RL2Result") -> str:
    """What is behind the verdict, a sentence a line."""
    identity = f" ({result.weights_id[:12]})" if result.weights_id else ""
    real = f"reference images of {result.data}" if result.real == REFERENCE else f"real images ({result.real})"
    lines = [
        f"{result.n_fake} generated images ({result.fake}) against {result.n_real} {real}; weights {result.weights}"
        f"{identity}",
        f"RL2 {three_digits(result.value)}, debiased {three_digits(result.debiased)}; real-against-real baseline at "
        f"these sample sizes: {'unknown' if result.baseline is None else three_digits(result.baseline)}",
    ]
    if result.interval is None:
        lines += [why_no_interval(result)]
    else:
        low, high = result.interval
        shown = f"{three_digits(low)} to {three_digits(high)}"
        lines += [f"95 % interval of the debiased value: {shown}, {interval_units(result)}"]
        if not low <= result.value <= high:
            lines[-1] += "; RL2 itself lies outside, because small samples add to it"
    if (p_value := printed_p_value(result, result)) is not None:
        lines += [f"p-value of no difference: {p_text(p_value)}"]
    if result.detectable is not None:
        lines += [
            "Smallest true difference found with 80 % power, to be compared with the debiased value: "
            + three_digits(result.detectable),
        ]
    for name, part in (("Look", result.look), ("Content", result.content)):
        lines += [] if part is None else [_part(name, part, printed_p_value(result, part))]
    lines += _content_beyond_length(result)
    if result.kinds:
        caveat = ""
        if is_foreign(result):
            caveat = "; the tissue is further away than any that the weights know, so it may be of none"
        elif not result.is_judged("content"):
            caveat = "; content is not judged, so look or other tissue may cause differences"
        lines += [f"Images most like each kind of tissue, generated and real, with 95 % intervals{caveat}:"]
        lines += [f"  {_share(kind, not caveat)}" for kind in result.kinds]
    if result.variance_ratio is not None:
        ends = result.variance_ratio_interval
        interval = " ({} to {})".format(*map(three_digits, ends)) if ends else ""
        lines += [f"Variance ratio, generated over real: {three_digits(result.variance_ratio)}{interval}"]
    lines += _diversity(result)
    lines += [result.copies.details()] if result.copies else []
    return "\n".join([*lines, *strata_details(result), *_outliers(result), *_domain(result)])


def html_of(result: "RL2Result") -> str:
    """A small table, for notebooks."""
    shown = {
        "RL2": f"{three_digits(result.value)}{f', {result.verdict}' if result.verdict else ''}",
        "Times the real-against-real baseline": result.baseline_multiple and times(result.baseline_multiple),
        "Look, and times its baseline": result.look and part_text("", result.look).strip(),
        "Content, and times its baseline": result.content and part_text("", result.content).strip(),
        "Strata": "".join(strata_sentence(result)),
        "Diversity": str(result.diversity or ""),
        "Copies": str(result.copies or ""),
        "Explanation": str(result.explanation or ""),
        "95 % interval, debiased": result.interval and " to ".join(map(three_digits, result.interval)),
        "Generated": f"{result.n_fake} images, {result.fake}",
        "Real": f"{result.n_real} images, {result.real}",
        "Weights": f"{result.weights} ({identity_text(result.weights_id)})",
    }
    rows = (f"<tr><th>{name}</th><td>{escape(value)}</td></tr>" for name, value in shown.items() if value)
    return f"<table>{''.join(rows)}</table>"


def part_text(name: str, part: PartResult) -> str:
    """A part and its multiple of the baseline."""
    multiple = "" if part.baseline_multiple is None else f", {times(part.baseline_multiple)}x"
    return f"{name} {three_digits(part.value)}{multiple}"


def printed_p_value(result: "RL2Result", part: "PartResult | RL2Result") -> float | None:
    """The one that people are shown: with groups, and of a part only if that is judged."""
    is_judged = part is result or result.is_judged("content" if part is result.content else "look")
    return part.p_value if is_judged and not result.assumes_independence else None


def is_foreign(result: "RL2Result") -> bool:
    """Whether tissue is further away than any known laboratory: of no known kind, whichever it is most like."""
    return result.between_groups is not None and result.between_groups.is_exceeded_by(result.debiased)


def kind_sentences(kinds: list[KindShare]) -> list[str]:
    """A sentence on each of the kinds whose shares differ most."""
    differing = sorted((kind for kind in kinds if kind.differs), key=lambda kind: -abs(kind.fake - kind.real))
    more = len(differing) - PRINTED
    return [
        f"Generated: {percent(kind.fake)} most like {kind.name} ({percent(*kind.fake_interval)}), where real has "
        f"{percent(kind.real)} ({percent(*kind.real_interval)})"
        for kind in differing[:PRINTED]
    ] + (
        [f"{more} more kind{'s differ' if more > 1 else ' differs'}, see --verbose or result.kinds"] if more > 0 else []
    )


def why_no_interval(result: "RL2Result") -> str:
    """What an interval would need."""
    for side, name, count, groups in (
        ("fake", "generated", result.n_fake, result.groups_fake),
        ("real", "real", result.n_real, result.groups_real),
    ):
        distinct = count - len(result.duplicates.get(side, []))
        if (distinct if groups is None else groups) < MIN_UNITS:
            kind = f"{count} images" if groups is None else f"{count} images in {groups} group(s)"
            kind = kind if distinct == count else f"{kind}, {distinct} of them distinct"
            least = f"{MIN_UNITS} {'images' if groups is None else 'groups'}"
            return f"no interval, which needs at least {least} a side; the {name} side has {kind}"
    if math.isnan(result.value):
        return "no interval: there are NaN latents"
    return (
        "no interval: a side has no second moments and no groups. ResNetL2(uncertainty=True) and 'rl2 stats' keep the "
        "former, ResNetL2(groups=True) the latter"
    )


def conclusion_of(result: "RL2Result") -> str:
    """The verdict as a sentence, with what is known of the other part, and of diversity."""
    found = _conclusion(result)
    return f"{found[0].upper()}{found[1:]}"


def _conclusion(result: "RL2Result") -> str:
    verdict = result.verdict or why_no_interval(result)
    others = [part for part in PARTS if part not in verdict]
    if len(others) == 1:
        verdict += f", {others[0]} does not" if result.is_judged(others[0]) else f", {NOT_JUDGED[others[0]]}"
    if result.diversity and result.diversity.is_lost and not verdict.startswith("collapsed"):
        verdict += f"{', but' if result.verdict == NO_DIFFERENCE else ', and'} diversity is lost"
    return verdict


def _part(name: str, part: PartResult, p_value: float | None) -> str:
    line = f"{part_text(name, part)}, debiased {three_digits(part.debiased)}"
    if part.interval is not None:
        line += " ({} to {})".format(*map(three_digits, part.interval))
    if p_value is not None:
        line += f", p {p_text(p_value)}"
    if part.detectable is not None:
        line += f"; detectable from {three_digits(part.detectable)}{' by length' if name == 'Content' else ''}"
    if part.limit:
        line += f"; counts only above {three_digits(part.limit)}, as far as the other part can move it"
        line += ", or by its direction" if name == "Content" else ""
    return line


def _content_beyond_length(result: "RL2Result") -> list[str]:
    """Why content differs where its interval does not say so."""
    content = result.content
    if content is None or content.interval is None or "content" not in result.verdict:
        return []
    if content.interval[0] > content.limit:
        return []
    return [
        "Content differs by its direction more than by its length: a missing kind moves it there, chance and look "
        "hardly do"
    ]


def _share(kind: KindShare, is_judged: bool) -> str:
    found = f"{percent(kind.fake)} ({percent(*kind.fake_interval)}) and {percent(kind.real)}"
    return f"{kind.name}: {found} ({percent(*kind.real_interval)}){', differs' if kind.differs and is_judged else ''}"


def _diversity(result: "RL2Result") -> list[str]:
    if result.diversity:
        return [result.diversity.details()]
    withheld = result.withheld.get("diversity")
    return [f"Diversity is not judged: {withheld}"] if withheld else []


def _outliers(result: "RL2Result") -> list[str]:
    if result.outlier_share is None or not result.outliers or abs(result.outlier_share) < MIN_OUTLIER_SHARE:
        return []
    named = ", ".join(result.outliers[:PRINTED])
    more = f" and {len(result.outliers) - PRINTED} more" if len(result.outliers) > PRINTED else ""
    change = f"{abs(100 * result.outlier_share):.1f} % {'lower' if result.outlier_share > 0 else 'higher'}"
    return [
        f"Without the 1 % of generated images furthest from the real mean ({len(result.outliers)} of {result.n_fake}), "
        f"RL2 would be {change}: {named}{more}"
    ]


def _domain(result: "RL2Result") -> list[str]:
    if result.domain_shift is None or result.domain_shift <= MAX_DOMAIN_SHIFT:
        return []
    return [
        f"Domain shift: your real images lie {result.domain_shift:.1f} standard deviations from the weights' "
        f"reference data, {result.data}. Scores against your own images stay valid; 'rl2 fit' adapts weights to "
        "your data"
    ]


def interval_units(result: "RL2Result") -> str:
    """What the interval takes as independent."""
    if result.groups_real is None and result.groups_fake is None:
        return "assuming independent patches"
    for side, groups in (("real", result.groups_real), ("generated", result.groups_fake)):
        if groups is None:
            return f"assuming independent patches on the {side} side, which has no groups"
    return f"with {result.groups_fake} generated and {result.groups_real} real groups as units"
