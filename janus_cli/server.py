"""A model kept warm behind a Unix socket: requests come in, events go out, as in one process."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from io import BufferedRWPair
from typing import TYPE_CHECKING

from . import imagine, runtime, understand, wire
from .client import STOP, Warm
from .schema import Event, ImagineRequest, UnderstandRequest

if TYPE_CHECKING:
    from .engine.interface import Engine
    from .engine.shared import Session, Shared

FAREWELL = 2  # seconds that the last visitors have, together
LOOK_UP = 0.5  # seconds between two looks at whether it is time to end


class Server:
    """One model, and everybody who asks it."""

    def __init__(self, engine: Shared, model: Warm) -> None:
        self.engine = engine
        self.model = model
        self._ending = threading.Event()
        self._lock = threading.Lock()
        self._visitors: set[threading.Thread] = set()
        self._last_seen = time.monotonic()

    def serve(self, listener: socket.socket) -> None:
        """Answer until somebody stops it, or nobody has come for as long as it is kept alive."""
        listener.settimeout(LOOK_UP)
        try:
            while not self._ending.is_set() and not self.is_idle():
                with contextlib.suppress(TimeoutError):
                    connection, _ = listener.accept()
                    connection.settimeout(None)
                    threading.Thread(target=self._meet, args=(connection,), daemon=True).start()
        finally:
            listener.close()
            self.engine.close()
            self._say_farewell()

    def _say_farewell(self) -> None:
        """Leave those who still wait the time to be told that it ends."""
        with self._lock:
            visitors = list(self._visitors)
        for visitor in visitors:
            visitor.join(FAREWELL / len(visitors))

    def is_idle(self) -> bool:
        """Whether nobody has been here, nor asked over HTTP, for so long that it may end."""
        idle_since = self.engine.idle_since()
        if self.model.keep_alive is None or idle_since is None:
            return False
        with self._lock:
            last_seen = max(self._last_seen, idle_since)
            away = 0.0 if self._visitors else time.monotonic() - last_seen
        return away >= self.model.keep_alive

    def _meet(self, connection: socket.socket) -> None:
        """Hear one request and answer it; nobody but the user is let in."""
        with connection, self._counted():
            if not runtime.is_own(connection):
                return
            stream = connection.makefile("rwb")
            with contextlib.suppress(EOFError, OSError, ValueError):
                wire.send(stream, asdict(self._introduction()))
                request = wire.receive(stream)
                if request == STOP:
                    self._ending.set()
                    wire.send(stream, {"kind": wire.END})
                else:
                    self._answer(request, connection, stream)

    def _answer(
        self,
        request: UnderstandRequest | ImagineRequest,
        connection: socket.socket,
        stream: BufferedRWPair,
    ) -> None:
        with self.engine.session() as session:
            threading.Thread(target=_watch, args=(connection, session), daemon=True).start()
            try:
                for event in events(request, session):
                    wire.send(stream, event)
                wire.send(stream, {"kind": wire.END})
            except OSError:  # the client is gone
                return
            except Exception as error:
                wire.send_error(stream, error)

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        visitor = threading.current_thread()
        with self._lock:
            self._visitors.add(visitor)
        try:
            yield
        finally:
            with self._lock:
                self._visitors.remove(visitor)
                self._last_seen = time.monotonic()

    def _introduction(self) -> Warm:
        load = self.engine.load()
        return replace(self.model, under_way=load.answers + load.drawings)


def events(request: UnderstandRequest | ImagineRequest, engine: Engine) -> Iterator[Event]:
    """What a request leads to, as in a process of its own."""
    if isinstance(request, UnderstandRequest):
        return understand.run(request, engine)
    return imagine.run(request, engine)


def _watch(connection: socket.socket, session: Session) -> None:
    """Free the place of a client that goes away, also while it waits for its turn."""
    with contextlib.suppress(OSError):
        connection.recv(1)  # nothing more is to come from it
    session.cancel()
