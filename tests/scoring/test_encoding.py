import pytest
import torch
from torchvision.transforms.v2.functional import to_pil_image

from tests.conftest import Moments, random_images
from torchmetrics_rl2 import RL2Error, compute_statistics, score
from torchmetrics_rl2.scoring import encoding


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch):
    monkeypatch.setattr(encoding, "CHUNK", 5)
    monkeypatch.setattr(encoding, "TILED_CHUNK", 3)


class Cramped(Moments):
    """With memory for so many images at once, or for as many as there are again when it failed."""

    def __init__(self, most, error=RuntimeError, times=100):
        super().__init__()
        self.most, self.error, self.times, self.sizes = most, error, times, []

    def forward(self, imgs):
        self.sizes.append(len(imgs))
        if len(imgs) > self.most and self.times:
            self.times -= 1
            raise self.error("not enough memory: you tried to allocate 9 bytes")
        return super().forward(imgs)


def test_chunks_change_nothing_but_where_batches_end(patches, encoder, monkeypatch):
    small = score(patches / "b", patches / "a", weights=encoder, explain=True, tile=32)
    monkeypatch.setattr(encoding, "TILED_CHUNK", 1000)
    whole = score(patches / "b", patches / "a", weights=encoder, explain=True, tile=32)
    assert small.value == pytest.approx(whole.value, rel=1e-6)
    assert small.outliers == whole.outliers
    assert [one.image for one in small.explanation.images] == [one.image for one in whole.explanation.images]
    assert len(small.explanation.images) == 12


@pytest.mark.parametrize("error", [RuntimeError, MemoryError, torch.OutOfMemoryError])
def test_a_batch_that_takes_too_much_memory_is_halved_once_and_this_is_said(patches, error):
    expected = compute_statistics(patches / "a", weights=Moments())
    network = Cramped(2, error)
    with pytest.warns(UserWarning, match="5 images of 64 x 64 px needs more memory than cpu .*--batch-size 2"):
        found = compute_statistics(patches / "a", weights=network)
    assert network.sizes == [5, 2, 2, 1, 2, 1]
    torch.testing.assert_close(found.sums.sum, expected.sums.sum)
    assert len(found) == 8


def test_a_second_time_it_is_a_sentence_with_the_size_that_failed(patches):
    with (
        pytest.warns(UserWarning, match="batches have 2"),
        pytest.raises(RL2Error, match=r"A batch of 2 images .* cpu has left. Give --batch-size 1 or less"),
    ):
        compute_statistics(patches / "a", weights=Cramped(1))


def test_one_image_that_takes_too_much_memory_has_to_be_cut(patches):
    with pytest.raises(RL2Error, match=r"A batch of 1 images of 64 x 64 px .* with --tile"):
        compute_statistics(patches / "a", weights=Cramped(0), batch_size=1)


def test_other_faults_of_a_network_are_not_taken_for_want_of_memory(patches):
    network = Cramped(0)
    network.error = lambda said: RuntimeError("shapes cannot be multiplied")
    with pytest.raises(RL2Error, match="shapes cannot be multiplied"):
        compute_statistics(patches / "a", weights=network)


def test_the_appearance_is_of_images_all_over_a_side(tmp_path, encoder):
    """The second half of the files is dark, and of a chunk of its own."""
    for i, image in enumerate(random_images(24, px=32)):
        to_pil_image(image if i < 12 else image // 8).save(tmp_path / f"{i:02}.png")
    images = encoding.Encoding(encoder, encoding.ImageReader())
    source = encoding.ImageSource("x", sorted(tmp_path.iterdir()), None)
    (chunks,) = images.chunks("real", [source])
    densities = torch.cat([one.appearance for one in images.of("real", chunks)])[:, 1]
    assert len(densities) == 24
    assert densities[12:].min() > densities[:12].max()
