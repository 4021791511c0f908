import math
import pickle
import shutil
from dataclasses import replace

import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from torchmetrics import MetricCollection
from torchmetrics.utilities import dim_zero_cat

from tests.conftest import tissue
from torchmetrics_rl2 import LatentEncoder, PatchQuality, RL2Error
from torchmetrics_rl2.encoder.sharing import network_of
from torchmetrics_rl2.pixels import degrade

GOOD = tissue(24, seed=11)
BAD = degrade(GOOD[:12], "gaussian blur", 0.2)
IMAGES, TARGET = torch.cat([GOOD, BAD]), torch.tensor([0] * 24 + [1] * 12)
STATES = ("percentiles", "scores", "kept", "targets")


@pytest.fixture
def quality(encoder, calibration):
    return PatchQuality(encoder, calibration=calibration, max_false_rejection=0.05)


def states(metric):
    return {name: dim_zero_cat(found) for name in STATES if len(found := getattr(metric, name))}


def assert_same_states(one, other, **tolerance):
    assert one.keys() == other.keys()
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], **(tolerance or {"rtol": 0, "atol": 0}))


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


@pytest.mark.parametrize("label", [0.99, 2, 255, -1, math.nan])
def test_labels_that_are_neither_0_nor_1_are_refused_before_they_count(quality, label):
    target = torch.zeros(24)
    target[3] = label
    with pytest.raises(ValueError, match="labels of 0 .clean. and 1 .damaged."):
        quality.update(GOOD, target)
    assert not quality.targets
    for dtype in (torch.bool, torch.uint8, torch.float64):
        quality.update(GOOD, (torch.arange(24) % 2).to(dtype))
    assert quality.compute()["auroc"].dtype == torch.float32


@pytest.mark.filterwarnings("ignore:No positive samples")
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


def test_it_leaves_checkpoints_alone_unless_asked_to_be_in_them(quality, encoder, calibration):
    quality.update(IMAGES, TARGET)
    assert not quality.state_dict()
    assert not list(quality.parameters())
    quality.persistent(True)
    other = PatchQuality(encoder, calibration=calibration, max_false_rejection=0.05)
    other.load_state_dict(quality.state_dict())
    assert other.compute() == quality.compute()
    strict = PatchQuality(encoder, calibration=calibration, max_false_rejection=0.5)
    with pytest.raises(RuntimeError, match="of another calibration, threshold or stain"):
        strict.load_state_dict(quality.state_dict())
    assert strict.criteria_id != quality.criteria_id


@pytest.fixture
def calibrated_file(weights_file, calibration, tmp_path):
    """A weights file with a calibration beside it."""
    calibration.save(tmp_path / "own.calibration.safetensors")
    return shutil.copyfile(weights_file, tmp_path / "own.safetensors")


def test_a_file_is_pickled_by_name_and_its_calibration_by_itself(calibrated_file, quality):
    quality.update(IMAGES, TARGET)
    found = PatchQuality(calibrated_file, max_false_rejection=0.05)
    found.update(IMAGES, TARGET)
    pickled = pickle.dumps(found)
    assert len(pickled) < 1e6 < len(pickle.dumps(quality))  # weights in memory go along
    first, second = pickle.loads(pickled), pickle.loads(pickled)
    assert network_of(first.encoder) is network_of(second.encoder)
    for twin in (first, second, pickle.loads(pickle.dumps(quality))):
        assert_same_states(states(twin), states(found))
        twin.update(GOOD, torch.zeros(24))
    found.update(GOOD, torch.zeros(24))
    assert first.compute() == found.compute() == second.compute()


def test_clones_share_one_network_and_one_calibration(quality, encoder, calibration):
    quality.update(IMAGES)
    twin = quality.clone()
    assert network_of(twin.encoder) is encoder
    assert twin._criteria.calibration is calibration
    twin.update(GOOD)
    assert (states(twin)["scores"].numel(), states(quality)["scores"].numel()) == (60, 36)


@pytest.mark.parametrize(
    ("broken", "method"),
    [(broken, method) for broken in ("labels", "size", "network") for method in ("update", "forward")]
    + [("value", "forward")],
)
def test_an_exception_leaves_the_patches_as_they_were(quality, broken, method, monkeypatch):
    quality.update(IMAGES, TARGET)
    value = quality.compute()
    kept, before = states(quality), dict(quality.__dict__)
    images, target = GOOD, torch.zeros(24)
    if broken == "labels":
        target = torch.zeros(3)
    if broken == "size":
        images = GOOD[:, :, :48, :48]
    if broken == "network":
        monkeypatch.setattr("torchmetrics_rl2.quality.screener.measure", lambda *args: 1 / 0)
    if broken == "value":
        method = "forward"  # update knows nothing of values
        monkeypatch.setattr("torchmetrics_rl2.metrics.patch_quality.binary_auroc", lambda *args: 1 / 0)
    with pytest.raises((ValueError, ZeroDivisionError)):
        getattr(quality, method)(images, target)
    assert_same_states(states(quality), kept)
    assert all(quality.__dict__[name] is entry for name, entry in before.items() if not isinstance(entry, list))
    monkeypatch.undo()
    quality._computed = None
    assert quality.compute() == value


def test_merge_state_adds_shards_and_refuses_other_criteria(quality, encoder, calibration, other_weights):
    shards = [PatchQuality(encoder, calibration=calibration, max_false_rejection=0.05) for _ in range(2)]
    quality.update(IMAGES, TARGET)
    for shard, start in zip(shards, (0, 20), strict=True):
        shard.update(IMAGES[start : start + 20], TARGET[start : start + 20])
    second = shards[1].clone()
    shards[1].merge_state(shards[0].metric_state)
    assert_same_states(states(shards[1]), states(quality), rtol=1e-3, atol=1e-2)
    shards[0].merge_state(second)
    assert float(shards[0].compute()["auroc"]) == pytest.approx(float(quality.compute()["auroc"]), abs=1e-3)
    before = states(shards[0])
    elsewhere = replace(calibration, weights_id=other_weights.weights_id)
    for other in (
        PatchQuality(encoder, calibration=calibration, max_false_rejection=0.5),
        PatchQuality(encoder, calibration=replace(calibration, two_sided=True), max_false_rejection=0.05),
        PatchQuality(other_weights, calibration=elsewhere, max_false_rejection=0.05),
    ):
        for incoming in (other, other.metric_state):
            with pytest.raises(RL2Error, match="another calibration, threshold or stain"):
                shards[0].merge_state(incoming)
    with pytest.raises(ValueError, match="NoneType"):
        shards[0].merge_state(None)
    assert_same_states(states(shards[0]), before)


def test_only_weights_screen(calibration):
    class Features(torch.nn.Module):
        num_features = 512

    with pytest.raises(ValueError, match="weights or a LatentEncoder, but got Features"):
        PatchQuality(Features(), calibration=calibration)


def test_an_encoder_of_a_file_finds_what_its_name_finds(calibrated_file):
    by_name = PatchQuality(calibrated_file, max_false_rejection=0.05)
    by_encoder = PatchQuality(LatentEncoder.load(calibrated_file), max_false_rejection=0.05)
    assert by_name._criteria.calibration.id == by_encoder._criteria.calibration.id
    assert by_name(IMAGES) == by_encoder(IMAGES)
    assert by_encoder.encoder.card == by_name.encoder.card == {"data": "noise", "license": "CC0-1.0"}
    calibrated_file.with_name("own.calibration.safetensors").unlink()
    with pytest.raises(RL2Error, match="have no calibration beside them"):
        PatchQuality(LatentEncoder.load(calibrated_file))
