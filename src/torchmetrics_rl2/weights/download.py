"""A place becomes a file whose checksum is right: local files, URLs and the Hugging Face Hub, and the cache."""

import hashlib
import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from http.client import HTTPException, InvalidURL
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from torchmetrics_rl2.errors import RL2Error
from torchmetrics_rl2.files import CHUNK, MAX_BYTES, is_web_page, locked, sha256_of

__all__ = ["SHA256", "Place", "Received", "cache_folder", "hub_parts", "is_remote", "offline"]

Received = Callable[[int, int], None]
"""Told how many bytes have come, and of how many, 0 if unknown."""

TIMEOUT = 30.0
HUB = re.compile(
    r"hf://(?P<repo>[\w.-]+/[\w.-]+)@(?P<revision>refs/(?:pr|convert)/[\w.-]+|[\w.%-]+)/(?P<file>[^@#]+\.safetensors)",
    re.ASCII,
)

COMMIT = re.compile(r"[0-9a-f]{40}")
SHA256 = re.compile(r"[0-9a-f]{64}")


def cache_folder() -> Path:
    """Where downloads are kept: ``TORCHMETRICS_RL2_HOME``, or ``torchmetrics-rl2`` in the user's cache."""
    home = os.environ.get("TORCHMETRICS_RL2_HOME")
    parent = os.environ.get("XDG_CACHE_HOME")
    try:
        return Path(home).expanduser() if home else Path(parent or "~/.cache", "torchmetrics-rl2").expanduser()
    except RuntimeError as error:
        raise RL2Error("There is no home folder to keep downloads in: name one with TORCHMETRICS_RL2_HOME.") from error


def offline() -> bool:
    """Whether ``TORCHMETRICS_RL2_OFFLINE`` or ``HF_HUB_OFFLINE`` forbids the network."""
    switches = (os.environ.get(name, "") for name in ("TORCHMETRICS_RL2_OFFLINE", "HF_HUB_OFFLINE"))
    return any(switch.lower() in ("1", "true", "yes", "on") for switch in switches)


def is_remote(where: str) -> bool:
    """Whether a text is a URL, or a place on the Hugging Face Hub."""
    return where.lower().startswith(("https://", "http://", "hf://"))


@dataclass(frozen=True)
class Place:
    """Where a file is, and what it has to be.

    Args:
        where: A path, a URL, or ``hf://org/repo@revision/file.safetensors``.
        sha256: Checksum of the whole file; empty where a commit of the Hub says which file it is.
        bytes: Its size, if that is known.
        name: What the file is called in sentences.

    """

    where: str
    sha256: str
    bytes: int | None
    name: str

    @classmethod
    def parse(cls, text: str) -> "Place":
        """Place of a URL that a user gives: with ``#sha256=...``, or of a commit on the Hub.

        Raises:
            RL2Error: If the text does not say which file it is, and not only where.

        """
        where, _, fragment = text.partition("#")
        sha256 = fragment.removeprefix("sha256=").lower()
        if fragment and not (fragment.startswith("sha256=") and SHA256.fullmatch(sha256)):
            raise RL2Error(f"{text} ends in #{fragment}; expected #sha256= and 64 hexadecimal digits.")
        if not sha256 and where.startswith("hf://"):
            if not COMMIT.fullmatch(hub_parts(where)["revision"]):
                raise RL2Error(
                    f"{text} names a revision that can move. Expected a full commit, 40 hexadecimal digits, or "
                    "#sha256= and the checksum of the file behind it; its page on the Hub shows both."
                )
        elif not sha256:
            raise RL2Error(
                f"{text} does not say which file it is: add #sha256= and its checksum. 'sha256sum FILE' prints it for "
                "a copy that you trust."
            )
        return cls(where, sha256, None, where)

    @property
    def cached(self) -> Path:
        """Where the file is kept, or is to be put by hand."""
        return cache_folder() / f"{self.sha256}.safetensors"

    def is_here(self) -> bool:
        """Whether the file can be had without the network; its content is not looked at."""
        if not is_remote(self.where):
            return os.path.isfile(self.where)
        if self.sha256 and os.path.isfile(self.cached):
            return True
        return self.where.startswith("hf://") and _hub_cached(self.where) is not None

    def check_cached(self) -> None:
        """Compare what the cache holds, without the network.

        Raises:
            RL2Error: If it holds another file.

        """
        if is_remote(self.where) and self.sha256 and os.path.isfile(self.cached):
            found = sha256_of(self.cached)
            if found != self.sha256:
                raise RL2Error(
                    f"{self.cached} has the sha256 {found}; expected {self.sha256}. Remove it, and fetch {self.name} "
                    "again where there is a network."
                )

    def fetch(self, progress: Received | None = None) -> Path:
        """The file, downloaded if need be, its checksum compared.

        Args:
            progress: Told of a download; by default one line on standard error is.

        Raises:
            RL2Error: If it cannot be had, or is another file.

        """
        if not is_remote(self.where):
            path = Path(self.where)
            if not os.path.isfile(path):
                raise RL2Error(f"The file of {self.name}, {path}, is missing: install what brought it again.")
            if sha256_of(path) != self.sha256:
                raise RL2Error(f"The file of {self.name}, {path}, was altered: install what brought it again.")
            return path
        if self.sha256 and os.path.isfile(self.cached) and sha256_of(self.cached) == self.sha256:
            return self.cached
        if offline():
            self.check_cached()  # what is there has to be named, and not asked for
        if self.where.startswith("hf://"):
            return self._from_hub()
        if offline():
            raise RL2Error(
                f"{self.name} is not in the cache, and the network is switched off. Where there is one, run "
                f"'rl2 weights fetch' and copy its cache here, or download {self.where} and copy that to {self.cached}."
            )
        return self._from_url(progress)

    def _from_url(self, progress: Received | None) -> Path:
        target, part = self.cached, self.cached.with_suffix(".part")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with locked(target.with_suffix(".lock")):
                # Another process may have been faster.
                if not os.path.isfile(target) or sha256_of(target) != self.sha256:
                    try:
                        self._receive(part, progress)
                        part.replace(target)
                    finally:
                        part.unlink(missing_ok=True)
        except (OSError, NotImplementedError) as error:
            reason = getattr(error, "strerror", None) or error
            raise RL2Error(
                f"{self.name} cannot be kept in {target.parent}: {reason}. Make room there, or name another folder "
                "with TORCHMETRICS_RL2_HOME."
            ) from error
        return target

    def _receive(self, part: Path, progress: Received | None) -> None:
        if progress is None:
            print(f"Downloading {self.where} to {self.cached}", file=sys.stderr)
        found, start, done = hashlib.sha256(), b"", 0
        part.unlink(missing_ok=True)  # of a process that died
        with part.open("xb") as file:
            for chunk, total in _chunks(self.where, self.bytes):
                found.update(chunk)
                file.write(chunk)
                start, done = start or chunk[:512], done + len(chunk)
                if progress:
                    progress(done, total)
            file.flush()
            os.fsync(file.fileno())
        if found.hexdigest() != self.sha256:
            what = "a web page" if is_web_page(start) else f"a file with the sha256 {found.hexdigest()}"
            raise RL2Error(
                f"{self.where} sent {what}; expected weights with the sha256 {self.sha256}. Nothing was kept. Ask "
                "whoever gave you the address."
            )

    def _from_hub(self) -> Path:
        parts = hub_parts(self.where)
        try:
            from huggingface_hub import hf_hub_download
        except ImportError as error:
            raise RL2Error(f"{self.name} needs huggingface-hub: pip install 'torchmetrics-rl2[hub]'.") from error
        get = partial(hf_hub_download, parts["repo"], parts["file"], revision=parts["revision"])
        try:
            # What is known by its checksum needs no question to the Hub, whatever else the Hub would do.
            path = _hub_cached(self.where) or Path(get(local_files_only=offline()))
        except Exception as error:  # of its own, of its HTTP library, of the file system
            if offline():
                put = f"put it at {self.cached}" if self.sha256 else "pass its path instead"
                raise RL2Error(
                    f"{self.name} is not in the cache of huggingface-hub, and the network is switched off. Fetch it "
                    f"where there is one and copy HF_HOME, or download {self.where} and {put}."
                ) from error
            said = str(error).strip().partition("\n")[0] or type(error).__name__
            raise RL2Error(f"{self.name} could not be had from the Hugging Face Hub: {said}") from error
        # Large files are kept under their checksum, where the file system has links.
        expected = self.sha256 or path.resolve().name
        if not SHA256.fullmatch(expected):
            raise RL2Error(
                f"{self.name} is kept at {path} without a checksum. Compare it with a copy that you trust, and add "
                f"#sha256={sha256_of(path)}."
            )
        if sha256_of(path) != expected:
            raise RL2Error(
                f"{self.name} came from the Hub with another sha256 than {expected}. Remove {path.resolve()} and try "
                "again, or ask whoever gave you the address."
            )
        return path


def hub_parts(where: str) -> dict[str, str]:
    """Repository, revision and file of a place on the Hub."""
    parts = HUB.fullmatch(where)
    if parts is None or ".." in where.split("/"):
        raise RL2Error(f"{where} is no place on the Hub; expected hf://org/repo@revision/file.safetensors.")
    return parts.groupdict() | {"revision": parts["revision"].replace("%2F", "/")}


def _hub_cached(where: str) -> Path | None:
    """File of a commit that huggingface-hub has already; a name that can move is asked for again."""
    parts = hub_parts(where)
    if not COMMIT.fullmatch(parts["revision"]):
        return None
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return None
    try:
        found = try_to_load_from_cache(parts["repo"], parts["file"], revision=parts["revision"])
    except (ValueError, OSError):  # a name that no repository can have
        return None
    return Path(found) if isinstance(found, str) else None


def _chunks(url: str, size: int | None) -> Iterator[tuple[bytes, int]]:
    """What a server sends, with how much it will be; every way to fail is a sentence."""
    done = 0
    try:
        with urlopen(Request(url, headers={"User-Agent": "torchmetrics-rl2"}), timeout=TIMEOUT) as response:
            length = response.headers.get("Content-Length", "")
            total = size or (int(length) if re.fullmatch("[0-9]{1,15}", length) else 0)
            most = min(total or MAX_BYTES, MAX_BYTES)
            while chunk := response.read1(CHUNK):
                done += len(chunk)
                if max(done, total) > most:
                    raise RL2Error(f"{url} sends more than the {most:,} bytes it should. Nothing was kept.")
                yield chunk, total
    except HTTPError as error:
        raise RL2Error(f"{url} answered {error.code} {error.reason}. Check the address, or try later.") from error
    except TimeoutError as error:
        raise RL2Error(f"{url} was silent for {TIMEOUT:.0f} s, after {done:,} bytes. Try again.") from error
    except URLError as error:
        raise RL2Error(f"{urlsplit(url).hostname} cannot be reached: {error.reason}. Are you online?") from error
    except RL2Error:
        raise
    except (InvalidURL, ValueError) as error:
        raise RL2Error(f"{url} is no address: {error}.") from error
    except (HTTPException, OSError) as error:
        raise RL2Error(f"{url}: the connection broke after {done:,} bytes ({error!r}). Try again.") from error
    if length == str(done) and size and done != size:
        raise RL2Error(f"{url} has {done:,} bytes, where {size:,} were announced. Ask whoever announced it.")
    if done < total:
        raise RL2Error(f"{url}: the connection broke after {done:,} of {total:,} bytes. Try again.")
