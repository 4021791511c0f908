"""What people should know of the weights that a fit makes."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torchmetrics_rl2.errors import RL2Error

__all__ = ["read_card"]


def read_card(card: Mapping[str, Any] | str | Path | None) -> dict[str, Any]:
    """What people should know of weights, as it is or from a JSON file; nothing without one.

    Raises:
        RL2Error: If it is no JSON object.

    """
    if card is None:
        return {}
    try:
        read = dict(card) if isinstance(card, Mapping) else json.loads(Path(card).read_text(encoding="utf-8"))
        json.dumps(read, allow_nan=False)
    except (OSError, TypeError, ValueError) as error:
        raise RL2Error(f"The card {card} is no JSON that can be read: {error}") from error
    if not isinstance(read, dict):
        raise RL2Error(
            f"The card {card} holds a {type(read).__name__}; expected an object with data, license, citation."
        )
    return read
