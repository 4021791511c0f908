"""Weights of another laboratory, as another package brings them."""

from pathlib import Path

from torchmetrics_rl2 import CatalogEntry


def weights():
    return [
        CatalogEntry(
            name="acme/breast-40x@1",
            where=str(Path(__file__).with_name("breast-40x-1.safetensors")),
            sha256="8bed774c43aba4b6593ad46452588992f1bc61e113f2944e36ea676a2dfc855f",
            bytes=5004,
            summary="H&E, breast, 40x",
            licence="CC0-1.0",
            tissue="breast",
            px=64,
            mpp=0.25,
        )
    ]
