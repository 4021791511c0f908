"""``rl2 weights``."""

import dataclasses
import json as json_
from typing import Annotated

import typer
from typer import Argument, Option


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
        lines = [f"{row['name']:16}{row['bytes'] / 1e6:5.1f} MB  {row['summary']}" for row in rows]
        typer.echo(json_.dumps(rows, indent=2) if json else "\n".join(lines))
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
        typer.echo(json_.dumps(shown, indent=2))
        return
    for key, value in shown.items():
        typer.echo(f"{key}: {value if isinstance(value, str) else json_.dumps(value, indent=2)}")
