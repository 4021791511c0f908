"""Weights: a name or path becomes a verified file, a file becomes tensors."""

from torchmetrics_rl2.weights.catalog import (
    CatalogEntry,
    fetch_weights,
    list_weights,
    load_weights,
    register_weights,
)
from torchmetrics_rl2.weights.file import Preprocessing, Reference, Weights, read_weights, write_weights

__all__ = [
    "CatalogEntry",
    "Preprocessing",
    "Reference",
    "Weights",
    "fetch_weights",
    "list_weights",
    "load_weights",
    "read_weights",
    "register_weights",
    "write_weights",
]
