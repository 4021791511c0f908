import json
from dataclasses import replace

import pytest
import torch

from tests.conftest import random_images
from torchmetrics_rl2 import LatentEncoder, ResNetL2, compute_statistics, score
from torchmetrics_rl2.explaining.measuring import measure_signatures
from torchmetrics_rl2.images import ImageReader, find_images
from torchmetrics_rl2.pixels import degrade

STEPS = tuple((name, s) for name, s in (("gaussian noise", 0.125), ("gaussian noise", 0.5), ("brightness", -1.0)))


@pytest.fixture(scope="module")
def explaining(weights, patches):
    """An encoder with the signatures of two ladders."""
    encoder = LatentEncoder(weights)
    found = measure_signatures(encoder.flow, encoder.features, find_images(patches / "a"), ImageReader(), None, STEPS)
    return LatentEncoder(replace(weights, signatures=found))


def test_a_score_is_explained_with_damage_and_images(explaining, patches):
    result = score(patches / "bright", patches / "a", weights=explaining, explain=True)
    found = result.explanation
    assert found.images[0].share >= found.images[-1].share >= 1
    assert len(found.typical) == min(12, result.n_fake - len(found.images))
    assert not {image.image for image in found.images} & {image.image for image in found.typical}
    assert {image.nearest.rpartition("/")[0] for image in found.images} == {str(patches / "a")}
    assert found.causes or found.closest or found.withheld["causes"]
    assert str(found) in str(result)
    assert json.loads(json.dumps(result.to_dict()))["explanation"]["images"][0]["image"] == found.images[0].image
    assert score(patches / "bright", patches / "a", weights=explaining).explanation is None


def test_statistics_have_causes_and_no_images(explaining, patches, tmp_path):
    compute_statistics(patches / "bright", weights=explaining).save(tmp_path / "fake.safetensors")
    images = score(patches / "bright", patches / "a", weights=explaining, explain=True).explanation
    found = score(tmp_path / "fake.safetensors", patches / "a", weights=explaining, explain=True).explanation
    assert (found.causes, found.closest) == (images.causes, images.closest)
    assert found.images == []
    assert "statistics keep none" in found.withheld["images"]
    assert "Images are not ranked: the generated side is not images alone" in str(found)


def test_of_sides_that_do_not_differ_no_image_is_named(explaining, patches):
    result = score(patches / "b", patches / "a", weights=explaining, explain=True)
    assert result.explanation.images
    shown = str(result)
    assert "no difference beyond chance" in shown.lower()
    assert "No damage is named: generated images do not differ beyond chance" in shown
    assert "Images that hold" not in shown


def test_of_the_same_images_none_is_ranked(explaining, patches):
    found = score(patches / "a", patches / "a", weights=explaining, explain=True).explanation
    assert found.images == []
    assert found.withheld["images"] == "RL2 is 0"


def test_weights_without_signatures_say_how_to_get_some(encoder, patches):
    found = score(patches / "bright", patches / "a", weights=encoder, explain=True).explanation
    assert "has no signatures of damage; 'rl2 fit' makes weights that have" in str(found)
    assert found.images


def test_a_metric_explains_noise(explaining):
    metric = ResNetL2(explaining, uncertainty=True)
    images = random_images(24)
    metric.update(images[:12], real=True)
    metric.update(degrade(images[12:], "gaussian noise", 0.5), real=False)
    explained = metric.result(explain=True)
    assert explained.explanation.causes[0].damage == "gaussian noise"
    assert metric.result().explanation is None
    without = ResNetL2(explaining)
    without.update(images, real=torch.arange(24) < 12)
    assert "without an interval" in without.result(explain=True).explanation.withheld["causes"]
