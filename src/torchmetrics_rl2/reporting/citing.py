"""One sentence that says all that another person needs to judge a score."""

import math

from torchmetrics_rl2.distance.details import interval_units, printed_p_value
from torchmetrics_rl2.distance.parts import PartResult
from torchmetrics_rl2.distance.result import RL2Result
from torchmetrics_rl2.distance.statistics import REFERENCE
from torchmetrics_rl2.distance.text import identity_text, p_text, percent, three_digits, times

__all__ = ["citation_of"]


def citation_of(result: RL2Result) -> str:
    """A score in one sentence, to cite."""
    version = result.versions.get("torchmetrics-rl2", "")
    of = f"the reference images of {result.data}" if result.real == REFERENCE else "real images"
    parts = [f"RL2 between {result.n_fake} generated images and {result.n_real} {of} is {_numbers(result, result)}"]
    for name in ("look", "content"):
        part: PartResult | None = getattr(result, name)
        if part is not None:
            judged = (
                "" if part.interval is None or result.is_judged(name) else ", which cannot be judged beside the other"
            )
            parts.append(f"{name} {_numbers(part, result)}{judged}")
    if result.variance_ratio is not None:
        parts.append(f"variance ratio {three_digits(result.variance_ratio)}")
    found = result.explanation
    if found and found.causes:
        causes = " and ".join(str(cause) for cause in found.causes)
        which = "which together explain" if len(found.causes) > 1 else "which explains"
        parts.append(f"look as far as {causes}, {which} {percent(found.explained or 0.0)} of it")
    verdict = f"; verdict: {result.verdict}" if result.verdict else ""
    intervals = "" if result.interval is None else f"; 95 % intervals are of debiased values, {interval_units(result)}"
    made = " ".join(["torchmetrics-rl2", *([version] if version else [])])
    made += f", weights {result.weights}, {identity_text(result.weights_id)}"
    return f"{'; '.join(parts)}{verdict}{intervals}; computed with {made}."


def _numbers(part: RL2Result | PartResult, result: RL2Result) -> str:
    text = three_digits(part.value)
    if part.baseline is not None and part.baseline_multiple is not None:
        baseline = f"the real-against-real baseline of {three_digits(part.baseline)}"
        text += f", {times(part.baseline_multiple)} times {baseline}"
    if math.isfinite(part.debiased):
        text += f", debiased {three_digits(part.debiased)}"
    if part.interval is not None:
        text += " ({} to {})".format(*map(three_digits, part.interval))
    if (p_value := printed_p_value(result, part)) is not None:
        p = p_text(p_value)
        text += f", p {p}" if p.startswith("<") else f", p = {p}"
    return text
