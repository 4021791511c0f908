import subprocess
import sys

import pytest
import torch

from tests.conftest import random_images
from torchmetrics_rl2 import LatentEncoder, RL2Error
from torchmetrics_rl2.encoder import export_program

RUN = "import sys, torch; torch.save(torch.export.load(sys.argv[1]).module()(torch.load(sys.argv[2])), sys.argv[3])"


def test_a_program_needs_nothing_of_ours_and_takes_any_batch(encoder, tmp_path):
    path = tmp_path / "latents.pt2"
    assert export_program(encoder, path) < 1e-4
    images = random_images(5, seed=9)
    torch.save(images, tmp_path / "images.pt")
    hide = "import sys; sys.modules['torchmetrics_rl2'] = None; "
    arguments = [path, tmp_path / "images.pt", tmp_path / "latents.pt"]
    subprocess.run([sys.executable, "-c", hide + RUN, *map(str, arguments)], check=True)
    latents, expected = torch.load(tmp_path / "latents.pt"), encoder(images)
    assert ((latents - expected).norm(dim=1) < 1e-4 * expected.norm(dim=1)).all()


def test_onnx_runtime_computes_the_latents_of_weights_with_a_readout(tmp_path):
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    encoder = LatentEncoder.load("lung-colon@2")
    assert export_program(encoder, tmp_path / "latents.onnx", px=64) < 1e-4
    images = random_images(3, seed=9)
    session = onnxruntime.InferenceSession(str(tmp_path / "latents.onnx"))
    latents = torch.from_numpy(session.run(["latents"], {"images": images.numpy()})[0])
    with pytest.warns(UserWarning, match="224 x 224"):
        expected = LatentEncoder.load("lung-colon@2")(images)
    assert ((latents - expected).norm(dim=1) < 1e-4 * expected.norm(dim=1)).all()
    assert [path.name for path in tmp_path.iterdir()] == ["latents.onnx"]


def test_wrong_input_is_a_sentence(encoder, tmp_path):
    for out, px, sentence in (
        ("w.pth", None, "ends in '.pth'; a program ends in .pt2 or .onnx"),
        ("w.pt2", 16, "at least 32 px, but got 16"),
        ("nowhere/w.pt2", None, "no folder .*nowhere that takes files"),
    ):
        with pytest.raises(RL2Error, match=sentence):
            export_program(encoder, tmp_path / out, px)
    assert not list(tmp_path.iterdir())
    (tmp_path / "w.pt2").mkdir()
    with pytest.raises(RL2Error, match="w.pt2 exists"):
        export_program(encoder, tmp_path / "w.pt2")
