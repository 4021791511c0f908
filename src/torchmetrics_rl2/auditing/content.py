"""Another composition of tissue, and cross-talk: what an audit makes of sets drawn from images that it has encoded."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Literal

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from torchmetrics_rl2.auditing.content_result import Cause, ContentLadder, ContentStep, CrossTalk, Differing
from torchmetrics_rl2.auditing.draws import REPEATS, SIZES, Population
from torchmetrics_rl2.auditing.subject import Subject
from torchmetrics_rl2.distance.kinds import Kinds
from torchmetrics_rl2.distance.text import LEVEL, percent
from torchmetrics_rl2.distance.uncertainty import MIN_UNITS

__all__ = ["LADDERS", "Composition"]

POINTS = (0.1, 0.2, 0.4)
REPEATED = (40, 20, 10, 5)
MISSING, TILTED, ONE, REPEATS_OF = LADDERS = ("a kind missing", "another mixture", "one kind only", "images repeated")
RISING = (TILTED, REPEATS_OF)
Fault = NDArray[np.float64] | int
"""Probability of each image to be drawn, or the number of images that fill a set."""


class Composition:
    """The kinds of tissue of images, and sets of theirs, of which one side is wrong.

    Both sides are drawn with replacement, so that the images are the population, neither side is what the other leaves
    over, and the composition of both varies as that of random samples does. Images are drawn one by one even where they
    are in groups: what is asked is whether content sees the composition at all.

    Args:
        subject: The images.
        clean: Their latents, ``(N, d)``.
        kinds: The kinds of tissue of the weights.
        seed: Of the draws.

    Attributes:
        counts: Number of images of each kind.
        withheld: What these images are too few for.

    """

    def __init__(self, subject: Subject, clean: Tensor, kinds: Kinds, seed: int) -> None:
        self.clean, self.kinds, self.seed = clean, kinds, seed
        labels = list(subject.kinds or [kinds.names[k] for k in kinds.of(clean).tolist()])
        self.counts = dict(sorted(Counter(labels).items()))
        self.withheld, units = list[str](), len(set(subject.units))
        # Larger sets than there are units would hold the same images over and over.
        sizes = [n for n in SIZES if n <= units]
        if too_many := [str(n) for n in SIZES if n > units]:
            self.withheld.append(
                f"content and cross-talk at {', '.join(too_many)} images a side: as many units are needed, and there "
                f"are {units}"
            )
        if sizes and subject.groups:
            self.withheld.append(
                "power of content: images are drawn one by one, and sets of whole units, whose images resemble each "
                "other, have less"
            )
        self.sizes = sizes[-1:] if subject.groups else sizes
        self._faults = _faults(labels, sizes[-1], self.withheld) if sizes else {}

    def ladder(self, name: str) -> ContentLadder | None:
        """Draw sets that are wrong in one of the ways of :data:`LADDERS`; ``None`` if these images allow none."""
        steps, population = [], Population(self.clean, self.kinds)
        for step, amount, fault in self._faults.get(name, []):
            larger = [n for n in self.sizes if not isinstance(fault, int) or fault < n]
            draws = [_differing(population, len(self.clean), fault, n, self.seed) for n in larger]
            steps.append(ContentStep(step, amount, draws))
        cause: Cause = "repeats" if name == REPEATS_OF else "content"
        return ContentLadder(name, steps, name in RISING, cause) if steps else None

    def of_nothing(self) -> list[CrossTalk]:
        """How often each part differs where nothing is wrong; nothing with too few units."""
        found = self._largest(self.clean, np.full(len(self.clean), 1 / len(self.clean)))
        return [CrossTalk(**asdict(one), wrong="nothing", cause="nothing") for one in found]

    def of_damage(self, name: str, at: Literal["visible", "weakest"], latents: Tensor) -> list[CrossTalk]:
        """How often each part differs where the generated images are damaged; nothing with too few units.

        Args:
            name: Of the damage, with its amount.
            at: Which severity it is.
            latents: Of all images under damage, ``(N, d)``.

        """
        images = len(self.clean)
        found = self._largest(torch.cat([self.clean, latents]), np.repeat([0, 1 / images], images))
        return [CrossTalk(**asdict(one), wrong=name, cause="damage", at=at) for one in found]

    def _largest(self, latents: Tensor, fault: Fault) -> list[Differing]:
        """Draws of the largest sets, real ones of the clean images, if there are sets."""
        return [
            _differing(Population(latents, self.kinds), len(self.clean), fault, n, self.seed) for n in self.sizes[-1:]
        ]


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
