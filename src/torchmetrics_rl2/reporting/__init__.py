"""A result as a page that anyone can open: ``rl2 score --report``."""

from torchmetrics_rl2.reporting.run import report_to

__all__ = ["report_to"]
