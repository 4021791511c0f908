"""All that an audit measures, in parts: each is of one process, and what it finds, a few numbers, is told to all."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from torchmetrics_rl2.auditing.checks import OutlierImages, contamination, diversity, domain, power
from torchmetrics_rl2.auditing.content import LADDERS as CONTENT_LADDERS
from torchmetrics_rl2.auditing.content import Composition
from torchmetrics_rl2.auditing.content_result import ContentLadder, CrossTalk
from torchmetrics_rl2.auditing.judge import Judge
from torchmetrics_rl2.auditing.ladder_result import SeverityResult
from torchmetrics_rl2.auditing.meter import Measured, Meter
from torchmetrics_rl2.auditing.result import Contamination
from torchmetrics_rl2.auditing.steps import Step, steps_of
from torchmetrics_rl2.auditing.subject import Subject
from torchmetrics_rl2.encoder.encoder import LatentEncoder
from torchmetrics_rl2.encoder.own import OwnEncoder
from torchmetrics_rl2.pixels.degradations import degrade
from torchmetrics_rl2.ranks import Ranks
from torchmetrics_rl2.runtime import Progress, one_thread

__all__ = ["measured"]

NO_KINDS = "content: the weights have no kinds of tissue"


def measured(
    encoder: LatentEncoder | OwnEncoder,
    subject: Subject,
    outliers: OutlierImages | None,
    ladders: Sequence[str],
    seed: int,
    ranks: Ranks,
    progress: Progress | None,
) -> dict[str, Any]:
    """The fields of a result that are measured.

    Args:
        encoder: The weights.
        subject: The images.
        outliers: Images that do not belong; without them, the images themselves with ink.
        ladders: Names of the ladders to climb.
        seed: Of the damage and of the draws.
        ranks: The processes.
        progress: Told of each part.

    Raises:
        RL2Error: If one of the processes fails, or is gone.

    """
    withheld = list[str]()
    climbs = steps_of(ladders, subject, withheld)
    steps = [step for climb in climbs for step in climb]
    of_content = CONTENT_LADDERS if encoder.kinds else ()
    # The clean images, a part each, outliers among them, and what all parts together say.
    meter = Meter(encoder, progress, 1 + len(steps) + len(of_content) + 2)
    clean = ranks.first(lambda: meter.measure(subject.images))
    bench = ranks.all(lambda: _Bench(meter, subject, clean, seed))
    parts: list[Callable[[], Any]] = [
        *(partial(bench.response, step) for step in steps),
        *(partial(bench.content_ladder, name) for name in of_content),
        partial(bench.contamination, outliers),
    ]

    def part(number: int) -> Any:
        meter.reach(1 + number)
        return parts[number]()

    *found, mixed = ranks.shared(len(parts), part)
    meter.reach(1 + len(parts))
    responses = dict(zip(steps, found, strict=False))
    content = [ladder for ladder in found[len(steps) :] if ladder]
    fields = ranks.first(lambda: bench.fields(climbs, responses, content, mixed, withheld))
    meter.reach(2 + len(parts))
    return fields


@dataclass(frozen=True)
class Response:
    """What the weights make of one step.

    Args:
        severity: How it compares with the clean images.
        cross_talk: How often each part of RL2 differs, where that is asked for.
        latents: Of all images, where the power of the test is measured on them.

    """

    severity: SeverityResult
    cross_talk: Sequence[CrossTalk]
    latents: Tensor | None


class _Bench:
    """What a process needs to measure any part, and finds as any other would, whatever its number of threads.

    Args:
        meter: What measures images.
        subject: The images.
        clean: What is known of them.
        seed: Of the damage and of the draws.

    """

    @one_thread()
    def __init__(self, meter: Meter, subject: Subject, clean: Measured, seed: int) -> None:
        self.meter, self.subject, self.clean, self.seed = meter, subject, clean, seed
        self.kinds = meter.encoder.kinds
        self.judge = Judge(subject, clean, self.kinds)
        self.composition = Composition(subject, clean.latents, self.kinds, seed) if self.kinds else None

    def response(self, step: Step) -> Response:
        """Damage the images, and compare them with the clean ones."""
        source, clean = self.subject, self.subject.images
        if not step.on_same_images and source.fields:
            source = source.fields
            clean = source.middle(round(self.subject.px * 2 ** abs(step.severity)))
        damaged = self.meter.measure(degrade(clean, step.ladder.name, step.severity, self.seed))
        return self._compared(step, damaged, source)

    @one_thread()
    def _compared(self, step: Step, damaged: Measured, source: Subject) -> Response:
        latents, name, composition = damaged.latents, f"{step.name} {step.ladder.unit}", self.composition
        crossed = [row for at in step.marks for row in composition.of_damage(name, at, latents)] if composition else []
        severity = self.judge.severity(step, damaged, source)
        return Response(severity, crossed, latents if step.tests_power else None)

    @one_thread()
    def content_ladder(self, name: str) -> ContentLadder | None:
        """Draw sets of wrong composition, if these images allow it."""
        return self.composition.ladder(name) if self.composition else None

    def contamination(self, outliers: OutlierImages | None) -> tuple[Contamination | None, list[str]]:
        """Mix outliers in, or say what these images are too few for."""
        withheld = list[str]()
        found = contamination(self.meter.encoder, self.subject, self.clean, outliers, self.seed, withheld)
        return found, withheld

    @one_thread()
    def fields(
        self,
        climbs: Sequence[Sequence[Step]],
        responses: Mapping[Step, Response],
        content: Sequence[ContentLadder],
        mixed: tuple[Contamination | None, list[str]],
        withheld: Sequence[str],
    ) -> dict[str, Any]:
        """What all parts say together.

        Args:
            climbs: The steps of each ladder.
            responses: To each step.
            content: What sets of wrong composition gave.
            mixed: What outliers gave.
            withheld: What these images are too few or too small for.

        """
        subject, latents, clean = self.subject, self.clean.latents, self.judge.clean
        told = [*withheld, *(self.composition.withheld if self.composition else [NO_KINDS])]
        weakest = {step.name: one.latents for step, one in responses.items() if one.latents is not None}
        powers = power(subject, latents, weakest, self.seed, told, self.kinds)
        told += mixed[1]
        return {
            "clean": clean.value,
            "clean_debiased": clean.debiased,
            "clean_p_value": clean.p_value,
            "domain": domain(self.meter.encoder, latents, subject.groups),
            "ladders": [self.judge.ladder(climb, [responses[step].severity for step in climb]) for climb in climbs],
            "power": powers,
            "contamination": mixed[0],
            "diversity": diversity(subject, latents, self.seed, told),
            "withheld": told,
            **self._of_content(responses.values(), content),
        }

    def _of_content(self, responses: Iterable[Response], content: Sequence[ContentLadder]) -> dict[str, Any]:
        if self.composition is None:
            return {}
        rows = [*self.composition.of_nothing(), *(row for ladder in content for row in ladder.rows())]
        rows += [row for response in responses for row in response.cross_talk]
        return {"kinds": self.composition.counts, "content": content, "cross_talk": rows}
