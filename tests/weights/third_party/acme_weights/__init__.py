"""Weights of another laboratory, as another package brings them."""

from pathlib import Path

from torchmetrics_rl2 import CatalogEntry


def weights():
    return [
        CatalogEntry(
            name="acme/breast-40x@1",
            where=str(Path(__file__).with_name("breast-40x-1.safetensors")),
            sha256="2dd79af34af5249a5efa89f037df4f9f7a4471c3658115e11cdd0a481e78d27a",
            bytes=5036,
            summary="H&E, breast, 40x",
            license="CC0-1.0",
            tissue="breast",
            px=64,
            mpp=0.25,
        )
    ]
