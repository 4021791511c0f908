import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from torchvision.transforms.v2.functional import to_pil_image

from tests.conftest import random_images
from tests.fixtures.processes import children_of

pytestmark = pytest.mark.slow

FILES = 160
CHUNKS = 2 * FILES // 16


@pytest.fixture(scope="module")
def sides(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sides")
    for side, seed in (("real", 0), ("fake", 1)):
        (folder / side).mkdir()
        for i, image in enumerate(random_images(FILES, seed=seed)):
            to_pil_image(image).save(folder / side / f"{i:02}.png")
    return folder


@pytest.fixture(scope="module")
def start(sides, weights_file):
    """Start ``rl2 score`` as a user does, in a session of its own; each chunk takes a while if it is slow."""
    script = sides / "rl2"
    script.write_text(
        "import os, time\n"
        "from torchmetrics_rl2.cli import main\n"
        "from torchmetrics_rl2.scoring.kept import Kept\n"
        "save = Kept.save\n"
        "def slow(*arguments):\n"
        "    save(*arguments)\n"
        "    time.sleep(float(os.environ.get('SECONDS_A_CHUNK', 0)))\n"
        "Kept.save = slow\n"
        "if __name__ == '__main__':\n"
        "    main()\n"
    )

    def run(*arguments, seconds=0.0, launcher=(sys.executable,)):
        command = [*launcher, script, "score", sides / "fake", "--real", sides / "real", "--weights", weights_file]
        command += ["--tile", "32", "--device", "cpu", "--workers", "0", "--json", *arguments]
        environment = {**os.environ, "SECONDS_A_CHUNK": str(seconds), "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            [str(part) for part in command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            start_new_session=True,
        )

    return run


@pytest.fixture(scope="module")
def expected(start):
    out = ended(start())[1]
    assert json.loads(out)["n_real"] == 4 * FILES
    return out


def ended(process):
    out, err = process.communicate(timeout=240)
    return process.returncode, out, err


def wait_for_chunks(folder, count, process):
    deadline = time.monotonic() + 120
    while len(list(folder.glob("*.safetensors"))) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_run_goes_on_after_any_signal_and_gives_the_same(start, expected, tmp_path):
    folder, kept = tmp_path / "kept", {}
    for number, code, said in (
        (signal.SIGTERM, 143, "Ended by SIGTERM. The same command goes on from what is kept in"),
        (signal.SIGINT, 130, "Interrupted. The same command goes on from what is kept in"),
        (signal.SIGKILL, -9, ""),
    ):
        process = start("--resume", folder, seconds=0.5)
        wait_for_chunks(folder, len(kept) + 2, process)
        process.send_signal(number)
        found, out, err = ended(process)
        assert (found, out) == (code, "")
        assert said in err
        assert "Traceback" not in err
        kept = {path: path.stat().st_mtime_ns for path in folder.glob("*.safetensors")}
        assert len(kept) < CHUNKS
    found, out, err = ended(start("--resume", folder))
    assert (found, out) == (0, expected), err
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert len(list(folder.glob("*.safetensors"))) == CHUNKS


@pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")
def test_a_killed_process_ends_the_others_with_one_message_and_the_run_goes_on(start, expected, tmp_path):
    folder, kept = tmp_path / "kept", 0
    for which, code, said in ((1, 1, "Process 2 of 2 was ended by SIGKILL"), (0, 1, "Process 1 of 2"), (None, 143, "")):
        process = start("--resume", folder, "--devices", 2, seconds=1)
        wait_for_chunks(folder, kept + 2, process)
        children, signaled = children_of(process), time.monotonic()
        assert len(children) == 2
        if which is None:
            os.killpg(process.pid, signal.SIGTERM)
        else:
            os.kill(children[which], signal.SIGKILL)
        found, out, err = ended(process)
        assert time.monotonic() - signaled < 30
        assert (found, out) == (code, "")
        assert said in err
        assert err.count("Error: ") + err.count("Ended by SIGTERM") == 1, err
        assert "Traceback" not in err
        assert not any(map(is_running, children))
        kept = len(list(folder.glob("*.safetensors")))
        assert kept < CHUNKS
    found, out, err = ended(start("--resume", folder, "--devices", 3))  # also on another number of devices
    assert (found, out) == (0, expected), err


def test_torchrun_shares_out_and_the_first_process_prints(start, expected):
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    code, out, err = ended(start("--devices", 2, launcher=torchrun))
    assert (code, out) == (0, expected), err


def test_a_file_that_no_process_can_read_is_one_sentence(start, sides, tmp_path):
    listed = tmp_path / "list.txt"
    (tmp_path / "broken.png").write_text("no image")
    listed.write_text("\n".join([*map(str, sorted((sides / "real").iterdir())), str(tmp_path / "broken.png")]))
    code, out, err = ended(start("--real", listed, "--devices", 2))
    assert (code, out) == (2, "")
    assert err.count("broken.png cannot be read") == err.count("Error: ") == 1
