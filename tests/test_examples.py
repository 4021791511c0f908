import re
import subprocess
import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from torchmetrics_rl2 import score

EXAMPLES = Path(__file__).parent.parent / "examples" / "cmu"


@pytest.mark.slow
def test_degraded_patches_are_further_than_clean_ones():
    clean, degraded = (score(EXAMPLES / name, EXAMPLES / "reference") for name in ("clean", "degraded"))
    assert degraded.value > 1.5 * clean.value
    assert degraded.debiased > clean.debiased


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 2])
def test_the_generator_logs_rl2_with_its_interval_beside_samples(tmp_path, devices):
    script = EXAMPLES.parent / "lightning_generator.py"
    options = ["--fast-dev-run", "--out", tmp_path, "--devices", str(devices), "--accelerator", "cpu"]
    done = subprocess.run([sys.executable, script, *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    epochs = re.findall(r"epoch (\d): RL2 [\d.]+ \([\d.]+ to [\d.]+\), 16 samples against 16 crops", done.stdout)
    assert epochs == ["0", "1"]
    events = EventAccumulator(str(tmp_path / "version_0")).Reload()
    low, value, high = ([event.value for event in events.Scalars(f"val/rl2{end}")] for end in ("_low", "", "_high"))
    assert len(value) == 2
    assert all(one < two < three for one, two, three in zip(low, value, high, strict=True))
    assert len(events.Images("val/samples")) == 2
