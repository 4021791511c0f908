import json
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torchvision.transforms.v2.functional import to_pil_image

from tests.fixtures.images import random_images, tissue
from torchmetrics_rl2.distance import CopiesResult, CopyPair

FILE = Path(__file__).parents[2] / "benchmarks" / "copies.py"


@pytest.fixture(scope="module")
def benchmark(paper):
    before = list(sys.path)
    spec = spec_from_file_location("benchmark_of_copies", FILE)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.path[:] = before
    return module


def test_changes_keep_the_size_and_change_all_but_exact_copies(benchmark):
    images = tissue(3)
    for name, change in benchmark.CHANGES.items():
        changed = change(images)
        assert (changed.shape, changed.dtype) == (images.shape, torch.uint8), name
        assert torch.equal(changed, images) == (name == "exact"), name
    assert torch.equal(benchmark.shifted(images)[..., 6:, 6:], images[..., :-6, :-6])


def test_what_is_called_a_copy_is_right_only_among_the_first(benchmark):
    pairs = [CopyPair(name, "0", 0.1, 0.01, name != "3") for name in ("0", "1", "7", "3")]
    result = CopiesResult(10, 20, 20, 3, 0.3, (0.1, 0.6), 0.2, "images", pairs)
    found = benchmark.summary([(result, 4)])
    assert found == pytest.approx(
        {"found": 2 / 4, "called wrongly": 1 / 6, "false discoveries": 1 / 3, "any": 1, "p < .05": 0}
    )


def test_a_row_a_change(benchmark, weights_file, tmp_path, monkeypatch, capsys):
    images = random_images(90)
    rows = [
        SimpleNamespace(name=i, kind=("lung_n", "colon_n")[i % 2], source_tile_id=i % 60, variant=i // 60)
        for i in range(90)
    ]
    monkeypatch.setattr(benchmark, "tiles", lambda splits, variants: [row for row in rows if row.variant in variants])
    monkeypatch.setattr(benchmark, "read_all", lambda folder, wanted: images[[row.name for row in wanted]])
    for name, value in {"TRAIN": 22, "HELD_OUT": 20, "FAKE": 18, "ONE_KIND": 6, "KINDS": ("lung_n",)}.items():
        monkeypatch.setattr(benchmark, name, value)
    monkeypatch.setattr(benchmark, "CHANGES", {name: benchmark.CHANGES[name] for name in ("exact", *benchmark.OTHERS)})
    (tmp_path / "glas").mkdir()
    for i, image in enumerate(random_images(30, 96)):
        to_pil_image(image).save(tmp_path / "glas" / f"{i}.png")
    monkeypatch.setattr(benchmark, "CROP", 32)
    command = f"copies.py {tmp_path} --glas {tmp_path / 'glas'} --draws 1 --weights {weights_file}"
    monkeypatch.setattr(sys, "argv", [*command.split(), "--json"])
    benchmark.main()
    found = json.loads(capsys.readouterr().out)["rows"]
    assert found["5% exact"]["found"] == found["100% exact"]["found"] == 1
    assert {"none", "none, all normal lung", "none, crops of other images, groups"} < set(found)
    monkeypatch.setattr(sys, "argv", command.split())
    benchmark.main()
    assert "called wrongly" in capsys.readouterr().out
