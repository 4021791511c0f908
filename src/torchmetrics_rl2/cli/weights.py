"""``rl2 weights``: its verbs."""

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from torchmetrics_rl2.cli.options import complete_weights
from torchmetrics_rl2.cli.output import download_bar, errors, print_json

if TYPE_CHECKING:
    from torchmetrics_rl2.weights.catalog import CatalogEntry

weights = typer.Typer(help="List, show, download, check, import and export weights.", no_args_is_help=True)

Name = Annotated[str, Argument(help="Name, path or URL of weights.", autocompletion=complete_weights)]
Names = Annotated[
    list[str] | None,
    Argument(help="Names, paths or URLs; by default all weights on this machine.", autocompletion=complete_weights),
]
Json = Annotated[bool, Option("--json", help="Print JSON.")]


@weights.command("list")
def list_(json: Json = False) -> None:
    """List the weights that have a name: those of this package and of other installed packages.

    rl2 weights list
    """
    from torchmetrics_rl2.weights.catalog import list_weights

    rows = [{**asdict(entry), "where": _where(entry)} for entry in list_weights()]
    if json:
        print_json(rows)
        return
    shown: list[tuple[str, ...]] = [("name", "tissue", "px", "mpp", "MB", "license", "where", "summary")]
    for row in rows:
        px, mpp = ("-" if row[key] is None else f"{row[key]:g}" for key in ("px", "mpp"))
        size = f"{row['bytes'] / 1e6:.1f}"
        shown.append((row["name"], row["tissue"], px, mpp, size, row["license"], row["where"], row["summary"]))
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    for line in shown:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _where(entry: "CatalogEntry") -> str:
    """Where a file is: ``installed``, ``cached``, or the address it would come from."""
    from torchmetrics_rl2.weights.download import is_remote

    if not is_remote(entry.where):
        return "installed"
    return "cached" if entry.place.is_here() else entry.where


@weights.command()
def show(name: Name, json: Json = False) -> None:
    """Show the card of weights: their data, license and citation, the patches they are for, and their last audit.

    --json also has how the flow was fitted. There, 'backbone_of' names the weights whose file holds the backbone, if it
    is another file, and 'between_groups' is what the reference images of one group, such as a laboratory, score against
    the others: least, median, greatest.

    rl2 weights show histology
    """
    from torchmetrics_rl2.encoder.card import card_text, describe
    from torchmetrics_rl2.weights.loading import load_weights

    described = describe(load_weights(name))
    if json:
        print_json(described)
    else:
        typer.echo(card_text(described))


@weights.command()
def fetch(names: Annotated[list[str], Argument(help="Names or URLs.", autocompletion=complete_weights)]) -> None:
    """Download weights into the cache and print their paths, for example for cluster nodes without internet.

    The cache is TORCHMETRICS_RL2_HOME, by default ~/.cache/torchmetrics-rl2. With TORCHMETRICS_RL2_OFFLINE=1 the
    network is never touched.

    rl2 weights fetch https://lab.org/ours.safetensors#sha256=...
    """
    from torchmetrics_rl2.weights.loading import fetch_weights, load_weights

    for name in names:
        with download_bar(name) as report:
            path = fetch_weights(name, report)
            load_weights(name)  # with the backbone that it may share
        typer.echo(path)


@weights.command()
def path(name: Name) -> None:
    """Print the path of a weights file, after downloading it if needed.

    cp $(rl2 weights path lung-colon) ours.safetensors
    """
    from torchmetrics_rl2.weights.loading import fetch_weights

    with download_bar(name) as report:
        found = fetch_weights(name, report)
    if not os.path.isfile(found):
        from torchmetrics_rl2.weights.file import read_weights

        read_weights(found)  # says what is wrong
    typer.echo(found)


@weights.command()
def verify(names: Names = None, json: Json = False) -> None:
    """Check weights files against their checksums and read all of them; the exit code is 1 if one is damaged.

    rl2 weights verify
    """
    from torchmetrics_rl2.errors import RL2Error
    from torchmetrics_rl2.weights.catalog import find_entry, list_weights
    from torchmetrics_rl2.weights.loading import load_weights

    rows = []
    for name in names or [entry.name for entry in list_weights() if entry.place.is_here()]:
        try:
            entry = find_entry(name)
            if entry:
                entry.place.check_cached()
            loaded = load_weights(name)
            rows.append({"name": loaded.name, "ok": True, "weights_id": loaded.weights_id, "error": None})
        except RL2Error as error:
            rows.append({"name": name, "ok": False, "weights_id": None, "error": str(error)})
    if json:
        print_json(rows)
    else:
        for row in rows:
            typer.echo(f"{row['name']}: {'ok, ' + str(row['weights_id'])[:12] if row['ok'] else row['error']}")
    if not all(row["ok"] for row in rows):
        raise typer.Exit(1)


@weights.command("import")
def import_(
    checkpoint: Annotated[
        str,
        Argument(
            help="A ResNet-18: a state dict of torchvision's or of TIAToolbox's, weights, or 'imagenet'.",
        ),
    ],
    out: Annotated[Path, Option("--out", "-o", metavar="FILE", help="The .safetensors file to write.")],
    flow: Annotated[
        Path | None,
        Option(help="State dict of a RealNVP of this package. Without it, latents are the features."),
    ] = None,
    pixels: Annotated[
        str | None,
        Option(
            metavar="imagenet|unit",
            help="What the network expects: pixels normalized as for ImageNet, which torchvision's do, or in [0, 1], "
            "which TIAToolbox's do. By default it follows from the checkpoint.",
        ),
    ] = None,
    px: Annotated[int | None, Option(help="Side of the patches it was made for, in pixels.")] = None,
    mpp: Annotated[float | None, Option(help="Their resolution in um/px.")] = None,
    summary: Annotated[str, Option(help="One line for the card.")] = "",
    license: Annotated[str, Option(help="Terms of use, for the card.")] = "",
) -> None:
    """Turn a ResNet-18 checkpoint into a weights file, to use by path or with rl2 fit --backbone.

    rl2 weights import resnet18-kather100k.pth --px 224 --mpp 0.5 -o kather.safetensors

    rl2 fit our_patches/ --backbone kather.safetensors -o ours.safetensors
    """
    from torchmetrics_rl2.weights.importing import import_weights

    card = {key: value for key, value in (("summary", summary), ("license", license)) if value}
    made = import_weights(checkpoint, out, flow=flow, pixels=pixels, px=px, mpp=mpp, card=card)
    layers = made.flow_config["layers"]
    typer.echo(f"Wrote {out} ({made.weights_id[:12]}): backbone {made.backbone_id[:12]}, {layers} coupling layers")
    if flow is None:
        errors.print(
            "Without a flow, its latents are the features themselves: 'rl2 fit IMAGES --backbone FILE' fits a flow to "
            "your real patches."
        )


@weights.command()
def export(
    name: Name,
    out: Annotated[Path, Option("--out", "-o", metavar="PT2|ONNX", help="A .pt2 or .onnx file to write.")],
    px: Annotated[int | None, Option(help="Side of the patches in pixels; by default that of the weights.")] = None,
) -> None:
    """Write a program that computes latents without this package, for torch.export (.pt2) or ONNX Runtime (.onnx).

    Its input is uint8 (N, 3, px, px) for any N; its output is latents (N, 512). It is checked against this package
    before it is written.

    rl2 weights export lung-colon -o lung-colon.onnx
    """
    from torchmetrics_rl2.encoder.encoder import LatentEncoder
    from torchmetrics_rl2.encoder.exporting import export_program

    with errors.status(f"Exporting {name}"):
        difference = export_program(LatentEncoder.load(name), out, px)
    typer.echo(f"Wrote {out}: its latents differ from those of this package by at most {difference:.1e} of their norm")
