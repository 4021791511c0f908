import errno
import fcntl
import warnings

import pytest
from filelock import Timeout

from torchmetrics_rl2.files import locked


def test_a_lock_is_held_and_removed(tmp_path):
    path = tmp_path / "x.lock"
    with locked(path), pytest.raises(Timeout), locked(path, timeout=0):
        raise AssertionError("held twice")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_without_locks_it_goes_on_and_says_so(tmp_path, monkeypatch, code):
    def refuse(*_):
        raise OSError(code, "no locks")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.warns(UserWarning, match="file system without locks"), locked(tmp_path / "x.lock", timeout=0):
        done = True
    assert done
    assert not list(tmp_path.iterdir())


def test_where_nothing_can_be_written_the_system_says_why(tmp_path):
    with warnings.catch_warnings(), pytest.raises(FileNotFoundError), locked(tmp_path / "none" / "x.lock"):
        warnings.simplefilter("error")
