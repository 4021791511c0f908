import sys

import pytest

from torchmetrics_rl2.cli import main


@pytest.fixture
def rl2(monkeypatch, capsys):
    """Runs ``rl2`` in this process and returns exit code, standard output and standard error."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["rl2", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return ended.value.code or 0, printed.out, printed.err

    return run
