from dataclasses import replace

import pytest
import torch
from torch import Generator

from torchmetrics_rl2 import LatentEncoder, RL2Error
from torchmetrics_rl2.explaining.measuring import PAIRS
from torchmetrics_rl2.pixels import LADDERS
from torchmetrics_rl2.weights import Signatures, read_weights, write_weights


def some():
    shifts = torch.randn(3, 512, generator=Generator().manual_seed(0), dtype=torch.float64)
    return Signatures(("jpeg", "jpeg", "eosin"), (0.5, 1.0, -0.25), shifts, torch.tensor([0.1, 0.2, 0.0]), 48)


def test_files_keep_signatures_and_the_same_latents(weights, tmp_path):
    path = tmp_path / "signed.safetensors"
    write_weights(replace(weights, signatures=some()), path)
    found = read_weights(path)
    assert found.weights_id == weights.weights_id
    assert (found.signatures.ladders, found.signatures.severities) == (some().ladders, some().severities)
    assert torch.equal(found.signatures.shifts, some().shifts.half().double())
    assert torch.equal(found.signatures.variances, some().variances)
    assert LatentEncoder(found).signatures is found.signatures


def test_files_keep_pairs_and_do_without(weights, tmp_path):
    both = torch.randn(2, 512, generator=Generator().manual_seed(1), dtype=torch.float64)
    for pairs, interactions in ((((2, 0), (2, 1)), both), ((), some().interactions)):
        path = tmp_path / f"{len(pairs)}.safetensors"
        write_weights(replace(weights, signatures=replace(some(), pairs=pairs, interactions=interactions)), path)
        found = read_weights(path)
        assert found.weights_id == weights.weights_id
        assert found.signatures.pairs == pairs
        assert torch.equal(found.signatures.interactions, interactions.half().double())


@pytest.mark.parametrize(
    "broken",
    [
        {"severities": (0.5, 1.0)},
        {"shifts": torch.zeros(3, 511)},
        {"shifts": torch.zeros(2, 512)},
        {"variances": torch.zeros(2)},
        {"variances": torch.tensor([0.1, -0.2, 0.0])},
        {"pairs": ((0, 3),), "interactions": torch.zeros(1, 512)},
        {"pairs": ((0, -1),), "interactions": torch.zeros(1, 512)},
        {"pairs": ((0, 1), (0, 2)), "interactions": torch.zeros(1, 512)},
    ],
)
def test_signatures_that_are_not_whole_are_refused(weights, tmp_path, broken):
    with pytest.raises(RL2Error, match="signatures of damage need"):
        write_weights(replace(weights, signatures=replace(some(), **broken)), tmp_path / "x.safetensors")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("odd", "sentence"),
    [
        ({"ladders": ("frost", "gaussian blur", "gaussian blur")}, "signatures of 'frost'"),
        ({"ladders": ("gaussian blur",) * 3, "severities": (0.5, 1.0, 0.5)}, "a severity of its own"),
        ({"severities": (0.5, 0.0, 1.0)}, "none has 0"),
        ({"severities": (0.5, 1.5, 1.0)}, "none has 0 or more than 1"),
        ({"severities": (-0.5, 1.0, 1.0)}, "none has 0"),  # jpeg has one direction
    ],
)
def test_signatures_that_no_explanation_can_use_are_refused(weights, tmp_path, odd, sentence):
    with pytest.raises(RL2Error, match=sentence):
        write_weights(replace(weights, signatures=replace(some(), **odd)), tmp_path / "x.safetensors")


def test_weights_that_ship_know_all_damage(shipped):
    assert set(shipped.signatures.ladders) == set(LADDERS)
    assert (shipped.signatures.images, len(shipped.signatures.pairs)) == (32, len(PAIRS))
