"""Fit readout and flow of ``lung-colon@3`` on the backbone of ``lung_colon_backbone.py``, and write the weights file.

    python recipes/lung_colon_flow.py LC25000 backbone.safetensors lung-colon-3.safetensors

The LC25000 files have to be 224 px, see ``lc25000.py --resize``. Three minutes on two CPU cores.

The readout has no gradient: the 512 channels of the backbone and the fifteen hand-crafted statistics are standardized
on the fit tiles, the statistics count six times as much, and the 512 principal components with the most variance are
kept. The kinds of tissue of the flow are the five of LC25000.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from lc25000 import PX, kinds_of, locate, tiles
from torchmetrics_rl2 import CatalogEntry, RL2Error
from torchmetrics_rl2.files import sha256_of
from torchmetrics_rl2.fitting import Split, fit_split
from torchmetrics_rl2.images import ImageReader
from torchmetrics_rl2.networks import FeatureExtractor, RealNVP
from torchmetrics_rl2.pixels import handcrafted_statistics
from torchmetrics_rl2.weights import Backbone, Weights, load_backbone, write_weights

CARD = {
    "summary": "H&E, lung and colon (LC25000), 224 px",
    "data": "LC25000 (Borkowski et al.): 540 tiles fitted backbone, readout and flow, 99 stopped the flow, 197 are the "
    "reference",
    "license": "Apache-2.0; the images are 'freely available for download to be used by AI researchers in any way they "
    "see fit'",
    "citation": "Borkowski et al., Lung and Colon Cancer Histopathological Image Dataset (LC25000), arXiv:1912.12142",
    "recipe": "recipes/lung_colon_backbone.py, recipes/lung_colon_flow.py",
}


WEIGHT = 6.0


def readout(backbone: Backbone, files: Sequence[Path]) -> dict[str, Tensor]:
    """Mean and matrix of the readout, from one file a tile."""
    extractor = FeatureExtractor(backbone.preprocessing, dict(backbone.state_dict))
    parts = [
        torch.cat([extractor(batch.images), handcrafted_statistics(batch.images.float() / 255)], 1)
        for batch in ImageReader().read(files)
    ]
    numbers = torch.cat(parts).double()
    sd = numbers.std(0)
    scale = sd.clamp(min=1e-2 * float(sd.square().mean().sqrt())).reciprocal()
    scale[extractor.num_features :] *= WEIGHT
    _, vectors = torch.linalg.eigh((numbers * scale).T.cov())
    matrix = scale[:, None] * vectors[:, -extractor.num_features :].flip(1)
    return {"mean": numbers.mean(0).float(), "matrix": matrix.float()}


def entry_of(name: str, file: Path, summary: str, tissue: str) -> CatalogEntry:
    """Row of the catalog for a file."""
    return CatalogEntry(name, file.name, sha256_of(file), file.stat().st_size, summary, "Apache-2.0", tissue, PX)


def main() -> None:
    """Fit with every file of the fit tiles, and one file a tile of the others, which are to be independent."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the LC25000 images, in any folder layout")
    parser.add_argument("backbone", type=Path, help="what lung_colon_backbone.py wrote")
    parser.add_argument("out", type=Path, help="the weights file")
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted run")
    arguments = parser.parse_args()
    split = Split(
        fit=locate(arguments.folder, tiles(["fit"])),
        stop=locate(arguments.folder, tiles(["stop"], variants=[0])),
        reference=locate(arguments.folder, tiles(["reference"], variants=[0])),
    )
    with Image.open(split.fit[0]) as image:
        if image.size != (PX, PX):
            raise RL2Error(f"Expected LC25000 files of {PX} px, got {image.size}; see lc25000.py --resize.")
    backbone = load_backbone(arguments.backbone)
    with_readout = arguments.out.with_suffix(".backbone.safetensors")
    if not with_readout.exists():
        # A backbone with a readout is a weights file; the flow in it is not used.
        flow = RealNVP(layers=0).requires_grad_(False)
        read = readout(backbone, locate(arguments.folder, tiles(["fit"], variants=[0])))
        weights = Weights(backbone.preprocessing, backbone.state_dict, flow.config, flow.state_dict(), readout=read)
        write_weights(weights, with_readout)
    kinds = kinds_of(arguments.folder, tiles(["fit", "stop", "reference"]))
    print(fit_split(split, arguments.out, backbone=with_readout, kinds=kinds, card=CARD, resume=arguments.resume))
    with_readout.unlink()
    entry = entry_of("lung-colon@3", arguments.out, CARD["summary"], "lung, colon")
    print("entry of the catalog:", json.dumps([asdict(entry)], indent=2))


if __name__ == "__main__":
    main()
