import json
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from tests.fixtures.images import tissue
from tests.screening.conftest import write_patches

FILE = Path(__file__).parents[2] / "benchmarks" / "screening.py"


@pytest.fixture(scope="module")
def benchmark():
    spec = spec_from_file_location("benchmark_of_the_screen", FILE)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_all_tables_are_made_from_a_few_patches(benchmark, weights_file, tmp_path, monkeypatch, capsys):
    good, clean = write_patches(tmp_path / "good", tissue(24, seed=1)), write_patches(tmp_path / "clean", tissue(8))
    out = tmp_path / "out.json"
    options = ["--weights", weights_file, "--families", "focus", "--other", f"{clean}@0.5", "--json", out]
    monkeypatch.setattr(sys, "argv", list(map(str, ["screening.py", clean, "--good", good, *options])))
    benchmark.main()
    found = json.loads(out.read_text())
    assert set(found["auroc"]) == {"screen", "fifteen statistics", "flow", "Gaussian of latents"}
    assert found["auroc"]["screen"]["mean"] > 0.9
    assert "too few to reject at most 1 %" in found["false_rejection"]["0.01"]
    assert 0 <= found["false_rejection"]["0.05"]["rejected"] <= 1
    assert {"clean", "mpp x 0.5", "clean @0.5"} <= set(found["domain"])
    assert "of clean: " in capsys.readouterr().out
