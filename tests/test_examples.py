import contextlib
import re
import runpy
import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.fixtures.processes import Started
from torchmetrics_rl2 import compute_statistics, score

EXAMPLES = Path(__file__).parent.parent / "examples" / "cmu"


def test_degraded_patches_are_further_than_clean_ones(shipped, tmp_path):
    """On 16 patches of each folder; the documents run all of them."""
    reference, clean, degraded = (
        sorted((EXAMPLES / name).iterdir())[:16] for name in ("reference", "clean", "degraded")
    )
    compute_statistics(reference, weights=shipped).save(tmp_path / "reference.safetensors")
    clean, degraded = (score(one, tmp_path / "reference.safetensors", weights=shipped) for one in (clean, degraded))
    assert degraded.value > 1.5 * clean.value
    assert degraded.debiased > clean.debiased


def generate(arguments, printed):
    """Run the example; all of its processes print into one file."""
    sys.argv = ["lightning_generator.py", *arguments]
    with printed.open("w") as out, contextlib.redirect_stdout(out):
        runpy.run_path(str(EXAMPLES.parent / "lightning_generator.py"), run_name="__main__")


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 2])
def test_the_generator_logs_rl2_with_its_interval_beside_samples(tmp_path, devices):
    printed = tmp_path / "printed.txt"
    options = ["--fast-dev-run", "--out", str(tmp_path), "--devices", str(devices), "--accelerator", "cpu"]
    options += ["--strategy", "ddp_fork"] if devices == 2 else []
    assert Started(generate, options, printed).result() is None
    pattern = r"epoch (\d): RL2 [\d.]+ \([\d.]+ to [\d.]+\), 16 samples against 16 crops"
    assert re.findall(pattern, printed.read_text()) == ["0", "1"]
    events = EventAccumulator(str(tmp_path / "version_0")).Reload()
    names = ("rl2/rl2_low", "val/rl2", "rl2/rl2_high")
    low, value, high = ([event.value for event in events.Scalars(name)] for name in names)
    assert len(value) == 2
    assert all(one < two < three for one, two, three in zip(low, value, high, strict=True))
    for name in ("val/samples", "rl2/plot", "rl2/worst_images"):
        assert len(events.Images(name)) == 2
