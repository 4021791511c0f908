"""Options that verbs share: how images are read."""

from typing import Annotated

from typer import Option

Tile = Annotated[int | None, Option(metavar="PX", help="Cut images into tiles of this side first.")]
Scale = Annotated[float | None, Option(metavar="F", help="Resize images by this factor before, antialiased.")]
Workers = Annotated[int | None, Option(help="Processes that read images. By default 0 on a CPU, up to 8 beside a GPU.")]
SkipUnreadable = Annotated[
    bool, Option("--skip-unreadable", help="Leave out files that cannot be read, and report how many.")
]
