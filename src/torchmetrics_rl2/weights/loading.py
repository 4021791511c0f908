"""From a name, path or URL to weights."""

import difflib
import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.rank_zero import rank_zero_only
from torchmetrics_rl2.weights.catalog import GROUP, NAME, bare_name, find_entry, list_weights
from torchmetrics_rl2.weights.download import Place, Received, is_remote
from torchmetrics_rl2.weights.file import Weights, read_weights

__all__ = ["fetch_weights", "lend", "load_weights"]

ANY_ORGAN = "histology"
log = logging.getLogger("torchmetrics_rl2")


def load_weights(name_or_path: str | Path) -> Weights:
    """Weights by name, from a file, a URL or the Hugging Face Hub, checked before use.

    Args:
        name_or_path: ``name@version``; a bare name, which stands for its newest version; the path of a file;
            ``https://...#sha256=...``; or ``hf://org/repo@commit/file.safetensors``.

    Raises:
        RL2Error: If nothing has that name, the file cannot be had, or it is not what it should be.

    """
    entry = find_entry(name_or_path)
    weights = read_weights(fetch_weights(name_or_path), lend)
    weights = replace(weights, name=entry.name if entry else os.fspath(name_or_path))
    _say(os.fspath(name_or_path), weights.name, weights.weights_id[:12])
    return weights


def lend(path: Path, backbone: Mapping[str, Any]) -> Weights:
    """Weights whose backbone a file names; they are of the catalog, so that no file decides which other is read.

    Raises:
        RL2Error: If there are no such weights.

    """
    name = backbone["weights"]
    entry = find_entry(name)
    if entry is None or entry.name != name:
        raise RL2Error(
            f"{path} has the backbone of the weights {ascii(name)[:80]}, a name with version that is not known here. "
            "Install the package that brings it, or a newer torchmetrics-rl2."
        )
    return replace(read_weights(entry.place.fetch()), name=entry.name)


def fetch_weights(name_or_path: str | Path, progress: Received | None = None) -> Path:
    """File of weights, downloaded if need be, its checksum compared.

    Args:
        name_or_path: As for :func:`load_weights`.
        progress: Told of a download; by default one line on standard error is.

    Raises:
        RL2Error: If nothing has that name, or the file cannot be had.

    """
    entry = find_entry(name_or_path)
    if entry is not None:
        return entry.place.fetch(progress)
    text = os.fspath(name_or_path)
    if isinstance(name_or_path, str) and is_remote(text):
        return Place.parse(text).fetch(progress)
    if isinstance(name_or_path, Path) or os.path.lexists(text) or not NAME.fullmatch(text):
        return Path(text)
    known = [entry.name for entry in list_weights()]
    versions = [name for name in known if bare_name(name) == bare_name(text)]
    near = versions or difflib.get_close_matches(
        text, known if "@" in text else list(dict.fromkeys(map(bare_name, known)))
    )
    hint = f"Did you mean {' or '.join(near)}?" if near else f"Known are {', '.join(known)}."
    if not near and ANY_ORGAN in map(bare_name, known):
        hint += f" For H&E of other organs take {ANY_ORGAN}."
    raise RL2Error(
        f"There are no weights named {text!r}, and no file of that name. {hint} Names come with this package, from "
        f"installed packages (entry points of {GROUP}) and from register_weights."
    )


@cache
@rank_zero_only
def _say(asked: str, name: str, weights_id: str) -> None:
    """Log, once, what a name was resolved to."""
    log.info("weights %s: %s (%s)", asked, name, weights_id)
