"""Weights: a name or path becomes a verified file, a file becomes tensors."""

from torchmetrics_rl2.weights.backbone import Backbone, load_backbone
from torchmetrics_rl2.weights.catalog import CatalogEntry, list_weights, register_weights
from torchmetrics_rl2.weights.file import Weights, read_weights, write_weights
from torchmetrics_rl2.weights.importing import import_weights
from torchmetrics_rl2.weights.loading import fetch_weights, load_weights
from torchmetrics_rl2.weights.reference import Reference
from torchmetrics_rl2.weights.signatures import Signatures

__all__ = [
    "Backbone",
    "CatalogEntry",
    "Reference",
    "Signatures",
    "Weights",
    "fetch_weights",
    "import_weights",
    "list_weights",
    "load_backbone",
    "load_weights",
    "read_weights",
    "register_weights",
    "write_weights",
]
