"""The application: its verbs, and how each ends."""

import sys

import typer

from torchmetrics_rl2._version import __version__
from torchmetrics_rl2.cli import audit, compare, fit, plan, score, screen, stats, weights
from torchmetrics_rl2.cli.output import drop, fail
from torchmetrics_rl2.errors import RL2Error

app = typer.Typer(
    name="rl2",
    help="RL2 (ResNet-L2): distance between real and generated histopathology patches, and quality control of both.\n\n"
    "Begin with `rl2 score generated/ --real real/`. With `--help`, each command shows examples.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
app.command("score")(score.score)
app.command("compare")(compare.compare)
app.command("plan")(plan.plan)
app.command("stats")(stats.stats)
app.command("fit")(fit.fit)
app.command("audit")(audit.audit)
app.command("screen")(screen.screen)
app.add_typer(weights.weights, name="weights")


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"torchmetrics-rl2 {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True, help="Print the version."),
) -> None:
    pass


def run() -> None:
    """Run a verb; wrong input ends with a sentence and 2, and so does an output that takes nothing."""
    try:
        try:
            app()
        finally:
            if sys.stdout is not None:  # closed by the caller
                sys.stdout.flush()
    except RL2Error as error:
        fail(str(error))
    except OSError as error:
        out = sys.__stdout__
        if out is not None and out is sys.stdout:
            drop(out)
        if isinstance(error, BrokenPipeError):
            sys.exit(1)
        fail(f"{error.filename or 'Standard output'} cannot be used: {error.strerror or error}.")
