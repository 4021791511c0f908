import signal
import time
from pathlib import Path

import pytest

from tests.fixtures.processes import Started
from tests.fixtures.server import SMALL
from torchmetrics_rl2 import RL2Error
from torchmetrics_rl2.files import sha256_of
from torchmetrics_rl2.weights import download, fetch_weights, load_weights
from torchmetrics_rl2.weights.download import Place, cache_folder

try:
    import resource
except ImportError:  # Windows
    resource = None


def kept():
    """Files in the cache; the empty lock files stay."""
    return sorted(path.name for path in cache_folder().glob("*") if path.suffix != ".lock")


def fetch(url):
    return str(fetch_weights(url))


def fetch_onto_a_full_disk(url):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    return fetch(url)


def test_a_file_is_downloaded_once_and_used(server, capsys):
    loaded = load_weights(server.url("redirect"))
    assert loaded.weights_id.startswith("3410a0632e77")
    assert loaded.name == server.url("redirect")
    assert kept() == [f"{sha256_of(SMALL)}.safetensors"]
    assert "Downloading" in capsys.readouterr().err
    load_weights(server.url("ok"))
    assert server.requests == ["/redirect", "/ok"]  # of the redirection, and none of the second address


FAULTS = {
    "cut": "the connection broke after 3,668 of 7,336 bytes",
    "silent": "was silent for 0 s, after 3,668 bytes",
    "reset": "the connection broke after 0 bytes",
    "loop": "answered 302",
    "other": "sent a file with the sha256 [0-9a-f]{64}; expected weights with the sha256",
    "page": "sent a web page; expected weights",
    "broken": "answered 503",
    "nowhere": "answered 404 Not Found",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_ends_in_a_sentence_and_leaves_the_cache_as_it_was(server, monkeypatch, fault):
    monkeypatch.setattr(download, "TIMEOUT", 0.3)
    (cache_folder()).mkdir()
    (cache_folder() / "other.safetensors").write_bytes(b"of another")
    with pytest.raises(RL2Error, match=FAULTS[fault]):
        fetch_weights(server.url(fault))
    assert kept() == ["other.safetensors"]
    server.release.set()
    assert fetch_weights(server.url("ok")).read_bytes() == SMALL.read_bytes()


def test_a_server_that_never_stops_is_stopped(server, monkeypatch):
    monkeypatch.setattr(download, "MAX_BYTES", 50_000)
    with pytest.raises(RL2Error, match="sends more than the 50,000 bytes"):
        fetch_weights(server.url("endless"))
    place = Place(f"{server.address}/endless", sha256_of(SMALL), 7336, "acme/breast-40x@1")
    with pytest.raises(RL2Error, match="sends more than the 7,336 bytes"):
        place.fetch()
    with pytest.raises(RL2Error, match="sends more than the 50,000 bytes"):
        fetch_weights(server.url("boasting"))
    with pytest.raises(RL2Error, match="sent a file with the sha256|the connection broke"):
        fetch_weights(server.url("nonsense"))
    assert kept() == []


def test_an_announced_size_that_is_wrong_is_no_broken_connection(server):
    place = Place(f"{server.address}/ok", sha256_of(SMALL), 8000, "acme/breast-40x@1")
    with pytest.raises(RL2Error, match="has 7,336 bytes, where 8,000 were announced"):
        place.fetch()


def test_nobody_listens(server):
    with pytest.raises(RL2Error, match="127.0.0.1 cannot be reached: .*Are you online"):
        fetch_weights(server.url("ok").replace(server.address, "http://127.0.0.1:9"))


def test_a_spoilt_file_in_the_cache_is_replaced(server):
    path = fetch_weights(server.url("ok"))
    path.write_bytes(b"spoilt")
    assert fetch_weights(server.url("ok")).read_bytes() == SMALL.read_bytes()


def test_processes_that_race_download_once(server):
    racing = [Started(fetch, server.url("patient")) for _ in range(3)]
    deadline = time.monotonic() + 60
    while not server.requests and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)  # the others come to the lock
    server.release.set()
    found = {process.result() for process in racing}
    assert found == {str(cache_folder() / f"{sha256_of(SMALL)}.safetensors")}
    assert server.requests == ["/patient"]


def test_a_killed_download_leaves_nothing_that_is_used(server):
    killed = Started(fetch, server.url("patient")).process
    part = cache_folder() / f"{sha256_of(SMALL)}.part"
    deadline = time.monotonic() + 60
    while not part.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    killed.kill()
    killed.join()
    assert kept() == [part.name]
    assert fetch_weights(server.url("ok")).read_bytes() == SMALL.read_bytes()
    assert kept() == [f"{sha256_of(SMALL)}.safetensors"]


@pytest.mark.skipif(resource is None, reason="needs limits on the size of files")
def test_a_full_disk_is_a_sentence(server):
    said = Started(fetch_onto_a_full_disk, server.url("ok")).result()
    assert said.startswith("RL2Error: ")
    assert "cannot be kept in" in said
    assert "Make room there" in said
    assert kept() == []


def test_a_cache_that_takes_nothing_is_a_sentence_and_one_that_has_the_file_is_read(server, tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("TORCHMETRICS_RL2_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(RL2Error, match="cannot be kept in .*TORCHMETRICS_RL2_HOME"):
        fetch_weights(server.url("ok"))
    monkeypatch.setenv("TORCHMETRICS_RL2_HOME", str(tmp_path / "home"))
    fetch_weights(server.url("ok"))
    for path in cache_folder().glob("*.lock"):
        path.unlink()
    before = sorted(cache_folder().iterdir())
    fetch_weights(server.url("ok"))
    assert sorted(cache_folder().iterdir()) == before  # not even a lock


@pytest.mark.parametrize(("switch", "on"), [("TORCHMETRICS_RL2_OFFLINE", "1"), ("HF_HUB_OFFLINE", "True")])
def test_offline_never_touches_the_network_and_says_what_to_put_where(server, monkeypatch, switch, on):
    monkeypatch.setenv(switch, on)
    with pytest.raises(RL2Error, match="the network is switched off.*download http://.*/ok and copy that") as refused:
        load_weights(server.url("ok"))
    assert server.requests == []
    target = Path(str(refused.value).rpartition(" to ")[2].removesuffix("."))
    target.parent.mkdir()
    target.write_bytes(b"another file")
    with pytest.raises(RL2Error, match="has the sha256 .*; expected .*Remove it"):
        load_weights(server.url("ok"))
    target.write_bytes(SMALL.read_bytes())
    assert load_weights(server.url("ok")).weights_id.startswith("3410a0632e77")


def test_the_cache_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.delenv("TORCHMETRICS_RL2_HOME", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "torchmetrics-rl2"
    monkeypatch.setenv("TORCHMETRICS_RL2_HOME", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("https://acme.org/w.safetensors", "does not say which file it is: add #sha256="),
        ("https://acme.org/w.safetensors#sha256=abc", "expected #sha256= and 64 hexadecimal digits"),
        ("https://acme.org/w.safetensors#md5=" + "0" * 64, "expected #sha256= and 64 hexadecimal digits"),
        ("hf://acme/breast@main/w.safetensors", "names a revision that can move"),
        ("hf://acme/breast/w.safetensors", "no place on the Hub; expected hf://org/repo@revision/file.safetensors"),
        ("hf://acme/breast@main/../w.safetensors", "no place on the Hub"),
        ("hf://acme/breast@main/w.bin", "no place on the Hub"),
    ],
)
def test_an_address_has_to_say_which_file_it_is(text, sentence):
    with pytest.raises(RL2Error, match=sentence):
        load_weights(text)


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("http://[::1/x", "no address"),
        ("http://a..b/x", "no address|cannot be reached"),
        ("http://127.0.0.1/\xfcber", "no address"),
        ("http://127.0.0.1/a b", "no address"),
        ("HTTP://127.0.0.1:9/x", "cannot be reached"),
        ("https:///x", "cannot be reached|no address"),
    ],
)
def test_what_is_no_address_is_a_sentence(server, address, sentence):
    with pytest.raises(RL2Error, match=sentence):
        fetch_weights(f"{address}#sha256={'0' * 64}")


def test_a_cache_that_no_file_can_be_in_is_a_sentence(server, monkeypatch, tmp_path):
    for home in (tmp_path / ("a" * 300), "/dev/null/x"):
        monkeypatch.setenv("TORCHMETRICS_RL2_HOME", str(home))
        with pytest.raises(RL2Error, match="cannot be kept in"):
            fetch_weights(server.url("ok"))
    monkeypatch.setenv("TORCHMETRICS_RL2_HOME", "~/rl2")
    assert cache_folder() == Path.home() / "rl2"


def test_a_download_is_told_of(server):
    told = []
    fetch_weights(server.url("ok"), lambda done, total: told.append((done, total)))
    assert told[-1] == (7336, 7336)


COMMIT = "0123456789abcdef0123456789abcdef01234567"


def load(address):
    return load_weights(address).weights_id


def on_the_hub(server, tmp_path, address, **switches):
    """What a process says whose Hugging Face Hub is the server: an identity, or an error."""
    own = {"HF_ENDPOINT": server.address, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_TELEMETRY": "1"}
    return Started(load, address, **(own | switches)).result()


def test_a_commit_of_the_hub_is_fetched_once_and_read_offline(server, tmp_path):
    pytest.importorskip("huggingface_hub")
    address = f"hf://acme/breast@{COMMIT}/breast.safetensors"
    first = on_the_hub(server, tmp_path, address)
    assert first.startswith("3410a0632e77")
    asked = len(server.requests)
    assert any(f"/acme/breast/resolve/{COMMIT}/breast.safetensors" in path for path in server.requests)
    again = on_the_hub(server, tmp_path, address)
    offline = on_the_hub(server, tmp_path, address, TORCHMETRICS_RL2_OFFLINE="1")
    assert again == offline == first
    assert len(server.requests) == asked
    elsewhere = on_the_hub(server, tmp_path / "other", address, TORCHMETRICS_RL2_OFFLINE="1")
    assert "the network is switched off" in elsewhere
    assert len(server.requests) == asked


def test_what_the_hub_kept_is_compared_with_its_checksum(server, tmp_path):
    pytest.importorskip("huggingface_hub")
    address = f"hf://acme/breast@{COMMIT}/breast.safetensors"
    assert on_the_hub(server, tmp_path, address).startswith("3410a0632e77")
    (link,) = (tmp_path / "hf").rglob("snapshots/*/breast.safetensors")
    blob = link.resolve()
    blob.write_bytes(blob.read_bytes()[:-1] + b"x")
    spoilt = on_the_hub(server, tmp_path, address, TORCHMETRICS_RL2_OFFLINE="1")
    assert "came from the Hub with another sha256" in spoilt
    link.unlink()
    link.write_bytes(SMALL.read_bytes())
    unnamed = on_the_hub(server, tmp_path, address, TORCHMETRICS_RL2_OFFLINE="1")
    assert f"without a checksum. Compare it with a copy that you trust, and add #sha256={sha256_of(SMALL)}" in (unnamed)


@pytest.mark.slow
def test_what_the_hub_lacks_and_what_it_changed_are_sentences(server, tmp_path):
    pytest.importorskip("huggingface_hub")
    cut = on_the_hub(server, tmp_path, f"hf://acme/cut@{COMMIT}/cut.safetensors")
    assert "could not be had from the Hugging Face Hub" in cut
    missing = on_the_hub(server, tmp_path, f"hf://acme/none@{COMMIT}/none.safetensors")
    assert "could not be had from the Hugging Face Hub" in missing
    moved = on_the_hub(server, tmp_path, f"hf://acme/breast@v1/breast.safetensors#sha256={'0' * 64}")
    assert "came from the Hub with another sha256 than 000000" in moved
    right = on_the_hub(server, tmp_path, f"hf://acme/breast@v1/breast.safetensors#sha256={sha256_of(SMALL)}")
    assert right.startswith("3410a0632e77")
