"""A small Hugging Face hub on loopback, over real HTTP, for the hub's library and for janus.

Small files come from the hub itself; large ones by a redirect to a second server, as from its CDN.
"""

from __future__ import annotations

import hashlib
import json
import re
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

LARGE = (".safetensors", ".bin")
HOST = "127.0.0.1"
PATIENCE = 60  # seconds until what does not come fails its test


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one answer, after so many bytes of its content."""

    kind: str
    """cut or reset (a connection), hold (until the test lets go), plain (no range), or a status."""
    after: int = 0


@dataclass(frozen=True)
class Request:
    """What came, and whether it came to the CDN."""

    method: str
    path: str
    headers: dict[str, str]
    to_cdn: bool


@dataclass
class Repository:
    """The newest commit of a repository, and how it is served."""

    files: dict[str, bytes]
    card: dict[str, str] = field(default_factory=dict)
    revisions: tuple[str, ...] = ("main",)
    token: str | None = None
    """Without it, no content is given out."""
    answer: int | str | None = None
    """A status with which, or a text in the place of, everything is answered."""
    headers: dict[str, str] = field(default_factory=dict)
    """Sent with every file."""
    sizes: dict[str, int] = field(default_factory=dict)
    """Sizes announced in the place of the real ones."""
    sent: dict[str, bytes] = field(default_factory=dict)
    """Contents sent in the place of the announced ones."""
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    """What goes wrong with a file, request after request."""

    @property
    def commit(self) -> str:
        names = "".join(f"{name}{digest_of(name, data)}" for name, data in self.files.items())
        return hashlib.sha1(names.encode()).hexdigest()


def digest_of(name: str, data: bytes) -> str:
    """What the hub announces: the sha256 of a large file, git's sha1 of a small one."""
    if name.endswith(LARGE):
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Hub:
    """The repositories, and the requests that came."""

    def __init__(self) -> None:
        self.repos: dict[str, Repository] = {}
        self.requests: list[Request] = []
        self.asked = threading.Condition()
        self.held, self.go_on = threading.Event(), threading.Event()
        self.servers = [self._serve(to_cdn=False), self._serve(to_cdn=True)]
        self.url = f"http://{HOST}:{self.servers[0].server_port}"
        self.cdn = f"http://localhost:{self.servers[1].server_port}"  # another host, as the real

    def add(self, repo: str, files: dict[str, bytes], **facts: object) -> Repository:
        """Publish a repository, or its next commit."""
        self.repos[repo] = Repository(dict(files), **facts)
        return self.repos[repo]

    def fetched(self, repo: str) -> list[str]:
        """The names of the files whose content was asked for, in order."""
        return [name for name, _ in self._contents(repo)]

    def ranges(self, repo: str, name: str) -> list[str | None]:
        """The Range of each request for the content of a file."""
        return [range_ for fetched, range_ in self._contents(repo) if fetched == name]

    def wait_for(self, count: int, part: str) -> None:
        """Wait until so many requests with this in their path have come."""
        with self.asked:
            came = self.asked.wait_for(
                lambda: sum(part in request.path for request in self.requests) >= count, PATIENCE
            )
        assert came, f"{part} was not asked for {count} times"

    def reset(self) -> None:
        """Forget everything, and end every answer that is held."""
        self.go_on.set()
        self.held, self.go_on = threading.Event(), threading.Event()
        self.repos, self.requests = {}, []

    def close(self) -> None:
        """End the servers."""
        self.reset()
        for server in self.servers:
            server.shutdown()
            server.server_close()

    def _contents(self, repo: str) -> Iterator[tuple[str, str | None]]:
        for request in self.requests:
            if request.method == "GET" and request.path.startswith(f"/{repo}/"):
                name = request.path.rpartition("/")[2]
                if request.to_cdn or not name.endswith(LARGE):
                    yield name, request.headers.get("range")

    def _serve(self, *, to_cdn: bool) -> ThreadingHTTPServer:
        handler = type("BoundHandler", (Handler,), {"hub": self, "to_cdn": to_cdn})
        server = ThreadingHTTPServer((HOST, 0), handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return server


@contextmanager
def running_hub() -> Iterator[Hub]:
    """A hub that runs as long as the context lasts."""
    hub = Hub()
    try:
        yield hub
    finally:
        hub.close()


class Handler(BaseHTTPRequestHandler):
    """One connection to the hub or to its CDN."""

    hub: Hub
    to_cdn: bool
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        with self.hub.asked:
            self.hub.requests.append(Request(self.command, path, headers, self.to_cdn))
            self.hub.asked.notify_all()
        asked = re.match(r"/(?:api/models/)?([^/]+/[^/]+)/?", path)
        repo = self.hub.repos.get(asked[1]) if asked else None
        if asked is None or repo is None:
            return self.fail(404, "RepoNotFound")
        if isinstance(repo.answer, int):
            return self.fail(repo.answer)
        if repo.answer is not None:
            return self.answer(repo.answer.encode())
        rest = path[asked.end() :]
        if self.to_cdn:
            return self.content(repo, rest, {})
        if path.startswith("/api/"):
            return self.describe(repo, asked[1], *rest.partition("/")[::2])
        self.resolve(repo, asked[1], *rest.split("/", 2)[1:])

    def describe(self, repo: Repository, name: str, what: str, revision: str) -> None:
        """The facts of a repository, or the listing of its files."""
        if revision not in ("", repo.commit, *repo.revisions):
            return self.fail(404, "RevisionNotFound")
        files = [self.facts(repo, file) for file in repo.files]
        if what == "tree":
            for facts in files:
                facts |= {"type": "file", "path": facts["rfilename"], "oid": facts["blobId"]}
                if facts["lfs"]:
                    facts["lfs"]["oid"] = facts["lfs"]["sha256"]
            return self.answer(json.dumps(files).encode())
        facts = {"id": name, "sha": repo.commit, "siblings": files, "cardData": repo.card}
        self.answer(json.dumps(facts).encode())

    def facts(self, repo: Repository, file: str) -> dict:
        """What is announced of a file."""
        data = repo.files[file]
        size, large = repo.sizes.get(file, len(data)), file.endswith(LARGE)
        lfs = {"size": size, "sha256": digest_of(file, data), "pointerSize": 130}
        blob = hashlib.sha1(file.encode()).hexdigest() if large else digest_of(file, data)
        return {"rfilename": file, "size": size, "blobId": blob, "lfs": lfs if large else None}

    def resolve(self, repo: Repository, name: str, revision: str, file: str) -> None:
        """A small file itself, or the way to a large one."""
        if repo.token and self.headers.get("Authorization") != f"Bearer {repo.token}":
            return self.fail(401, "GatedRepo")
        if revision not in (repo.commit, *repo.revisions):
            return self.fail(404, "RevisionNotFound")
        if file not in repo.files:
            return self.fail(404, "EntryNotFound")
        digest = digest_of(file, repo.files[file])
        headers = {"X-Repo-Commit": repo.commit, "ETag": f'"{digest}"', **repo.headers}
        if not file.endswith(LARGE):
            return self.content(repo, file, headers)
        headers |= {"X-Linked-Size": str(len(repo.files[file])), "X-Linked-Etag": f'"{digest}"'}
        self.answer(b"", headers | {"Location": f"{self.hub.cdn}/{name}/{file}"}, 302)

    def content(self, repo: Repository, file: str, headers: dict[str, str]) -> None:
        """A file from where the Range says, with whatever is to go wrong."""
        faults = repo.faults.get(file) if self.command == "GET" else None
        fault = faults.pop(0) if faults else Fault("none")
        if fault.kind.isdigit():
            return self.fail(int(fault.kind))
        data, status = repo.sent.get(file, repo.files[file]), 200
        start = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if start and fault.kind != "plain":
            first = int(start[1])
            if first >= len(data):
                return self.fail(416)
            headers["Content-Range"] = f"bytes {first}-{len(data) - 1}/{len(data)}"
            data, status = data[first:], 206
        self.answer(data, headers, status, fault)

    def answer(
        self,
        data: bytes,
        headers: dict[str, str] | None = None,
        status: int = 200,
        fault: Fault | None = None,
    ) -> None:
        """Send an answer, as far as it goes."""
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if fault is None or fault.kind in ("none", "plain"):
            self.wfile.write(data)
            return
        self.wfile.write(data[: fault.after])
        self.close_connection = True
        if fault.kind == "hold":
            held, go_on = self.hub.held, self.hub.go_on
            held.set()
            go_on.wait(PATIENCE)
            self.wfile.write(data[fault.after :])
        elif fault.kind == "reset":
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.connection.close()

    def fail(self, status: int, code: str = "") -> None:
        """Answer that it cannot be had, in the hub's own terms."""
        self.answer(b"", {"X-Error-Code": code} if code else None, status)

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def handle(self) -> None:
        with suppress(OSError):  # the other end has gone, or was cut off
            super().handle()

    def finish(self) -> None:
        with suppress(OSError):
            super().finish()
