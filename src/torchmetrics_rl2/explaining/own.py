"""Signatures of damage in the user's own real images, for those that are out of the domain of the weights."""

from collections.abc import Callable, Sequence
from pathlib import Path

from torchmetrics_rl2.distance.explanation import Explanation
from torchmetrics_rl2.distance.statistics import Statistics
from torchmetrics_rl2.encoder.encoder import LatentEncoder
from torchmetrics_rl2.encoder.own import OwnEncoder
from torchmetrics_rl2.explaining.causes import Look, explain_look
from torchmetrics_rl2.explaining.curves import Curves
from torchmetrics_rl2.explaining.measuring import STEPS, VISIBLE, Step, measure_signatures
from torchmetrics_rl2.images.reader import ImageReader
from torchmetrics_rl2.weights.signatures import Signatures

__all__ = ["Measure", "explain_by_own", "measure_of"]

Measure = Callable[[Sequence[Step], int], Signatures]
"""Signatures of these steps, from so many of the real images."""

COARSE, FINE = 2, 5
MIN_EXPLAINED = 0.7  # signatures of so few images bend towards any difference: between parts of one slide .58 was seen
MIN_SEEN = 0.5  # so far out of the domain, laboratories differ in sharpness by as much
CANDIDATES = 3


def measure_of(encoder: LatentEncoder | OwnEncoder, files: Sequence[Path], reader: ImageReader) -> Measure | None:
    """What measures signatures of the images of these files, if there are any and the encoder has a flow."""
    if not files or isinstance(encoder, OwnEncoder):
        return None

    def measure(steps: Sequence[Step], count: int) -> Signatures:
        return measure_signatures(encoder.flow, encoder.features, files, reader, None, steps, count)

    return measure


def explain_by_own(real: Statistics, fake: Statistics, measure: Measure) -> Explanation:
    """As :func:`~torchmetrics_rl2.explaining.causes.explain_look`, in no more than 128 passes through the network.

    Two images say which three ladders come nearest at the severity that a person sees; five images, how they go on.

    Args:
        real: Statistics of the real side.
        fake: Statistics of the generated side.
        measure: Gives signatures of the real images.

    """
    nearest = Curves(measure(VISIBLE, COARSE), real.kinds).nearest(Look.of(real, fake).difference)
    chosen = sorted(nearest, key=lambda ladder: nearest[ladder][1])[:CANDIDATES]
    steps = [(ladder, severity) for ladder, severity in STEPS if ladder in chosen and severity * nearest[ladder][0] > 0]
    return explain_look(real, fake, measure(steps, FINE), MIN_EXPLAINED, MIN_SEEN)
