"""Weights of another laboratory, as another package brings them."""

from pathlib import Path

from torchmetrics_rl2 import CatalogEntry


def weights():
    return [
        CatalogEntry(
            name="acme/breast-40x@1",
            where=str(Path(__file__).with_name("breast-40x-1.safetensors")),
            sha256="40babb7a03825c6280810e01167c12f464b88a5efe84b53af37da0962ceb597a",
            bytes=7256,
            summary="H&E, breast, 40x",
            license="CC0-1.0",
            tissue="breast",
            px=64,
            mpp=0.25,
        )
    ]
