"""``rl2 weights``."""

import dataclasses
import json as json_
from typing import Annotated

import typer
from typer import Argument, Option

from torchmetrics_rl2.cli.output import print_json


def weights(
    name: Annotated[str | None, Argument(help="Name or path; without it, all names are listed.")] = None,
    json: Annotated[bool, Option("--json", help="Print JSON.")] = False,
) -> None:
    """List weights, or show and check one: what it is, what it was made from, its identity.

    rl2 weights

    rl2 weights lung-colon
    """
    from torchmetrics_rl2.weights import list_weights, load_weights

    if name is None:
        rows = [dataclasses.asdict(entry) for entry in list_weights()]
        if json:
            print_json(rows)
            return
        for row in rows:
            typer.echo(f"{row['name']:16}{row['bytes'] / 1e6:5.1f} MB  {row['summary']}")
        return
    loaded = load_weights(name)
    shown = {
        "name": loaded.name,
        "weights_id": loaded.weights_id,
        "trunk_id": loaded.trunk_id,
        "preprocessing": dataclasses.asdict(loaded.preprocessing),
        "flow": dict(loaded.flow_config),
        "n_reference": int(loaded.reference.sums.count) if loaded.reference else 0,
        "card": dict(loaded.card),
    }
    if json:
        print_json(shown)
        return
    for key, value in shown.items():
        typer.echo(f"{key}: {value if isinstance(value, str) else json_.dumps(value, indent=2)}")
