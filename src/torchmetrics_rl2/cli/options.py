"""Options that verbs share: how images are read."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from typer import Option


def complete_weights(incomplete: str) -> Iterator[tuple[str, str]]:
    """Names of weights that begin so, with what they are, for the shell; versions only once there is an @.

    Bash takes an @ for the end of a word, and would be stuck behind it.
    """
    from torchmetrics_rl2.weights.catalog import list_weights

    versions = "@" in incomplete
    names = {entry.name if versions else entry.name.rpartition("@")[0]: entry.summary for entry in list_weights()}
    yield from ((name, summary) for name, summary in names.items() if name.startswith(incomplete))


Tile = Annotated[int | None, Option(metavar="PX", help="Cut images into square tiles of this side, in pixels.")]
Scale = Annotated[float | None, Option(metavar="F", help="Resize all images by this factor first, antialiased.")]
Workers = Annotated[int | None, Option(help="Processes that read images. Default: 0 on a CPU, up to 8 with a GPU.")]
BatchSize = Annotated[int, Option(help="Images per batch; the result depends on it by rounding alone.")]
Device = Annotated[str | None, Option(help="cpu, cuda, cuda:1 or mps. Default: a GPU if there is one.")]
Resume = Annotated[
    Path | None,
    Option(
        metavar="FOLDER",
        help="Keep in this folder what was computed, 2 kB a patch, as work goes on. Whatever ends the run, the same "
        "command goes on from there. The folder stays; remove it when you have the result.",
    ),
]
Devices = Annotated[int, Option(help="Devices of each machine that share the patches; the result is that of one.")]
Nodes = Annotated[int, Option(help="Machines that share the patches, through a --resume FOLDER that all see.")]
WeightsName = Annotated[
    str,
    Option(
        "--weights",
        help="Name of weights, such as histology, the path of a file, or a URL.",
        autocompletion=complete_weights,
    ),
]
SkipUnreadable = Annotated[
    bool, Option("--skip-unreadable", help="Leave out files that cannot be read, and list them.")
]
