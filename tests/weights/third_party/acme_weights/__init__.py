"""Weights of another laboratory, as another package brings them."""

from pathlib import Path

from torchmetrics_rl2 import CatalogEntry


def weights():
    return [
        CatalogEntry(
            name="acme/breast-40x@1",
            where=str(Path(__file__).with_name("breast-40x-1.safetensors")),
            sha256="f5c77657e3f192686117b20e34208898f14a4c11f616fe113fdeb64567cf4f8c",
            bytes=7336,
            summary="H&E, breast, 40x",
            license="CC0-1.0",
            tissue="breast",
            px=64,
            mpp=0.25,
        )
    ]
