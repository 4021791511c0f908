import sys
import warnings

import pytest
import torch

from tests.conftest import random_images
from tests.fixtures.processes import Started
from torchmetrics_rl2 import RL2Error
from torchmetrics_rl2.encoder import export_program


def run_without_us(path, images):
    """What a program computes where this package cannot be imported."""
    for name in [name for name in sys.modules if name.startswith("torchmetrics")]:
        sys.modules[name] = None
    sys.modules["torchmetrics_rl2"] = None
    return torch.export.load(path).module()(torch.tensor(images, dtype=torch.uint8)).tolist()


@pytest.mark.slow
def test_a_program_needs_nothing_of_ours_and_takes_any_batch(encoder, tmp_path):
    path = tmp_path / "latents.pt2"
    assert export_program(encoder, path) < 1e-4
    images = random_images(5, seed=9)
    latents = torch.tensor(Started(run_without_us, path, images.tolist()).result())
    expected = encoder(images)
    assert ((latents - expected).norm(dim=1) < 1e-4 * expected.norm(dim=1)).all()


@pytest.mark.slow
def test_onnx_runtime_computes_the_latents_of_weights_that_ship(shipped, tmp_path):
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    assert export_program(shipped, tmp_path / "latents.onnx", px=64) < 1e-4
    images = random_images(3, seed=9)
    session = onnxruntime.InferenceSession(str(tmp_path / "latents.onnx"))
    latents = torch.from_numpy(session.run(["latents"], {"images": images.numpy()})[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of patches of another size than 224 px
        expected = shipped(images)
    assert ((latents - expected).norm(dim=1) < 1e-4 * expected.norm(dim=1)).all()
    assert [path.name for path in tmp_path.iterdir()] == ["latents.onnx"]


def test_wrong_input_is_a_sentence(encoder, tmp_path):
    for out, px, sentence in (
        ("w.pth", None, "ends in '.pth'; a program ends in .pt2 or .onnx"),
        ("w.pt2", 16, "at least 32 px, but got 16"),
        ("nowhere/w.pt2", None, "the folder .*nowhere does not exist or is not writable"),
    ):
        with pytest.raises(RL2Error, match=sentence):
            export_program(encoder, tmp_path / out, px)
    assert not list(tmp_path.iterdir())
    (tmp_path / "w.pt2").mkdir()
    with pytest.raises(RL2Error, match="w.pt2 exists"):
        export_program(encoder, tmp_path / "w.pt2")
