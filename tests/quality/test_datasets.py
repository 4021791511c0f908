import inspect
import pickle

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from tests.fixtures.images import tissue
from torchmetrics_rl2.pixels.degradations import degrade
from torchmetrics_rl2.quality.datasets import keep_good, sample_by_quality, screen_dataset


@pytest.fixture(scope="module")
def dataset():
    good = tissue(24, seed=7)
    bad = degrade(good[:8], "gaussian noise", 0.8)
    return TensorDataset(torch.cat([good, bad]), torch.arange(32))


def test_training_goes_on_without_what_was_cut(dataset, screener):
    verdicts = screen_dataset(dataset, screener, batch_size=5)
    assert torch.equal(verdicts.score, screener(dataset.tensors[0]).score) or torch.allclose(
        verdicts.score, screener(dataset.tensors[0]).score, rtol=1e-4, atol=1e-3
    )
    seen = {int(i) for _, labels in DataLoader(keep_good(dataset, verdicts), batch_size=4) for i in labels}
    assert seen == set(torch.nonzero(verdicts.keep).flatten().tolist())
    assert not seen & set(range(24, 32))


def test_better_patches_are_drawn_more_often_and_cut_ones_never(dataset, screener):
    verdicts = screen_dataset(dataset, screener, image=lambda item: item[0])
    sampler = sample_by_quality(verdicts, 4000, generator=torch.Generator().manual_seed(0))
    drawn = torch.bincount(torch.tensor(list(sampler)), minlength=32).double()
    assert drawn[24:].sum() == 0
    expected = verdicts.percentile.clamp(1, 100) * verdicts.keep
    assert float((drawn / 4000 - expected / expected.sum()).abs().max()) < 0.02
    assert sample_by_quality(verdicts, 4000, least=0.5).weights[24:].tolist() == [0.5] * 8
    assert len(sample_by_quality(verdicts)) == int(verdicts.keep.sum())


def test_what_does_not_fit_is_said(dataset, screener):
    verdicts = screen_dataset(dataset, screener)
    with pytest.raises(ValueError, match="There are 32 verdicts on 31 items"):
        keep_good(TensorDataset(dataset.tensors[0][:31]), verdicts)
    with pytest.raises(ValueError, match="num_samples"):
        sample_by_quality(verdicts, 0)
    pickle.dumps(inspect.signature(screen_dataset).parameters["image"].default)  # workers that are spawned need it


def test_nothing_good_is_said(screener):
    with pytest.raises(ValueError, match="There is nothing to screen"):
        screen_dataset(TensorDataset(torch.zeros(0, 3, 64, 64)), screener)
    glass = TensorDataset(torch.full((2, 3, 64, 64), 240, dtype=torch.uint8))
    with pytest.raises(ValueError, match="None of 2 patches"):
        sample_by_quality(screen_dataset(glass, screener))
