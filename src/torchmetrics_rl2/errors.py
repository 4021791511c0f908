"""The one exception for input that can be mended by the person who gave it."""

__all__ = ["RL2Error"]


class RL2Error(ValueError):
    """Says what was got, what was expected and what to do; the ``rl2`` command prints it and exits with 2."""
