"""Requests answered by a model that another process keeps warm. Never loads torch."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from io import BufferedRWPair
from pathlib import Path
from typing import Any

from . import __version__, adapters, runtime, wire
from .errors import ModelError
from .files import wait_for_lock
from .inputs import STDIN
from .schema import Event, ImagineRequest, ModelChoice, Origin, UnderstandRequest

SPECIAL = ("/dev/", "/proc/")  # files that mean something else to another process
STOP = {"do": "stop"}


class Gone(Exception):
    """A warm model ended between looking for it and asking it."""


@dataclass(frozen=True)
class Warm:
    """A warm model, as it introduced itself."""

    socket: str
    pid: int
    version: str
    path: str
    """Of its checkpoint."""
    name: str
    device: str
    precision: str
    family: str
    chosen: bool
    """Nobody named it: it answers whoever names no model either."""
    keep_alive: float | None
    """Seconds that it waits for the next request."""
    since: float
    """When it was loaded, as time.time() says."""
    under_way: int
    """Answers and pictures."""
    adapter: str | None = None
    """The folder of the adapter that was merged into it."""

    def fits(self, choice: ModelChoice, path: Path | None) -> bool:
        """Whether it is what would be loaded; None is the path of whoever names no model."""
        named = self.chosen if path is None else self.path == str(path.resolve())
        devices = ("auto", self.device, self.device.split(":")[0])
        return (
            named
            and self.version == __version__
            and choice.backend == "janus"
            and choice.device in devices
            and choice.precision in ("auto", self.precision)
            and choice.family in ("auto", self.family)
            and choice.adapter == self.adapter
            and not self.outdated()
        )

    def outdated(self) -> bool:
        """Whether its files were written again since, as by training that replaced them."""
        files = [os.path.join(self.path, "config.json")]
        if self.adapter:
            files.append(os.path.join(self.adapter, adapters.WEIGHTS))
        with contextlib.suppress(OSError):  # what is gone, it still knows
            return any(os.stat(file).st_mtime > self.since for file in files)
        return False

    def run(self, request: UnderstandRequest | ImagineRequest) -> Iterator[Event]:
        """The events of a request, as the tasks yield them in this process.

        Raises:
            Gone: it has ended since it introduced itself; nothing is lost.
            ModelError: it went away before it was done.
        """
        if isinstance(request, UnderstandRequest):
            request = replace(request, origin=origin(request))
        return self._told(self._ask(request))

    def stop(self) -> None:
        """End it; what it has under way is broken off."""
        with contextlib.suppress(Gone), self._ask(STOP) as stream, contextlib.suppress(EOFError):
            list(wire.events(stream))

    def _ask(self, request: Any) -> BufferedRWPair:
        """The line to it, when it has been asked."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            try:
                connection.connect(self.socket)
                stream = connection.makefile("rwb")
                wire.receive(stream)  # it introduces itself to everybody
                wire.send(stream, request)
            except (EOFError, OSError):
                raise Gone from None
            return stream  # which keeps the connection open

    def _told(self, stream: BufferedRWPair) -> Iterator[Event]:
        with stream:
            try:
                yield from wire.events(stream)
            except (EOFError, ConnectionError):
                raise ModelError(
                    f"{self.name}: the warm model (process {self.pid}) went away; "
                    "run the command again"
                ) from None


def find(choice: ModelChoice, path: Path | None) -> Warm | None:
    """A warm model that is what would be loaded."""
    return next((warm for warm in every() if warm.fits(choice, path)), None)


def every() -> Iterator[Warm]:
    """All warm models of this user."""
    for connection in runtime.connect():
        try:
            yield Warm(**wire.receive(connection.makefile("rb")))
        except (EOFError, OSError, TypeError, ValueError):
            continue  # it is just ending, or of another version


def can_be_sent(request: UnderstandRequest | ImagineRequest) -> bool:
    """Whether names mean the same to another process."""
    names = request.images if isinstance(request, UnderstandRequest) else ()
    return not any(name.startswith(SPECIAL) for name in names)


def origin(request: UnderstandRequest) -> Origin:
    """Where names begin here, and what waits on standard input if that is asked about."""
    given: tuple[tuple[str, bytes], ...] = ()
    if STDIN in request.images:
        from .sources import read_stdin

        given = ((STDIN, read_stdin()),)
    return Origin(os.getcwd(), given)


def start(choice: ModelChoice, path: Path, keep_alive: str) -> Warm:
    """Load a model in a process of its own that stays when this one ends.

    Raises:
        ModelError: it cannot be loaded; the reason is that of `janus serve`.
    """
    with wait_for_lock(str(runtime.folder() / "start.lock")):
        named = None if choice.model is None else path
        warm = find(choice, named)  # somebody else may have started it meanwhile
        if warm is None:
            _start(choice, path, keep_alive)
            warm = find(choice, named)
    if warm is None:
        raise ModelError(f"{path}: the warm model went away; run the command again")
    return warm


def _start(choice: ModelChoice, path: Path, keep_alive: str) -> None:
    arguments = [
        *("serve", "--background"),
        *("--keep-alive", keep_alive, "--model", str(path), "--device", choice.device),
        *("--precision", choice.precision, "--family", choice.family),
        *(["--chosen"] if choice.model is None else []),
        *([] if choice.adapter is None else ["--adapter", choice.adapter]),
    ]
    # Nothing of ours is handed on: a pipe that stays open would hold up whoever reads it.
    process = subprocess.Popen(
        runtime.python("from janus_cli.__main__ import main; sys.exit(main())", *arguments),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None and process.stderr is not None
    with process.stdout, process.stderr:
        if process.stdout.readline():
            return
        said = process.stderr.read().decode(errors="replace").strip().splitlines()
    process.wait()
    reason = said[-1].removeprefix("janus: ") if said else f"{path}: cannot be kept warm"
    raise ModelError(reason)
