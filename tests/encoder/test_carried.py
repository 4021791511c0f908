from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from torch import Generator

from torchmetrics_rl2 import LatentEncoder, Statistics, compare
from torchmetrics_rl2.distance.kinds import LEAKS, Kinds
from torchmetrics_rl2.encoder.carried import DAMAGE, RIDGE, leak_of_look, with_carried
from torchmetrics_rl2.pixels import LADDERS
from torchmetrics_rl2.weights import Signatures

D = 8
KINDS = Kinds(9 * torch.eye(D)[:3], torch.full((3,), 1 / 3).log(), ("fat", "gland", "stroma"), leaks=(0.4, 0.2))
NAMES = ("gaussian blur", "defocus disc", "jpeg", "gaussian noise", "fold")


def known(shifts, ladders=NAMES, noise=0.0):
    severities = tuple(dict(DAMAGE).get(name, 0.5) for name in ladders)
    return Signatures(tuple(ladders), severities, shifts.double(), torch.full((len(shifts),), noise), 48)


def shifts(seed=0, count=5):
    return torch.randn(count, D, generator=Generator().manual_seed(seed), dtype=torch.float64)


def split(x):
    content = x @ KINDS.basis @ KINDS.basis.T
    return content, x - content


def test_what_is_carried_is_a_ridge_regression_of_content_on_look():
    content, look = split(shifts())
    length = look.norm(dim=1, keepdim=True)
    oracle = Ridge(alpha=RIDGE, fit_intercept=False).fit(look / length, content / length)
    kinds = with_carried(KINDS, known(shifts()))
    _, new = split(shifts(seed=1))
    means = KINDS.means.double()
    found = new @ kinds.carried.double().T @ (means - means.mean(0))
    np.testing.assert_allclose(found, oracle.predict(new), atol=1e-6)
    np.testing.assert_allclose((shifts(1) @ kinds.axes) @ KINDS.basis.T, split(shifts(1))[0] - found, atol=1e-6)


def test_damage_whose_direction_is_not_known_teaches_nothing():
    unclear = known(torch.cat([shifts(), shifts(2, 1)]), (*NAMES, "dust"))
    noise = torch.zeros(6)
    noise[5] = 100
    found = with_carried(KINDS, replace(unclear, variances=noise))
    torch.testing.assert_close(found.carried, with_carried(KINDS, known(shifts())).carried)
    assert with_carried(KINDS, known(shifts(), noise=1e4)) is KINDS
    assert with_carried(KINDS, known(torch.zeros(5, D))) is KINDS


def test_the_leak_is_what_damage_of_other_kinds_does_not_foretell():
    """Defocus has the look and content of blur; with the look of noise comes a content that no other damage has."""
    content, look = KINDS.basis.T, torch.eye(D)[3:].double()
    moved = torch.stack([look[0] + 0.5 * content[0]] * 2 + [look[1], look[2] + 0.6 * content[1], look[3]])
    assert with_carried(KINDS, known(moved)).leaks == (pytest.approx(0.6, rel=1e-6), 0.2)
    moved[3] = look[2]
    foreseen = with_carried(KINDS, known(moved))
    assert foreseen.leaks == (LEAKS[0], 0.2)
    assert leak_of_look(known(moved), KINDS.basis) == pytest.approx(0.5, rel=1e-6)
    alone = with_carried(KINDS, known(moved[[0, 2, 3, 4]], [NAMES[i] for i in (0, 2, 3, 4)]))
    assert alone.leaks[0] == pytest.approx(0.5, rel=1e-6)


def test_all_severities_of_a_ladder_are_left_out():
    content, look = KINDS.basis.T, torch.eye(D)[3:].double()
    moved = torch.stack([look[0] + 0.7 * content[0], look[0] + 0.7 * content[0], look[1], look[2]])
    twice = replace(known(moved, ("jpeg", "jpeg", "dust", "fold")), severities=(dict(DAMAGE)["jpeg"], 0.9, 0.5, 0.5))
    assert with_carried(KINDS, twice).leaks[0] == pytest.approx(0.7, rel=1e-6)


def test_damage_that_is_not_clear_counts_for_the_leak():
    moved = shifts()
    moved[0] = 3 * KINDS.basis.T[0] + torch.eye(D).double()[3]
    noise = torch.zeros(5)
    noise[0] = 100
    unclear = with_carried(KINDS, replace(known(moved), variances=noise))
    assert unclear.leaks[0] > 2


def test_a_white_balance_is_no_other_tissue():
    """With lung and colon, half an octave less of it moves content by more than a third of look."""
    encoder = LatentEncoder.load("lung-colon")
    known = zip(encoder.signatures.ladders, encoder.signatures.severities, encoder.signatures.shifts, strict=True)
    shift = next(shift for ladder, severity, shift in known if ladder == "white balance" and severity == -0.5)
    generator = Generator().manual_seed(0)
    kinds = torch.arange(1000) % len(encoder.kinds)
    clean = encoder.kinds.means[kinds] + torch.randn(1000, 512, generator=generator)

    def verdict(own):
        sides = (Statistics.of_latents(z, kinds=own) for z in (clean[::2], clean[1::2] + shift))
        return compare(*sides).verdict

    assert "content" not in verdict(encoder.kinds)
    assert "content" in verdict(replace(encoder.kinds, carried=None))


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
