"""An encoder becomes a program that needs no torchmetrics-rl2."""

import os
import tempfile
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from torchmetrics_rl2.encoder.encoder import LatentEncoder
from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.files import check_folder
from torchmetrics_rl2.pixels.batch import MIN_PX

__all__ = ["export_program"]

TOLERANCE = 1e-4


class _Program(nn.Module):
    """What the encoder computes, without the switches of arithmetic, which belong to whoever runs it."""

    def __init__(self, encoder: LatentEncoder) -> None:
        super().__init__()
        self.features, self.flow = encoder.features, encoder.flow

    def forward(self, images: Tensor) -> Tensor:
        latents: Tensor = self.flow(self.features.with_gradients(images))[0]
        return latents


def export_program(encoder: LatentEncoder, out: str | Path, px: int | None = None) -> float:
    """Write a program from uint8 images ``(N, 3, px, px)``, for any N, to latents ``(N, 512)``.

    Args:
        encoder: The encoder.
        out: A ``.pt2`` file for :func:`torch.export.load`, or an ``.onnx`` file.
        px: Side of the images in pixels; by default that of the weights.

    Returns:
        Largest difference of a latent of noise from the encoder's, in shares of its norm.

    Raises:
        RL2Error: If the program does not compute the latents of the encoder to 1e-4, or cannot be written.

    """
    out = Path(out)
    px = px or encoder.features.preprocessing.px
    if out.suffix not in (".pt2", ".onnx"):
        raise RL2Error(f"{out} ends in {out.suffix!r}; a program ends in .pt2 or .onnx.")
    if px is None or px < MIN_PX:
        raise RL2Error(
            f"Expected a side of at least {MIN_PX} px, but got {px}. Give one, with --px; {encoder.name} may not say "
            "which."
        )
    if os.path.lexists(out):
        raise RL2Error(f"{out} exists. Choose another name, or remove it first.")
    check_folder(out)
    images = torch.randint(0, 256, (3, 3, px, px), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    encoder = encoder.with_dtype(torch.float32).cpu()  # a copy: the caller's stays where it is
    program = _Program(encoder).eval()
    with tempfile.TemporaryDirectory(dir=out.absolute().parent) as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter, about itself
        part = Path(folder, out.name)
        with torch.no_grad():
            exported = torch.export.export(
                program, (images[:2].clone(),), dynamic_shapes={"images": {0: torch.export.Dim("batch")}}
            )
        latents = (_write_onnx if out.suffix == ".onnx" else _write_pt2)(exported, part, images)
        expected = encoder(images)
        difference = float(((latents - expected).norm(dim=1) / expected.norm(dim=1)).max())
        if not difference <= TOLERANCE:
            raise RL2Error(f"The program's latents differ by {difference:.1e} of their norm; nothing was written.")
        part.replace(out)
    return difference


def _write_pt2(exported: torch.export.ExportedProgram, path: Path, images: Tensor) -> Tensor:
    torch.export.save(exported, path)
    latents: Tensor = torch.export.load(path).module()(images)
    return latents


def _write_onnx(exported: torch.export.ExportedProgram, path: Path, images: Tensor) -> Tensor:
    try:
        import onnxruntime

        program = torch.onnx.export(
            exported, dynamo=True, verbose=False, external_data=False, input_names=["images"], output_names=["latents"]
        )
        assert program is not None
        program.save(str(path))
    except ImportError as error:
        raise RL2Error("ONNX needs onnx, onnxscript and onnxruntime: pip install 'torchmetrics-rl2[onnx]'.") from error
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {session.get_inputs()[0].name: images.numpy()})[0])
