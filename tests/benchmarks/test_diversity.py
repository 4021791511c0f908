import json
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torchvision.transforms.v2.functional import to_pil_image

from tests.fixtures.images import tissue

FILE = Path(__file__).parents[2] / "benchmarks" / "diversity.py"


@pytest.fixture(scope="module")
def benchmark(paper):
    before = list(sys.path)
    spec = spec_from_file_location("benchmark_of_diversity", FILE)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.path[:] = before
    return module


def test_changes_keep_the_size_and_differ_from_draw_to_draw(benchmark):
    image, draws = tissue(1)[0], np.random.default_rng(0)
    for name, change in benchmark.CHANGES.items():
        changed = [change(image, draws) for _ in range(4)]
        assert all((one.shape, one.dtype) == (image.shape, torch.uint8) for one in changed), name
        assert all(torch.equal(one, changed[0]) for one in changed) == (name == "exact"), name


def test_a_row_a_change_and_a_number(benchmark, tmp_path, monkeypatch, capsys):
    images = tissue(100)
    rows = [SimpleNamespace(kind=("lung_n", "colon_n")[i % 2], split=("stop", "report")[i % 2]) for i in range(100)]
    monkeypatch.setattr(benchmark, "tiles", lambda splits, variants: rows)
    monkeypatch.setattr(benchmark, "read_all", lambda folder, wanted: images)
    settings = {"REPEATED": 12, "VERSIONS": 3, "DISTINCT": (3, 10), "OF_PART": 2, "ONE_KIND": 20, "KINDS": ("lung_n",)}
    for name, value in {**settings, "CROP": 32, "OF_IMAGES": 5, "NULLS": 1}.items():
        monkeypatch.setattr(benchmark, name, value)
    changes = {name: benchmark.CHANGES[name] for name in ("exact", "turned by 90 degrees and mirrored")}
    monkeypatch.setattr(benchmark, "CHANGES", changes)
    (tmp_path / "large").mkdir()
    for i, image in enumerate(tissue(20, 96)):
        to_pil_image(image).save(tmp_path / "large" / f"{i:02}.png")
    command = f"diversity.py {tmp_path} --crops {tmp_path / 'large'} --n 30 --draws 2"
    monkeypatch.setattr(sys, "argv", [*command.split(), "--json"])
    benchmark.main()
    found = json.loads(capsys.readouterr().out)["rows"]
    assert found["30 of 3 tiles, exact"]["noticed"] == 1
    assert found["30 of 3 tiles, turned by 90 degrees and mirrored"]["distinct"] == 3
    assert found["20% of 30 of 2 tiles, exact"]["repeated"] == pytest.approx(6 / 30, abs=0.04)
    assert found["30 other tiles"]["noticed"] == found["20 tiles, all normal lung"]["noticed"] == 0
    assert found["15 tiles with a turned copy each, on both sides"]["expected"] == 1
    assert {"large, up to 30 crops, images as groups", "large, up to 30 crops of 5 images, no groups"} < set(found)
    monkeypatch.setattr(sys, "argv", command.split())
    benchmark.main()
    assert "number off by" in capsys.readouterr().out
