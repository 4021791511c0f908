"""Weights of another laboratory, as another package brings them."""

from pathlib import Path

from torchmetrics_rl2 import CatalogEntry


def weights():
    return [
        CatalogEntry(
            name="acme/breast-40x@1",
            where=str(Path(__file__).with_name("breast-40x-1.safetensors")),
            sha256="d95d61b10d7c0bfb88f2b7ae742d88834065dd18602683719ce50d381063134c",
            bytes=7336,
            summary="H&E, breast, 40x",
            license="CC0-1.0",
            tissue="breast",
            px=64,
            mpp=0.25,
        )
    ]
