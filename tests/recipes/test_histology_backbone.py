import pytest
import torch
from torchvision.models import resnet18

from tests.fixtures.images import tissue
from torchmetrics_rl2 import RL2Error


@pytest.fixture
def small(recipes, monkeypatch):
    """Batches of two laboratories of crops of 32 px, from twelve images of three domains."""
    module = recipes["histology_backbone"]
    monkeypatch.setattr(module, "PX", 32)
    monkeypatch.setattr(module, "LABS", 2)
    images = tissue(12, 72, seed=3)
    areas = torch.full((12,), 72 * 72)
    classes = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, -1, -1, -1, -1])
    corpus = recipes["many_labs"].Corpus(
        images.permute(0, 2, 3, 1).reshape(-1, 3),
        areas.cumsum(0) - areas,
        torch.full((12,), 72),
        torch.full((12,), 72),
        torch.arange(12) // 4,
        classes,
        ("a", "b", "c"),
        torch.tensor([0, 1]),
    )
    start = resnet18(weights=None).state_dict()
    return module, corpus, {key: value for key, value in start.items() if not key.startswith("fc.")}


def test_copies_show_the_same_place_and_neighbors_one_beside_it(small):
    module, corpus, _ = small
    batches = module.Batches(corpus, torch.device("cpu"), 0)
    batches._turned = lambda crops: crops
    crops, image, octaves, changed = batches.clean()
    first, beside, copy, _ = crops.view(2, 4, 8, 3, 32, 32).unbind(1)
    same = ~changed.view(2, 4, 8)[:, 2]
    assert torch.equal(first[same], copy[same])
    assert not torch.equal(first, beside)
    assert torch.equal(image.view(2, 4, 8)[:, 0], image.view(2, 4, 8)[:, 3])
    assert (octaves.view(2, 32)[~changed.view(2, 32)].unique().numel()) <= 2


def test_damage_that_is_further_than_clean_crops_costs_less(small):
    module, *_ = small
    features = torch.randn(64, 512, generator=torch.Generator().manual_seed(0))
    damaged = torch.arange(64) % 32 >= 16
    near = module._distance(features, damaged)
    far = module._distance(features + 3 * damaged[:, None], damaged)
    assert far < 0.1 * near


def test_training_changes_the_backbone_and_goes_on_where_it_stopped(small, tmp_path, monkeypatch):
    module, corpus, start = small
    keep = tmp_path / "backbone.ckpt"
    monkeypatch.setattr(module, "KEPT", 2)
    found = module.train(corpus, 3, start, keep=keep)
    assert found.keys() == start.keys()
    assert not torch.equal(found["conv1.weight"].float(), start["conv1.weight"])
    assert all(value.isfinite().all() for value in found.values())
    said = []
    monkeypatch.setattr("builtins.print", lambda *words, **_: said.append(words[0]))
    module.train(corpus, 3, start, keep=keep)
    assert torch.load(keep, weights_only=True)["step"] == 2
    assert len(said) == 1
    assert said[0].startswith("step 3/3")
    with pytest.raises(RL2Error, match="is of a run with other options"):
        module.train(corpus, 4, start, keep=keep)


def test_folds_keep_out_each_set_once_and_laboratories_whole(recipes):
    first, second = map(set, recipes["histology_backbone"].FOLDS)
    assert not first & second
    assert first | second == {row.set for row in recipes["many_labs"].lab_images(["fit"])}
    labs = recipes["histology_flow"].LABS
    assert not {labs.get(name, name) for name in first} & {labs.get(name, name) for name in second}
