import importlib
import json
import sys
from pathlib import Path

import pytest
import torch

from tests.benchmarks.conftest import save, tissue

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmark(paper, monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    yield importlib.import_module("rare_kinds")
    del sys.modules["rare_kinds"]


@pytest.fixture
def tiles(tmp_path):
    save(tissue(66), tmp_path / "tiles" / "usual")
    save(255 - tissue(66, seed=1) // 3, tmp_path / "tiles" / "rare")
    return tmp_path / "tiles"


def test_each_kind_has_its_losses_and_catches_in_turn(benchmark, tiles, weights_file, monkeypatch, capsys):
    options = ["--kinds", "parent", "--weights", weights_file, "--repeats", 2, "--rare", 3, "--n", 20, "--json"]
    monkeypatch.setattr(sys, "argv", list(map(str, ["rare_kinds.py", tiles, "--fit", *options])))
    benchmark.main()
    table = json.loads(capsys.readouterr().out)["table"]
    assert set(table) == {"usual", "rare", "all"}
    for numbers in table.values():
        before, after, change, _ = numbers["lost of the kind, 0.1"]
        assert change == pytest.approx(after - before)
        assert numbers["AUROC"][1] > 0.8
        assert all(0 <= share <= 1 for row in numbers.values() for share in row[:2])


def test_half_of_the_files_calibrates_and_is_not_judged(benchmark, monkeypatch):
    kinds = torch.arange(80) % 2
    patches = benchmark.Patches({}, {}, kinds, torch.arange(80) // 2, ["a", "b"])
    seen = []
    monkeypatch.setattr(benchmark, "judge", lambda *parts: seen.append(parts) or {way: {} for way in benchmark.WAYS})
    encoder = type("Encoder", (), {"flow": None, "kinds": ()})
    arguments = type("Arguments", (), {"repeats": 3, "seed": 0, "fit": False, "rare": 4, "n": 20})
    found = benchmark.draws(patches, encoder, arguments)
    assert [len(found[name][way]) for name in "ab" for way in benchmark.WAYS] == [3] * 4
    for given, _, _, good, judged, rare in seen:
        assert not set(given.files[good].tolist()) & set(given.files[judged].tolist())
        assert (len(good), len(judged), int(rare.sum())) == (20, 40, 20)
        assert 4 in kinds[good].bincount().tolist()
