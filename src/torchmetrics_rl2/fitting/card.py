"""What people should know of the weights that a fit makes."""

import json
from pathlib import Path
from typing import Any

from torchmetrics_rl2.errors import RL2Error

__all__ = ["read_card"]


def read_card(path: str | Path | None) -> dict[str, Any]:
    """What people should know of weights, from a JSON file; nothing without one.

    Raises:
        RL2Error: If it is no JSON file of an object.

    """
    if path is None:
        return {}
    try:
        card = json.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise RL2Error(f"The card {path} is no JSON file that can be read: {error}") from error
    if not isinstance(card, dict):
        raise RL2Error(
            f"The card {path} holds a {type(card).__name__}; expected an object with data, license, citation."
        )
    return card
