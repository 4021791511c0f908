import itertools
import pickle

import pytest
import torch
import torchmetrics
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import distributed
from torch.multiprocessing import spawn
from torchmetrics import MetricCollection

from tests.conftest import tissue
from torchmetrics_rl2 import PatchQuality
from torchmetrics_rl2.pixels.degradations import degrade

GOOD = tissue(24, seed=11)
BAD = degrade(GOOD[:12], "gaussian blur", 0.2)
IMAGES, TARGET = torch.cat([GOOD, BAD]), torch.tensor([0] * 24 + [1] * 12)


@pytest.fixture
def quality(encoder, calibration):
    return PatchQuality(encoder, calibration=calibration, max_false_rejection=0.05)


def test_values_are_those_of_scikit_learn(quality, screener):
    for images, target in zip(IMAGES.split(10), TARGET.split(10), strict=True):
        quality.update(images, target)
    found, verdicts = quality.compute(), screener(IMAGES)
    assert float(found["percentile"]) == pytest.approx(float(verdicts.percentile.mean()), rel=1e-4)
    assert float(found["kept"]) == pytest.approx(float(verdicts.keep.float().mean()))
    assert float(found["auroc"]) == pytest.approx(roc_auc_score(TARGET, -verdicts.score), abs=1e-6)
    assert float(found["auprc"]) == pytest.approx(average_precision_score(TARGET, -verdicts.score), abs=1e-6)
    assert 0.5 < float(found["auroc"]) < 1  # neither trivial nor perfect, so that a wrong order would show


def test_without_labels_there_are_means_alone(quality):
    assert set(quality(GOOD)) == {"percentile", "kept"}
    with pytest.raises(ValueError, match="with every batch, or with none"):
        quality.update(GOOD, torch.zeros(24))
    quality.reset()
    quality.update(GOOD, torch.zeros(24))
    with pytest.raises(ValueError, match="with every batch, or with none"):
        quality.update(GOOD)
    with pytest.raises(ValueError, match="a label for each"):
        quality.update(GOOD, torch.zeros(3))


def test_labels_that_forward_could_not_miss_are_missed_at_the_end(quality):
    quality(GOOD, torch.zeros(24))
    quality(GOOD)
    with pytest.raises(ValueError, match="with every batch, or with none"):
        quality.compute()


def test_a_collection_tells_metrics_apart_that_agree_at_first(encoder, calibration):
    loose, strict = (PatchQuality(encoder, calibration=calibration, max_false_rejection=loss) for loss in (0.02, 0.5))
    together = MetricCollection({"loose": loose, "strict": strict}, prefix="q/")
    alone = PatchQuality(encoder, calibration=calibration, max_false_rejection=0.5)
    for images in (torch.full((4, 3, 64, 64), 240, dtype=torch.uint8), GOOD):
        together.update(images)
        alone.update(images)
    found = together.compute()
    kept = sorted(float(value) for name, value in found.items() if "kept" in name)
    assert kept[0] == float(alone.compute()["kept"]) < kept[1]


def test_it_is_pickled_and_leaves_checkpoints_alone(quality):
    quality.update(IMAGES, TARGET)
    assert pickle.loads(pickle.dumps(quality)).compute() == quality.compute()
    assert not quality.state_dict()
    assert not list(quality.parameters())


def gather(rank, port, calibration, encoder, results):
    distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    quality = PatchQuality(encoder, calibration=calibration, max_false_rejection=0.05)
    quality.update(IMAGES[rank::2], TARGET[rank::2])
    found = quality.compute()
    quality.sync()
    results[rank] = (
        {name: float(value) for name, value in found.items()},
        torchmetrics.utilities.dim_zero_cat(quality.scores).tolist(),
    )
    # Without labels, and with one process that has seen nothing.
    for name, share in (("unlabeled", GOOD[rank::2]), ("one", GOOD if rank == 0 else None)):
        quality = PatchQuality(encoder, calibration=calibration, max_false_rejection=0.05)
        if share is not None:
            quality.update(share)
        results[name, rank] = {key: float(value) for key, value in quality.compute().items()}
    distributed.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_say_what_one_does(quality, encoder, calibration, tmp_path):
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    results = torch.multiprocessing.Manager().dict()
    spawn(gather, (port, calibration, encoder, results), 2)
    quality.update(IMAGES, TARGET)
    one = quality.compute()
    assert sorted(results[0][1]) == sorted(results[1][1])
    assert sorted(results[0][1]) == pytest.approx(sorted(torch.cat(quality.scores).tolist()), rel=1e-4, abs=1e-3)
    for rank in (0, 1):
        assert results[rank][0] == pytest.approx({name: float(value) for name, value in one.items()}, rel=1e-4)
    quality.reset()
    quality.update(GOOD)
    alone = {name: float(value) for name, value in quality.compute().items()}
    for key in itertools.product(("unlabeled", "one"), (0, 1)):
        assert results[key] == pytest.approx(alone, rel=1e-4)
