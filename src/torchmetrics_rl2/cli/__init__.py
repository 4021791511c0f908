"""The ``rl2`` command; every verb is a call of the library."""

import io
import sys

__all__ = ["main"]


def main() -> None:
    """Run ``rl2``."""
    try:
        from torchmetrics_rl2.cli.app import run
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich"):
            raise
        sys.exit(f"The rl2 command needs {error.name}: pip install 'torchmetrics-rl2[cli]'")
    except KeyboardInterrupt:
        sys.exit(130)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names of files may be no text in the encoding of the terminal
            stream.reconfigure(errors="backslashreplace")
    run()
