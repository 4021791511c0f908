import pytest
import torch

from torchmetrics_rl2.encoder.carried import DAMAGE, leak_of_look
from torchmetrics_rl2.pixels import LADDERS
from torchmetrics_rl2.weights import Signatures


def test_the_damage_that_moves_content_most_is_the_leak():
    """Of other damage, however it moves content, nothing is asked."""
    shifts = torch.zeros(len(DAMAGE) + 1, 3, dtype=torch.float64)
    shifts[:, 1] = torch.arange(1.0, len(shifts) + 1)
    shifts[2, 0], shifts[-1, 0] = 0.6, 100
    ladders, severities = zip(*DAMAGE, ("fold", 0.4), strict=True)
    known = Signatures(ladders, severities, shifts, torch.zeros(len(shifts)), 48)
    assert leak_of_look(known, torch.eye(3).double()[:, :1]) == pytest.approx(0.6 / 3)


def test_the_damage_is_that_of_the_documents():
    amounts = [(name, LADDERS[name].amount(severity)) for name, severity in DAMAGE]
    expected = [1, 0.05, 50, 0.05, 0.5, -0.5]
    assert [amount for _, amount in amounts] == pytest.approx(expected, rel=0.02)
