import subprocess
import sys

import pytest

from tests.benchmarks.conftest import FOLDER, NAMES, save, tissue


def test_commands_beside_the_folder_find_what_they_share(tmp_path):
    # calibration.py imports ladders.py, which imports paper/experiment.py, from whatever folder they are run in.
    command = [sys.executable, FOLDER.parent / "calibration.py", "--help"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage:")


@pytest.mark.parametrize("script", NAMES[2:])
def test_every_command_has_a_table_too(paper, weights_file, tmp_path, capsys, script):
    clean = save(tissue(6), tmp_path / "clean")
    options = {
        "blur_by_z_level": ["--simulate"],
        "ladders": ["--ladders", "jpeg"],
        "artifacts_by_likelihood": ["--simulate"],
        "stability": ["--counts", "3", "--repeats", "2"],
        "power": ["--n", "3"],
    }[script]
    paper[script].main([str(clean), *options, "--weights", str(weights_file), "--device", "cpu"])
    printed = capsys.readouterr().out
    assert "random" in printed.splitlines()[0]
    assert "paper:" in printed
