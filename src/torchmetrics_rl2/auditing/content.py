"""Another composition of tissue, and cross-talk: what an audit makes of sets drawn from images that it has encoded."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from torchmetrics_rl2.auditing.content_result import Cause, ContentLadder, ContentStep, CrossTalk, Differing
from torchmetrics_rl2.auditing.draws import REPEATS, SIZES, Population
from torchmetrics_rl2.auditing.meter import Meter
from torchmetrics_rl2.auditing.subject import Subject
from torchmetrics_rl2.distance.kinds import Kinds
from torchmetrics_rl2.distance.text import LEVEL, percent
from torchmetrics_rl2.distance.uncertainty import MIN_UNITS

__all__ = ["LADDERS", "Damaged", "content_fields", "content_ladders", "cross_talk"]

POINTS = (0.1, 0.2, 0.4)
REPEATED = (40, 20, 10, 5)
MISSING, TILTED, ONE, REPEATS_OF = LADDERS = ("a kind missing", "another mixture", "one kind only", "images repeated")
RISING = (TILTED, REPEATS_OF)
Fault = NDArray[np.float64] | int
"""Probability of each image to be drawn, or the number of images that fill a set."""


@dataclass(frozen=True)
class Damaged:
    """Latents of all images under damage.

    Args:
        name: Of the damage, with its amount.
        at: Which severity it is.
        latents: ``(N, d)``.

    """

    name: str
    at: Literal["visible", "weakest"]
    latents: Tensor


def content_fields(
    subject: Subject,
    clean: Tensor,
    damaged: Sequence[Damaged],
    kinds: Kinds,
    seed: int,
    meter: Meter,
    withheld: list[str],
) -> dict[str, Any]:
    """The fields ``kinds``, ``content`` and ``cross_talk`` of a result.

    Args:
        subject: The images.
        clean: Their latents, ``(N, d)``.
        damaged: The same under damage.
        kinds: The kinds of tissue of the weights.
        seed: Of the draws.
        meter: To tell of progress: a step for each of :data:`LADDERS`, and for each damage.
        withheld: Where to say what these images are too few for.

    """
    labels = list(subject.kinds or [kinds.names[k] for k in kinds.of(clean).tolist()])
    counts = dict(sorted(Counter(labels).items()))
    units = len(set(subject.units))
    sizes = [n for n in SIZES if n <= units]
    if too_many := [str(n) for n in SIZES if n > units]:
        withheld.append(
            f"content and cross-talk at {', '.join(too_many)} images a side: as many units are needed, and there are "
            f"{units}"
        )
    if not sizes:
        meter.step(len(LADDERS) + len(damaged))
        return {"kinds": counts}
    if subject.groups:
        withheld.append(
            "power of content: images are drawn one by one, and sets of whole units, whose images resemble each other, "
            "have less"
        )
    ladders = content_ladders(clean, labels, kinds, sizes[-1:] if subject.groups else sizes, seed, meter, withheld)
    crossed = cross_talk(clean, ladders, damaged, kinds, sizes[-1], seed, meter)
    return {"kinds": counts, "content": ladders, "cross_talk": crossed}


def content_ladders(
    clean: Tensor,
    labels: Sequence[str],
    kinds: Kinds,
    sizes: Sequence[int],
    seed: int,
    meter: Meter,
    withheld: list[str],
) -> list[ContentLadder]:
    """Draw sets of wrong composition, against sets of the images as they are.

    Both sides are drawn with replacement, so that the images are the population, neither side is what the other leaves
    over, and the composition of both varies as that of random samples does. Images are drawn one by one even where they
    are in groups: what is asked is whether content sees the composition at all.

    Args:
        clean: Latents of the images, ``(N, d)``.
        labels: Their kinds of tissue.
        kinds: Those of the weights.
        sizes: Numbers of images a side, smallest first. Larger sets than there are units would hold the same images
            over and over.
        seed: Of the draws.
        meter: To tell of progress.
        withheld: Where to say what these images are too few for.

    """
    found, population = [], Population(clean, kinds)
    for name, faults in _faults(labels, sizes[-1], withheld).items():
        steps = []
        for step, amount, fault in faults:
            larger = [n for n in sizes if not isinstance(fault, int) or fault < n]
            draws = [_differing(population, len(clean), fault, n, seed) for n in larger]
            steps.append(ContentStep(step, amount, draws))
        if steps:
            cause: Cause = "repeats" if name == REPEATS_OF else "content"
            found.append(ContentLadder(name, steps, name in RISING, cause))
        meter.step()
    return found


def cross_talk(
    clean: Tensor,
    ladders: Sequence[ContentLadder],
    damaged: Sequence[Damaged],
    kinds: Kinds,
    n: int,
    seed: int,
    meter: Meter,
) -> list[CrossTalk]:
    """How often each part differs where nothing is wrong, or content, or the generated images are damaged."""
    images = len(clean)
    nothing = _differing(Population(clean, kinds), images, np.full(images, 1 / images), n, seed)
    rows = [CrossTalk(**asdict(nothing), wrong="nothing", cause="nothing")]
    rows += [row for ladder in ladders for row in ladder.rows()]
    for one in damaged:
        both = Population(torch.cat([clean, one.latents]), kinds)
        found = _differing(both, images, np.repeat([0, 1 / images], images), n, seed)
        rows.append(CrossTalk(**asdict(found), wrong=one.name, cause="damage", at=one.at))
        meter.step()
    return rows


def _faults(labels: Sequence[str], largest: int, withheld: list[str]) -> dict[str, list[tuple[str, float, Fault]]]:
    """By ladder, the name and amount of each step, and what to draw."""
    of, counts = np.array(labels), Counter(labels)
    shares = {name: counts[name] / len(labels) for name in sorted(counts) if counts[name] >= MIN_UNITS}
    if rare := sorted(counts.keys() - shares.keys()):
        withheld.append(f"content of {', '.join(rare)}: fewer than {MIN_UNITS} images are of this kind")
    repeated: list[tuple[str, float, Fault]] = [(f"{k} images repeated", float(k), k) for k in REPEATED if k < largest]
    if len(shares) < 2:
        withheld.append(f"content by kind: the images are of {len(shares)} kind(s), and two are needed")
        return {MISSING: [], TILTED: [], ONE: [], REPEATS_OF: repeated}
    most = max(shares, key=lambda name: shares[name])
    sign = 1 if shares[most] + max(POINTS) <= 1 else -1
    tilted = [(percent(shares[most], shares[most] + sign * points), points) for points in POINTS]
    return {
        MISSING: [(f"no {name}", share, _mixture(of == name, 0)) for name, share in shares.items()],
        TILTED: [
            (f"{most} {text}", points, _mixture(of == most, shares[most] + sign * points)) for text, points in tilted
        ],
        ONE: [(f"only {name}", 1 - share, _mixture(of == name, 1)) for name, share in shares.items()],
        REPEATS_OF: repeated,
    }


def _mixture(chosen: NDArray[np.bool_], share: float) -> NDArray[np.float64]:
    """Probability of each image, if those chosen have this share together."""
    weights: NDArray[np.float64] = np.where(chosen, share / chosen.sum(), (1 - share) / (~chosen).sum())
    return weights


def _differing(population: Population, images: int, fault: Fault, n: int, seed: int) -> Differing:
    """Draw real sets of the first so many images, and generated ones as the fault says."""
    draws = np.random.default_rng([seed, n])
    real = draws.integers(images, size=(REPEATS, n))
    tests = population.tests(real, _rows(fault, images, n, draws))
    shares = {name: float(np.mean(p_values < LEVEL)) for name, p_values in tests.p_values.items()}
    return Differing(n=n, **shares, varies_less=float(np.mean(tests.highest_ratio < 1)))


def _rows(fault: Fault, images: int, n: int, draws: Generator) -> NDArray[np.int64]:
    if isinstance(fault, int):
        chosen = np.stack([draws.permutation(images)[:fault] for _ in range(REPEATS)])
        return chosen[:, np.arange(n) % fault]
    return draws.choice(len(fault), (REPEATS, n), p=fault)
