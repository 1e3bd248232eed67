"""Where HTTP is listened for, and the server around the interface. It knows no routes."""

from __future__ import annotations

import contextlib
import importlib.util
import re
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .. import terminal
from ..errors import UsageError

if TYPE_CHECKING:
    from uvicorn import Server as UvicornServer

    from ..engine.shared import Shared

ADDRESS = re.compile(r"(?P<host>\[[^\[\]]+\]|[^\[\]:]+):(?P<port>[0-9]{1,5})")
HIGHEST_PORT = 2**16 - 1
BACKLOG = 128  # connections that wait to be taken
KEEP_ALIVE = 60  # seconds that a connection stays open for the next request
FAREWELL = 1  # second that those have who still wait at the end
EXTRA = ("fastapi", "uvicorn")


@dataclass(frozen=True)
class Door:
    """A place where clients come in, and which of them."""

    listener: socket.socket
    key: str | None = None
    """What every client has to show; None lets in this machine alone."""
    remote: bool = False
    """Whether pictures at http(s) addresses are fetched for clients."""

    @classmethod
    def at(cls, address: str, *, key: str | None = None, remote: bool = False) -> Door:
        """A door at HOST:PORT that is closed still.

        Raises:
            UsageError: it is no address, it is taken, or others could come in without a key.
        """
        if not all(importlib.util.find_spec(name) for name in EXTRA):
            raise UsageError("--http: needs FastAPI and uvicorn; run pip install fastapi uvicorn")
        family, place = resolved(address)
        from .guard import is_loopback

        if key is None and not is_loopback(place[0]):
            advice = "set JANUS_API_KEY to a key for them to show, or listen on 127.0.0.1"
            raise UsageError(f"--http: {address} lets others in; {advice}")
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(place)
        except OSError as error:
            listener.close()
            reason = error.strerror or error
            raise UsageError(f"--http: {address}: {reason}; take another address") from error
        return cls(listener, key, remote)

    @property
    def url(self) -> str:
        """What clients take as their base."""
        host, port = self.listener.getsockname()[:2]
        return f"http://[{host}]:{port}/v1" if ":" in host else f"http://{host}:{port}/v1"

    @contextlib.contextmanager
    def serving(self, engine: Shared) -> Iterator[None]:
        """Answer on a thread of its own; what is under way at the end is broken off."""
        server = self.server(engine)
        self.listener.listen(BACKLOG)
        thread = threading.Thread(target=server.run, args=([self.listener],), daemon=True)
        thread.start()
        terminal.say(f"{engine.name} answers OpenAI's clients at {self.url}")
        try:
            yield
        finally:
            server.should_exit = True
            thread.join()

    def server(self, engine: Shared) -> UvicornServer:
        """Uvicorn around the interface."""
        from uvicorn import Config, Server

        from ..server import events
        from .api import Service, application
        from .protocol import Connection

        service = Service(engine, events, int(time.time()), key=self.key, remote=self.remote)
        config = Config(
            application(service),
            http=Connection,
            ws="none",
            loop="asyncio",
            interface="asgi3",
            lifespan="off",
            log_config=None,
            log_level="critical",  # errors are told where they arise
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=FAREWELL,
        )
        return Server(config)


def resolved(address: str) -> tuple[socket.AddressFamily, tuple[str, int]]:
    """The address to listen at that HOST:PORT means.

    Raises:
        UsageError: it means none.
    """
    match = ADDRESS.fullmatch(address)
    if match is None:
        raise UsageError(f"--http: {address!r} is no address; write HOST:PORT, as 127.0.0.1:8000")
    host, port = match["host"].strip("[]"), int(match["port"])
    if port > HIGHEST_PORT:
        raise UsageError(f"--http: {port} is no port; take one up to {HIGHEST_PORT}, or 0 for any")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise UsageError(f"--http: {host} is not known ({error}); take an address") from error
    family, _, _, _, place = found[0]
    return family, (str(place[0]), int(place[1]))
