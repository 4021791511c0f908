import json
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Generator

from tests.conftest import brightened, random_images
from tests.fixtures.images import tissue
from tests.screening.conftest import write_patches
from torchmetrics_rl2 import RL2Error
from torchmetrics_rl2.pixels import LADDERS
from torchmetrics_rl2.weights import write_weights

FILE = Path(__file__).parents[2] / "benchmarks" / "content.py"
NAMES = ["colon adenocarcinoma", "normal colon", "lung adenocarcinoma", "normal lung", "lung squamous"]


@pytest.fixture(scope="module")
def benchmark(paper):
    before = list(sys.path)
    spec = spec_from_file_location("benchmark_of_content", FILE)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.path[:] = before
    return module


def test_compositions_are_shares_and_the_organ_is_part_of_the_names(benchmark):
    found = benchmark.compositions(NAMES, "colon")
    assert all(shares.sum() == pytest.approx(1) for shares in found.values())
    assert found["nothing"].tolist() == [0.2] * 5
    assert found["only colon"].tolist() == [0.5, 0.5, 0, 0, 0]
    assert found["colon 40% to 60 %"] == pytest.approx([0.3, 0.3, 0.4 / 3, 0.4 / 3, 0.4 / 3])
    assert found["no normal lung"] == pytest.approx([0.25, 0.25, 0.25, 0, 0.25])
    for wrong in ("breast", "n"):
        with pytest.raises(RL2Error, match=f"--organ {wrong} is part of the name of all kinds or of none"):
            benchmark.compositions(NAMES, wrong)


def test_severities_are_those_of_the_amounts(benchmark):
    for ladder, amount in benchmark.DAMAGE.values():
        found = LADDERS[ladder].amount(benchmark.severity_of(ladder, amount))
        assert found == pytest.approx(amount, rel=0.02, abs=0.01)


def test_tiles_are_drawn_by_their_kinds(benchmark):
    rows = [np.arange(0, 10), np.arange(10, 20), np.arange(20, 30)]
    drawn = np.array(benchmark.draw(rows, np.array([0.8, 0.2, 0]), 500, np.random.default_rng(0)))
    assert np.mean(drawn < 10) == pytest.approx(0.8, abs=0.05)
    assert drawn.max() < 20
    assert set(drawn) == set(range(20))  # with replacement


@pytest.mark.filterwarnings("ignore")
def test_a_difference_that_is_certain_counts_as_found(benchmark, encoder_of_kinds):
    """With a p-value of 0, too."""
    z = torch.randn(24, 512, generator=Generator().manual_seed(0))
    rows, equal = [np.arange(12), np.arange(12, 24)], np.array([0.5, 0.5])
    cells = {"nothing": ("", equal), "moved": ("moved", equal)}
    found = benchmark.rejected(encoder_of_kinds.kinds, {"": 0.01 * z, "moved": 0.01 * z + 3}, {}, rows, cells, 12, 3)
    assert found["moved"]["whole"] == found["moved"]["look"] == 1
    assert found["nothing"]["whole"] < 1


def test_one_table_a_number_of_tiles(benchmark, weights_of_kinds, tmp_path, monkeypatch, capsys):
    write_weights(weights_of_kinds, tmp_path / "kinds.safetensors")
    for name, images in (("fat colon", tissue(8)), ("lung", brightened(random_images(8)))):
        write_patches(tmp_path / "tiles" / name, images)
    command = f"content.py {tmp_path / 'tiles'} --kinds parent --organ colon --n 6 --repeats 2 --json"
    command += f" --weights {tmp_path / 'kinds.safetensors'}"
    monkeypatch.setattr(benchmark, "DAMAGE", {"JPEG 50": ("jpeg", 50)})
    monkeypatch.setattr(sys, "argv", command.split())
    benchmark.main()
    found = json.loads(capsys.readouterr().out)
    assert found["tiles"] == 16
    assert set(found["rejected"]["6"]) == {
        *("nothing", "only colon", "colon 50% to 60 %", "no fat colon", "no lung", "JPEG 50")
    }
    assert set(found["rejected"]["6"]["nothing"]) == {"content", "look", "whole"}
    monkeypatch.setattr(sys, "argv", [part for part in command.split() if part != "--json"])
    benchmark.main()
    assert "n = 6, wrong:" in capsys.readouterr().out
