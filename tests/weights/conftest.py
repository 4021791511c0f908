import contextlib
import os
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from torchvision.models import resnet18

from torchmetrics_rl2.storage import sha256_of

SMALL = Path(__file__).parent / "third_party" / "acme_weights" / "breast-40x-1.safetensors"
"""A whole weights file of format version 3, 5 kB: its backbone is that of lung-colon@2."""


@dataclass
class Server:
    """A web server on the loopback that cuts, delays, lies and redirects."""

    address: str = ""
    requests: list = field(default_factory=list)
    content: bytes = SMALL.read_bytes()
    release: threading.Event = field(default_factory=threading.Event)

    def url(self, path):
        return f"{self.address}/{path}#sha256={sha256_of(SMALL)}"


def answer(handler, server):
    """What is sent for each path."""
    content, half = server.content, server.content[: len(server.content) // 2]

    def send(code, sent, length=None, location=None):
        handler.send_response(code)
        handler.send_header("Content-Length", str(len(sent) if length is None else length))
        if location:
            handler.send_header("Location", location)
        handler.end_headers()
        handler.wfile.write(sent)
        handler.wfile.flush()

    if handler.path.startswith("/acme/"):
        answer_as_the_hub(handler, server, body=True)
        return
    match handler.path.strip("/"):
        case "ok":
            send(200, content)
        case "patient":  # the second half comes when the test says so
            send(200, half, len(content))
            server.release.wait(20)
            handler.wfile.write(content[len(half) :])
        case "cut":
            send(200, half, len(content))
        case "silent":
            send(200, half, len(content))
            server.release.wait(20)
        case "reset":
            handler.connection.close()
        case "redirect":
            send(302, b"", location="/ok")
        case "loop":
            send(302, b"", location="/loop")
        case "other":
            send(200, b"x" * len(content))
        case "page":
            send(200, b"<!DOCTYPE html><html><body>Log in</body></html>")
        case "endless":
            handler.send_response(200)
            handler.end_headers()
            for _ in range(1000):
                handler.wfile.write(content)
        case "boasting":
            send(200, content, 10**13)
        case "nonsense":
            handler.send_response(200)
            handler.send_header("Content-Length", "9" * 5000)
            handler.end_headers()
            handler.wfile.write(b"x" * len(content))
        case "broken":
            send(503, b"")
        case _:
            send(404, b"")


def answer_as_the_hub(handler, server, body):
    """A large file of the repository acme/breast, at any revision."""
    found = handler.path.startswith(("/acme/breast/resolve/", "/acme/cut/resolve/"))
    content = server.content if found else b""
    handler.send_response(200 if found else 404)
    handler.send_header("Content-Length", str(len(content)))
    if found:
        handler.send_header("ETag", f'"{sha256_of(SMALL)}"')
        handler.send_header("X-Repo-Commit", "0123456789abcdef0123456789abcdef01234567")
    else:
        handler.send_header("X-Error-Code", "RepoNotFound")
    handler.end_headers()
    if body:
        handler.wfile.write(content[:2000] if "/cut/" in handler.path else content)


@pytest.fixture(scope="session")
def network():
    """A ResNet-18 of torchvision's, of which somebody has a checkpoint."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return resnet18(weights=None).eval()


@pytest.fixture
def server(monkeypatch, tmp_path):
    """The server; downloads are kept in a folder of the test's own."""
    running = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            running.requests.append(self.path)
            with contextlib.suppress(OSError):  # some clients are to go
                answer(self, running)

        def do_HEAD(self):
            running.requests.append(self.path)
            answer_as_the_hub(self, running, body=False)

        def log_message(self, *_):
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listening.daemon_threads = True
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    running.address = f"http://127.0.0.1:{listening.server_port}"
    monkeypatch.setenv("TORCHMETRICS_RL2_HOME", str(tmp_path / "home"))
    for name in (
        "TORCHMETRICS_RL2_OFFLINE",
        "HF_HUB_OFFLINE",
        *(key for key in os.environ if key.lower() == "http_proxy"),
    ):
        monkeypatch.delenv(name, raising=False)
    yield running
    running.release.set()
    listening.shutdown()
    listening.server_close()
