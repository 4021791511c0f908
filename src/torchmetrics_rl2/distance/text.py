"""Numbers of a result as people read them."""

import math
from typing import Any

__all__ = [
    "CLOSER",
    "LEVEL",
    "NO_DIFFERENCE",
    "POWER",
    "identity_text",
    "if_finite",
    "p_text",
    "percent",
    "range_text",
    "three_digits",
    "times",
    "without_nan",
]

LEVEL = 0.05
POWER = 0.8
NO_DIFFERENCE = "no difference beyond chance"
CLOSER = "closer than chance allows, as copies of real images are"


def identity_text(weights_id: str | None) -> str:
    """The first digits of an identity."""
    return weights_id[:12] if weights_id else "no weights_id"


def p_text(p_value: float) -> str:
    """A p-value as journals print it."""
    text = f"{p_value:.2g}"
    if (float(text) < LEVEL) != (p_value < LEVEL):  # rounded onto the level
        text = f"{p_value:.4f}"
    return "< 0.001" if p_value < 0.001 else text


def percent(*shares: float) -> str:
    """A share in percent, or from one share to another."""
    return f"{' to '.join(f'{100 * share:.0f}' for share in shares)} %"


def if_finite(value: float) -> float | None:
    """The value, unless it is NaN or infinite, which JSON does not know."""
    return value if math.isfinite(value) else None


def without_nan(value: Any) -> Any:
    """The same with None for NaN and infinity."""
    if isinstance(value, dict):
        return {key: without_nan(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(one) for one in value]
    return if_finite(value) if isinstance(value, float) else value


def three_digits(value: float) -> str:
    """Three significant digits, without an exponent where that is readable."""
    if not math.isfinite(value) or (value and not 1e-3 <= abs(value) < 1e6):
        return f"{value:.3g}"
    places = max(0, 2 - math.floor(math.log10(abs(value)))) if value else 0
    return f"{float(f'{value:.3g}'):.{places}f}"


def range_text(ends: tuple[float, float]) -> str:
    """An interval."""
    return "{} to {}".format(*map(three_digits, ends))


def times(multiple: float) -> str:
    """A multiple of the baseline, without its x."""
    return f"{multiple:.2f}" if multiple < 1 else f"{multiple:.1f}" if multiple < 100 else f"{multiple:.0f}"
