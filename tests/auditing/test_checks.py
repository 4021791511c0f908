import numpy as np
import pytest
import torch

from tests.conftest import random_images
from torchmetrics_rl2.auditing import checks
from torchmetrics_rl2.auditing.checks import contamination, diversity, domain, power, read_outliers
from torchmetrics_rl2.auditing.meter import Meter
from torchmetrics_rl2.auditing.subject import Subject, second_half
from torchmetrics_rl2.distance.kinds import Kinds
from torchmetrics_rl2.images import ImageReader
from torchmetrics_rl2.pixels import degrade


def subject_of(count, units=None, px=32):
    units = units or [f"{i:03}" for i in range(count)]
    return Subject(random_images(count, px=px), units, second_half(units, 0))


def normal(count, features=8, seed=0):
    return torch.randn(count, features, generator=torch.Generator().manual_seed(seed))


def test_the_level_is_that_of_the_test_and_a_shift_is_found(monkeypatch):
    monkeypatch.setattr(checks, "REPEATS", 60)
    withheld = []
    clean = normal(120)
    found = power(subject_of(120), clean, {"shift": clean + 1, "none": clean}, 0, withheld)
    assert [one.n for one in found] == [25, 40, 50]
    assert withheld == ["power at 100 a side: a side needs half of the units, and there are 120"]
    for one in found:
        assert one.power["shift"] == 1
        # Drawn without replacement from the same 120, so of level .05 and no more.
        assert 0 <= one.level <= 0.1
        assert one.power["none"] == one.level


def test_units_are_drawn_whole(monkeypatch):
    monkeypatch.setattr(checks, "REPEATS", 60)
    units = [f"slide {i // 4}" for i in range(240)]
    offsets = normal(60, seed=1).repeat_interleave(4, 0) * 3
    latents = normal(240) + offsets
    grouped = power(subject_of(240, units), latents, {}, 0, [])
    ignored = power(subject_of(240), latents, {}, 0, [])
    assert [one.n for one in grouped] == [25]
    assert grouped[0].level <= 0.1
    assert [one.n for one in ignored] == [25, 40, 50, 100]


def test_with_kinds_power_is_that_of_look(monkeypatch):
    """Damage of look, which chance in content drowns in the whole; of groups too."""
    monkeypatch.setattr(checks, "REPEATS", 40)
    kinds = Kinds(20 * torch.eye(2, 8), torch.zeros(2), ["a", "b"])
    clean = normal(60) + kinds.means[torch.arange(60) % 2]
    weakest = {"shift": clean + 1.2 * torch.eye(8)[2]}
    whole, look = (power(subject_of(60), clean, weakest, 0, [], of)[0] for of in (None, kinds))
    assert whole.power["shift"] < 0.5 < 0.8 < look.power["shift"]
    slides = [f"slide {i // 2}" for i in range(120)]
    clean = torch.cat([clean, clean])[torch.arange(120).view(2, 60).T.flatten()]
    grouped = power(subject_of(120, slides), clean, {"shift": clean + 1.2 * torch.eye(8)[2]}, 0, [], kinds)
    assert [one.n for one in grouped] == [25]
    assert grouped[0].power["shift"] > 0.8


def test_repeats_are_noticed_by_the_spread_and_only_by_a_spread_that_is_narrow():
    wide = normal(200, features=400)
    found = diversity(subject_of(200), wide, 0, [])
    assert found.null[0] < 1 < found.null[1]
    assert found.ratio == pytest.approx(0.9, abs=0.02)
    assert found.detected > 0.9
    assert diversity(subject_of(200), wide[:, :2], 0, []).detected < 0.5
    withheld = []
    assert diversity(subject_of(39), wide[:39], 0, withheld) is None
    assert withheld == ["lost diversity: there are 39 units, and 40 are needed"]


def test_domain_is_one_for_images_like_those_of_the_reference(encoder):
    inside = encoder.reference_statistics
    mean = inside.sums.sum / inside.sums.count
    sd = np.sqrt(inside.mean_variance * len(inside) / 512)
    like = mean + sd * normal(200, features=512)
    assert domain(encoder, like.float(), None) < 1.5
    assert domain(encoder, (like + 10 * sd).float(), None) > 10


def test_a_few_foreign_images_are_weighed_as_defined(encoder, patches):
    subject = subject_of(240, px=64)
    meter = Meter(encoder, None, 0)
    clean = meter.measure(subject.images)
    strangers = read_outliers(patches / "bright", ImageReader(), 240)
    found = contamination(encoder, subject, clean, strangers, 0, [])
    mixed = meter.measure(strangers.images)
    first, second = (clean.latents[half].double().numpy() for half in (~subject.second, subject.second))
    likelihood = clean.likelihood[subject.second].numpy()
    radius = np.quantile(encoder.reference.scores[:, 1].numpy(), 0.99)

    def squashed(latents):
        ratio = np.maximum(np.linalg.norm(latents, axis=1, keepdims=True) / radius, 1)
        return latents * (1 + np.log(ratio)) / ratio

    def apart(one, other):
        return np.linalg.norm(one.mean(0) - other.mean(0))

    # 1 % of 120 is one image, in place of the first.
    sets = [np.concatenate([second[1:], row[None]]) for row in mixed.latents.double().numpy()]
    base = apart(squashed(first), squashed(second))
    blurred = meter.measure(degrade(subject.images[subject.second], "gaussian blur", 0.25)).latents.double().numpy()
    assert found.share == pytest.approx(1 / 120)
    assert found.plain == pytest.approx(np.mean([apart(first, one) for one in sets]) / apart(first, second), rel=2e-5)
    assert found.robust == pytest.approx(
        np.mean([apart(squashed(first), squashed(one)) for one in sets]) / base, rel=2e-5
    )
    assert found.blur == pytest.approx(apart(squashed(first), squashed(blurred)) / base, rel=2e-5)
    assert found.detected == pytest.approx(np.mean(mixed.likelihood.numpy() <= likelihood[1:].min()))


def test_outliers_pull_less_on_the_robust_value(encoder, patches):
    subject = subject_of(90, px=64)
    withheld = []
    clean = Meter(encoder, None, 0).measure(subject.images)
    found = contamination(encoder, subject, clean, read_outliers(patches / "bright", ImageReader(), 90), 0, withheld)
    assert found.share == pytest.approx(1 / 45)
    assert found.source.endswith("bright")
    assert found.plain > found.robust > 0.9
    assert 0 <= found.detected <= 1
    assert contamination(encoder, subject_of(60), clean, None, 0, withheld) is None
    assert "outliers: a half has 30 images" in withheld[0]
