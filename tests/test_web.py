"""Pictures at addresses, from a server on loopback that may be slow, wrong or hostile."""

from __future__ import annotations

import io
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from PIL import Image

from janus_cli import __version__, web
from janus_cli.errors import InputError
from janus_cli.images import read_image, read_pages
from janus_cli.web import Limits, download, masked

HOST = "127.0.0.1"
PATIENCE = 60  # seconds until what does not come fails its test
PROXIES = [f"{kind}_proxy" for kind in ("http", "https", "all", "no")]


@dataclass(frozen=True)
class Reply:
    """An answer of the server."""

    data: bytes = b""
    status: int = 200
    kind: str | None = "image/png"
    length: int | None = -1
    """The Content-Length; -1 is the right one, None announces none."""
    location: str | None = None
    rest: str | None = None
    """What comes after the data: silence, or a drip of bytes without an end."""


@dataclass
class Site:
    """What is found where, reply after reply, the last again and again; and who asked for it."""

    url: str = ""
    replies: dict[str, list[Reply]] = field(default_factory=dict)
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def add(self, path: str, *replies: Reply) -> str:
        """Publish something; its address."""
        self.replies[path] = list(replies)
        return self.url + path

    @property
    def asked(self) -> list[str]:
        return [path for path, _ in self.requests]


@pytest.fixture
def site() -> Iterator[Site]:
    """A server of whatever a test adds."""
    site = Site()
    server = ThreadingHTTPServer((HOST, 0), type("BoundHandler", (Handler,), {"site": site}))
    server.daemon_threads = True
    site.url = f"http://{HOST}:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield site
    site.over.set()
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """No proxy is in the way, and nobody waits before another try."""
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setattr(web, "PAUSES", (0, 0))


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    site: Site
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.site.requests.append((self.path, headers))
        replies = self.site.replies.get(self.path, [Reply(status=404)])
        reply = replies.pop(0) if len(replies) > 1 else replies[0]
        self.close_connection = True
        self.send_response(reply.status)
        facts = {"Content-Type": reply.kind, "Location": reply.location, "Connection": "close"}
        length = len(reply.data) if reply.length == -1 else reply.length
        facts["Content-Length"] = None if length is None else str(length)
        for name, value in facts.items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        with suppress(OSError):  # the other end has heard enough
            self.wfile.write(reply.data)
            if reply.rest == "silence":
                self.site.over.wait(PATIENCE)
            while reply.rest == "drip" and not self.site.over.wait(0.01):
                self.wfile.write(b"x")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def picture(color: str = "red", kind: str = "PNG", **how: object) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (8, 8), color).save(data, kind, **how)
    return data.getvalue()


def refused(url: str, limits: Limits = web.LIMITS) -> str:
    """What is said of an address that gives nothing out, after the address."""
    with pytest.raises(InputError) as raised:
        download(url, limits)
    name, said = str(raised.value).split(": ", 1)
    assert name == masked(url)
    return said


def test_a_picture_at_an_address(site):
    url = site.add("/a%20b.png?size=*#part", Reply(picture()))
    site.add("/a%20b.png?size=*", Reply(picture()))
    assert read_image(url).getpixel((0, 0)) == (255, 0, 0)
    ((path, headers),) = site.requests
    assert path == "/a%20b.png?size=*"
    assert headers["user-agent"] == f"janus/{__version__}"
    assert read_image(url.replace("http", "HTTP", 1)).size == (8, 8)


def test_a_document_at_an_address(site):
    pages = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    data = picture(kind="PDF", save_all=True, append_images=pages)
    url = site.add("/a.pdf", Reply(data, kind="application/pdf"))
    assert [number for number, _ in read_pages(url)] == [1, 2, 3]


def test_what_came_is_named_by_its_address(site):
    url = site.add("/a.png", Reply(b"nothing of the kind"))
    with pytest.raises(InputError, match=f"^{url}: is not a picture in a known format"):
        read_image(url)
    url = site.add("/b.png", Reply(b""))
    with pytest.raises(InputError, match=f"^{url}: is empty; is the download complete"):
        read_image(url)


def test_several_threads(site):
    urls = [site.add(f"/{n}.png", Reply(picture(color))) for n, color in enumerate(("red", "blue"))]
    with ThreadPoolExecutor(2) as threads:
        read = list(threads.map(read_image, urls))
    assert [image.getpixel((0, 0)) for image in read] == [(255, 0, 0), (0, 0, 255)]


# What is no picture


@pytest.mark.parametrize(
    "kind",
    [
        "text/html; charset=utf-8",
        "Text/Plain",
        "application/json",
        "application/ld+json",
        "application/xhtml+xml",
        "video/mp4",
        "application/zip",
    ],
)
def test_what_is_plainly_no_picture(kind, site):
    url = site.add("/a.png", Reply(picture(), kind=kind))
    plain = kind.partition(";")[0].lower()
    assert refused(url) == f"is {plain}, not a picture; name the address of the picture itself"
    assert len(site.requests) == 1


@pytest.mark.parametrize(
    "kind",
    ["image/png", "image/x-unheard-of", "application/octet-stream", "binary/octet-stream", None],
)
def test_what_may_be_a_picture(kind, site):
    url = site.add("/a.png", Reply(picture(), kind=kind))
    assert read_image(url).size == (8, 8)


# Limits


LARGE = Reply(bytes(2**20 + 1))
TOO_LARGE = "is larger than 1 MiB; download it and name the file"


def test_more_than_is_allowed(site):
    small = Limits(size=2**20)
    announced = Reply(length=2**20 + 1, rest="silence")
    assert refused(site.add("/announced", announced), small) == TOO_LARGE
    unannounced = Reply(LARGE.data, length=None, rest="drip")
    assert refused(site.add("/unannounced", unannounced), small) == TOO_LARGE
    exactly = site.add("/exactly", Reply(bytes(2**20), length=None))
    assert len(download(exactly, small).read()) == 2**20
    assert len(site.requests) == 3  # nothing of this is tried again


def test_more_than_is_announced_is_not_read(site):
    url = site.add("/a.png", Reply(b"four and more", length=4))
    assert download(url).read() == b"four"


def test_the_limits_as_they_are():
    assert Limits() == Limits(2**26, connect=10, between=30, in_all=60, redirects=5)


@pytest.mark.parametrize("rest", ["drip", "silence"])
def test_a_server_that_takes_its_time(rest, site):
    url = site.add("/a.png", Reply(b"x", length=1000, rest=rest))
    said = refused(url, Limits(in_all=0.5))
    assert said == "takes longer than 0.5 seconds; download it and name the file"
    assert site.asked == ["/a.png"]


def test_a_server_that_falls_silent(site):
    url = site.add("/a.png", Reply(b"x", length=1000, rest="silence"))
    said = refused(url, Limits(between=0.1))
    assert said == "the server sends nothing for 0.1 seconds; try again later"
    assert site.asked == ["/a.png"]


# Redirects


def test_redirects_are_followed(site):
    site.add("/a", Reply(status=302, location="/b"))
    site.add("/b", Reply(status=301, location=f"{site.url}/c"))
    site.add("/c", Reply(picture()))
    assert read_image(site.url + "/a").size == (8, 8)
    assert site.asked == ["/a", "/b", "/c"]


def test_a_redirect_without_an_end(site):
    url = site.add("/a", Reply(status=302, location="/a"))
    assert refused(url) == "is redirected more than 5 times; check the address"
    assert site.asked == ["/a"] * 6


def test_what_a_redirect_says_is_not_read(site):
    site.add("/a", Reply(status=302, location="/b", length=None, rest="drip"))
    site.add("/b", Reply(picture()))
    assert read_image(site.url + "/a").size == (8, 8)


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://localhost/a.png"])
def test_a_redirect_that_leads_out_of_the_web(location, site):
    url = site.add("/a.png", Reply(status=302, location=location))
    scheme = location.partition(":")[0]
    assert refused(url) == f"is redirected to {scheme}:, which is not read; check the address"


# Errors, passing and lasting


def test_what_is_not_there(site):
    said = refused(site.add("/a.png", Reply(status=404)))
    assert said == "the server answers 404 Not Found; check the address"
    assert len(site.requests) == 1
    said = refused(site.add("/b.png", Reply(picture(), status=206)))
    assert said == "the server answers 206 Partial Content; check the address"


@pytest.mark.parametrize("status", [500, 503, 429])
def test_what_may_pass_is_tried_again(status, site):
    url = site.add("/a.png", Reply(status=status), Reply(status=status), Reply(picture()))
    assert read_image(url).size == (8, 8)
    assert site.asked == ["/a.png"] * 3


def test_what_does_not_pass_is_given_up(site):
    url = site.add("/a.png", Reply(status=503))
    assert refused(url) == "the server answers 503 Service Unavailable; try again later"
    assert len(site.requests) == 3


def test_a_connection_that_breaks_is_tried_again(site):
    whole = picture()
    url = site.add("/a.png", Reply(whole[:20], length=len(whole)), Reply(whole))
    assert read_image(url).size == (8, 8)
    url = site.add("/b.png", Reply(whole[:20], length=len(whole)))
    said = refused(url)
    assert said.startswith("cannot be fetched (peer closed connection")
    assert said.endswith("); check the address and the network")
    assert site.asked.count("/b.png") == 3


def test_nobody_is_there():
    with socket.socket() as taken:
        taken.bind((HOST, 0))  # and does not listen
        said = refused(f"http://{HOST}:{taken.getsockname()[1]}/a.png")
    assert said.startswith("cannot be fetched (")
    assert said.endswith("); check the address and the network")


@pytest.mark.parametrize(
    "url", ["http://", "http:///a.png", "https://[::1/a.png", "http://a:b:c/", "http://h/\udcff"]
)
def test_what_is_no_address(url):
    assert refused(url) == "is no valid address; check how it is written"


# Passwords and proxies


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://me:secret@host/a.png", "http://me:***@host/a.png"),
        ("HTTPS://me:se@cr:et@host/a@b:c", "HTTPS://me:***@host/a@b:c"),
        ("http://me@host/a.png", "http://me@host/a.png"),
        ("http://host:80/a:b@c.png", "http://host:80/a:b@c.png"),
    ],
)
def test_a_password_is_not_shown(url, shown):
    assert masked(url) == shown


def test_a_password_goes_to_its_own_host_only(site):
    port = site.url.rpartition(":")[2]
    site.add("/a.png", Reply(status=302, location=f"http://localhost:{port}/b.png"))
    site.add("/b.png", Reply(status=404))
    with pytest.raises(InputError) as raised:
        read_image(f"http://me:secret@{HOST}:{port}/a.png")
    assert str(raised.value) == (
        f"http://me:***@{HOST}:{port}/a.png: the server answers 404 Not Found; check the address"
    )
    first, second = (headers for _, headers in site.requests)
    assert first["authorization"].startswith("Basic ")
    assert "authorization" not in second


def test_the_proxy_of_the_environment(site, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", site.url)
    site.replies["http://pictures.invalid/a.png"] = [Reply(picture())]
    assert read_image("http://pictures.invalid/a.png").size == (8, 8)


def test_a_proxy_that_cannot_be_one(monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "gopher://127.0.0.1")
    said = refused("http://pictures.invalid/a.png")
    assert said.startswith("cannot be fetched (")
    assert said.endswith("); check HTTPS_PROXY, ALL_PROXY and SSL_CERT_FILE")
