"""Why a distance is what it is."""

from collections.abc import Mapping
from dataclasses import replace

from torchmetrics_rl2.distance.explanation import Explanation
from torchmetrics_rl2.distance.result import RL2Result
from torchmetrics_rl2.distance.statistics import Statistics
from torchmetrics_rl2.distance.text import three_digits
from torchmetrics_rl2.explaining.causes import explain_look
from torchmetrics_rl2.explaining.images import SeenImages, order_of_images
from torchmetrics_rl2.explaining.own import Measure, explain_by_own
from torchmetrics_rl2.weights.signatures import Signatures

__all__ = ["explain"]


def explain(
    result: RL2Result,
    real: Statistics,
    fake: Statistics,
    signatures: Signatures | None,
    seen: Mapping[str, SeenImages] | None = None,
    measure: Measure | None = None,
) -> RL2Result:
    """A result with its explanation.

    Args:
        result: Of the two sides.
        real: Statistics of the real side.
        fake: Statistics of the generated side.
        signatures: Of the weights, if they have any.
        seen: Images of the sides, ``real`` and ``fake``, where they were read.
        measure: Gives signatures of the real images, where those of the weights are of another domain.

    """
    why = _why_not(result, signatures)
    found = Explanation(withheld={"causes": why})
    if not why and measure:
        found = explain_by_own(real, fake, measure)
    elif not why and signatures:
        found = explain_look(real, fake, signatures)
    generated = (seen or {}).get("fake")
    if generated is None or len(generated.names) != len(fake):
        reason = "the generated side is not images alone, and statistics keep none"
        found = replace(found, withheld=found.withheld | {"images": reason})
    elif not result.value > 0:
        found = replace(found, withheld=found.withheld | {"images": f"RL2 is {three_digits(result.value)}"})
    else:
        reals = (seen or {}).get("real", SeenImages())
        of_real, of_fake = (side.sums.sum / side.sums.count for side in (real, fake))
        worst, typical = order_of_images(generated, reals, of_real, of_fake, real.kinds)
        found = replace(found, images=worst, typical=typical)
    return replace(result, explanation=found)


def _why_not(result: RL2Result, signatures: Signatures | None) -> str:
    if signatures is None:
        return f"{result.weights} has no signatures of damage; 'rl2 fit' makes weights that have"
    if result.interval is None:
        return "without an interval it is not known to differ"
    if result.look_differs:
        return ""
    return f"{'generated images do' if result.look is None else 'look does'} not differ beyond chance"
