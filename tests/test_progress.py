import re
import sys
import time
from types import SimpleNamespace

import pytest

from torchmetrics_rl2 import RL2Error, score
from torchmetrics_rl2.progress import shown


def told(progress, capsys):
    with shown(progress) as report:
        if report:
            report("real", 3, 3, 3)
    return capsys.readouterr().err


def test_bars_are_shown_when_asked_and_in_terminals_and_notebooks(capsys, monkeypatch):
    assert "real" in told(True, capsys)
    assert told(None, capsys) == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert "real" in told(None, capsys)
    assert told(False, capsys) == ""
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert told(None, capsys) == ""
    monkeypatch.delenv("LOCAL_RANK")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    monkeypatch.setitem(sys.modules, "ipykernel", SimpleNamespace())
    assert "real" in told(None, capsys)


def test_speed_is_of_what_is_read_while_the_bar_is_there(capsys):
    with shown(True) as report:
        report("features", 500, 1000, 500)  # before there is a bar, in no time that it knows
        time.sleep(0.2)
        report("features", 502, 1000, 2)
    assert 0 < int(re.findall(r"(\d+) images/s", capsys.readouterr().err)[-1]) <= 10


def test_without_rich_there_are_none_unless_asked_for(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setitem(sys.modules, "rich", None)
    assert told(None, capsys) == ""
    with pytest.raises(RL2Error, match="progress=True needs rich"):
        told(True, capsys)


def test_verbs_take_true_false_and_functions(patches, encoder, capsys):
    calls = []
    score(patches / "a", patches / "b", weights=encoder, progress=lambda *call: calls.append(call))
    assert calls[-1][:3] == ("fake", 8, 8)
    score(patches / "a", patches / "b", weights=encoder, progress=True)
    assert "fake" in capsys.readouterr().err
    score(patches / "a", patches / "b", weights=encoder, progress=False)
    assert capsys.readouterr().err == ""
