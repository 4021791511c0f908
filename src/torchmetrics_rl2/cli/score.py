"""``rl2 score``."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from torchmetrics_rl2.cli.options import Scale, SkipUnreadable, Tile, Workers
from torchmetrics_rl2.cli.output import print_json, print_unreadable, progress_bars


def score(
    fake: Annotated[str, Argument(help="Generated patches: a folder, a glob in quotes, or a text file of paths.")],
    real: Annotated[
        str | None,
        Option(help="Real patches in the same forms. Without it, the reference inside the weights is used."),
    ] = None,
    weights: Annotated[
        str, Option(help="Name of weights, such as lung-colon@1, or the path of a file.")
    ] = "lung-colon",
    tile: Tile = None,
    scale: Scale = None,
    batch_size: Annotated[int, Option(help="Images a batch; the value does not depend on it.")] = 64,
    workers: Workers = None,
    device: Annotated[str | None, Option(help="cpu, cuda, cuda:1 or mps. By default a GPU if there is one.")] = None,
    skip_unreadable: SkipUnreadable = False,
    json: Annotated[bool, Option("--json", help="Print the result, with every setting, as JSON.")] = False,
) -> None:
    """Print the RL2 distance of generated patches from real ones; lower is closer.

    Compare only values of the same weights and reference, at the same number of patches: small sets score higher. The
    debiased value is free of that; below 0, the sets are no further apart than chance makes them.

    rl2 score generated/ --real real/

    rl2 score generated/ --weights ours.safetensors --json
    """
    from torchmetrics_rl2 import scoring

    with progress_bars() as report:
        result = scoring.score(
            fake,
            "weights" if real is None else Path(real) if real else "",
            weights=weights,
            tile=tile,
            scale=scale,
            batch_size=batch_size,
            workers=workers,
            device=device,
            skip_unreadable=skip_unreadable,
            progress=report,
        )
    if json:
        print_json(dataclasses.asdict(result))
        return
    reference = "the reference inside the weights" if real is None else result.real
    typer.echo(
        f"RL2 {result.value:.4f} (debiased {result.debiased:.4f}): {result.n_fake} images of {result.fake} against "
        f"{result.n_real} of {reference}, weights {result.weights} ({result.weights_id[:12]})"
    )
    print_unreadable(result.unreadable)
