import contextlib
import io
import runpy
import sys

import pytest

from tests.benchmarks.conftest import FOLDER, NAMES, save, tissue
from tests.fixtures.processes import Started


def test_commands_beside_the_folder_find_what_they_share(tmp_path, monkeypatch):
    # calibration.py imports ladders.py, which imports paper/experiment.py, from whatever folder they are run in.
    monkeypatch.chdir(tmp_path)
    code, printed = Started(help_of, FOLDER.parent / "calibration.py").result()
    assert code == 0
    assert printed.startswith("usage:")


def help_of(script):
    """What a script prints with ``--help``, run as a program."""
    sys.argv, sys.path[0] = [str(script), "--help"], str(script.parent)
    with contextlib.redirect_stdout(io.StringIO()) as printed, pytest.raises(SystemExit) as end:
        runpy.run_path(str(script), run_name="__main__")
    return end.value.code, printed.getvalue()


@pytest.mark.parametrize("script", NAMES[2:])
def test_every_command_has_a_table_too(paper, weights_file, tmp_path, capsys, monkeypatch, script):
    monkeypatch.setattr(paper["power"], "DRAWS", 10)
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
