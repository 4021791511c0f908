import pytest
import torch


def test_distances_from_a_gram_matrix_are_those_of_the_features(paper):
    generator = torch.Generator().manual_seed(0)
    features = torch.rand(50, 64, generator=generator, dtype=torch.float64)
    features[20:] += 0.1
    first, second = torch.arange(20), torch.arange(20, 50)
    sides = features[first], features[second]
    gram = features @ features.T
    power, inception = paper["power"], paper["inception"]
    assert float(power.frechet(gram, first, second)) == pytest.approx(inception.frechet_distance(*sides), rel=1e-6)
    kernel = (gram / 64 + 1) ** 3
    assert float(power.linear(kernel, first, second)) == pytest.approx(inception.kernel_distance(*sides), rel=1e-6)


def test_the_level_is_5_percent_and_a_shift_is_noticed(paper, monkeypatch):
    power = paper["power"]
    monkeypatch.setattr(power, "DRAWS", 60)
    clean = torch.randn(80, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for shift, low, high in ((0.0, 0.0, 0.12), (2.0, 1.0, 1.0)):
        both = torch.cat([clean, clean + shift])
        found = power.shares({"RL2": (power.linear, both @ both.T)}, both, 20, 80)
        assert low <= found["RL2"] <= high
        assert low <= found["test"] <= high


def test_one_row_a_damage(run, paper, patches, monkeypatch):
    monkeypatch.setattr(paper["power"], "DRAWS", 10)
    found = run("power", patches, "--n", 5)
    assert list(found["rejected"]) == ["none", "gaussian blur 0.5", "gaussian noise 0.02"]
    assert set(found["rejected"]["none"]) == {"test", "RL2"}
